"""A rotation that is learned on the group SO(d), by an Adam of its own."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_MOMENTUM, _SQUARE_MOMENTUM, _EPSILON = 0.9, 0.999, 1e-8


class Rotation(nn.Module):
    """A learned rotation ``R = exp(A)`` of features, of a skew-symmetric matrix A from 0.

    Backpropagation takes R as a constant. In training the rotation keeps the gradient of the loss
    in the rotated features, for :class:`recon.models.RotatedHeads` to learn from. Its state is in
    buffers: optimizer, weight decay and clipping of the network do not touch it.

    >>> rotation = Rotation(2, lr=0.1)
    >>> rotation.descend(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    >>> rotation(torch.tensor([[1.0, 0.0]]))
    tensor([[0.9950, 0.0998]])

    Args:
        size: Number d of features that are rotated: the first ones. Others pass as they are.
        lr: Learning rate of the Adam.
        decay: Factor on the learning rate after each step.

    Attributes:
        matrix: R, (d, d).
        coordinates: The entries of A below the diagonal, row by row.
    """

    matrix: Tensor
    coordinates: Tensor
    momentum: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, size: int, lr: float = 1e-3, decay: float = 0.99999) -> None:
        super().__init__()
        self.size, self.lr, self.decay = size, lr, decay
        numbers = torch.zeros(size * (size - 1) // 2)
        self.register_buffer("matrix", torch.eye(size))
        for name in ("coordinates", "momentum", "square"):
            self.register_buffer(name, numbers.clone())
        self.register_buffer("steps", torch.tensor(0))
        self._passed: list[Tensor] = []

    def forward(self, features: Tensor) -> Tensor:
        """Rotate features ``(B, channels, ...)``, sample by sample and place by place.

        Raises:
            ValueError: There are fewer channels than the rotation has dimensions.
            TypeError: The features are no tensor, but several in a dictionary or tuple.
        """
        if not isinstance(features, Tensor):
            raise TypeError(
                f"rotations turn features that are one tensor (batch, features, ...), and got a "
                f"{type(features).__name__}; let the backbone return one tensor, or train without rotations"
            )
        if features.ndim < 2 or features.shape[1] < self.size:
            raise ValueError(
                f"the rotation is of {self.size} features, and got a tensor of shape {tuple(features.shape)}; it takes "
                "(batch, features, ...)"
            )
        rotated = turned(self.matrix, features)
        if self.training and rotated.requires_grad and torch.is_grad_enabled():
            passed: list[Tensor] = []
            rotated.register_hook(_first_into(passed))
            self._passed = passed
        return rotated

    def take_gradient(self) -> Tensor | None:
        """The gradient in the rotated features of the latest forward in training, once."""
        passed, self._passed = self._passed, []
        return passed[0] if passed else None

    def descend(self, slope: Tensor) -> None:
        """Make one step of Adam in the coordinates.

        A slope that is zero or not finite moves nothing.

        Args:
            slope: (d, d), the gradient of an objective in R.
        """
        with torch.enable_grad():
            leaf = self.coordinates.detach().requires_grad_()
            [gradient] = torch.autograd.grad(exponential(leaf, self.size), leaf, slope.to(leaf))
        steps = self.steps + 1
        momentum = self.momentum.lerp(gradient, 1 - _MOMENTUM)
        square = self.square.lerp(gradient.square(), 1 - _SQUARE_MOMENTUM)
        mean = momentum / (1 - _MOMENTUM ** steps.to(gradient))
        length = (square / (1 - _SQUARE_MOMENTUM ** steps.to(gradient))).sqrt()
        rate = self.lr * self.decay ** self.steps.to(gradient)
        coordinates = self.coordinates - rate * mean / (length + _EPSILON)
        moved = {"momentum": momentum, "square": square, "steps": steps, "coordinates": coordinates}
        moved["matrix"] = exponential(coordinates, self.size)
        moves = slope.isfinite().all() & slope.any()
        for name, value in moved.items():
            setattr(self, name, torch.where(moves, value, getattr(self, name)))

    def extra_repr(self) -> str:
        return f"{self.size}, lr={self.lr:g}, decay={self.decay:g}"


def exponential(coordinates: Tensor, size: int) -> Tensor:
    """The rotation ``exp(A)``, of the entries of A below the diagonal.

    >>> exponential(torch.tensor([torch.pi / 2]), 2).round(decimals=3) + 0.0
    tensor([[ 0., -1.],
            [ 1.,  0.]])
    """
    row, column = torch.tril_indices(size, size, -1, device=coordinates.device)
    lower = coordinates.new_zeros(size, size).index_put((row, column), coordinates)
    return torch.linalg.matrix_exp(lower - lower.mT)


def turned(matrix: Tensor, features: Tensor) -> Tensor:
    """Features ``(B, channels, ...)``, of which a matrix (d, d) turns the first d channels."""
    size = len(matrix)
    first = torch.einsum("ij,bj...->bi...", matrix.to(features.dtype), features[:, :size])
    return first if features.shape[1] == size else torch.cat([first, features[:, size:].to(first.dtype)], dim=1)


def _first_into(passed: list[Tensor]) -> Callable[[Tensor], None]:
    """A hook that keeps the first gradient it sees; later backwards may be of weighted losses."""

    def keep(gradient: Tensor) -> None:
        if not passed:
            passed.append(gradient.detach())

    return keep
