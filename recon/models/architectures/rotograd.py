"""RotoGrad's rotations: each task's head takes the shared features in a direction of its own.

Javaloy & Valera, "RotoGrad: Gradient Homogenization in Multitask Learning", ICLR 2022.

    head k takes R_k z;   R_k in SO(d) descends along  Σ_n |R_k v_n - h_kn|²
    v_n = mean over tasks j of g_jn |mean of g| / |g_j|,   g_jn = R_j' h_jn

Here h_kn is the gradient of task k's loss in the rotated features of n; n runs over samples, and
over the places of a map of features; a norm is over all n. Only R_k is not held constant. So the
gradients of the tasks in z turn towards their mean direction.

As in the authors' package (rotograd 0.1.6), R = exp(A), and Adam moves the entries of A, at a rate
that falls by a factor of 0.99999 a step, as in the package's example. Three differences:

* R starts at the identity. The package means to, but its parametrisation draws R at random.
* The Adam is a part of the module. The package leaves optimizer and rate to the user; its text
  advises a lower rate than the network's, and its example in the plane has 0.05. Ours is 0.001.
* The objective is a sum over n for maps too, as in the paper. The package takes the mean over the
  batch there, which Adam hardly tells apart.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from recon.models.architectures.parts import check_whole
from recon.models.architectures.rotation import Rotation, turned


class RotatedHead(nn.Module):
    """A head behind a rotation of its features."""

    def __init__(self, rotation: Rotation, head: nn.Module) -> None:
        super().__init__()
        self.rotation = rotation
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """The head's prediction of the rotated features."""
        return self.head(self.rotation(features))


class RotatedHeads(nn.ModuleDict):
    """Heads of several tasks, each behind a learned rotation: the network of RotoGrad.

    The backbone stays as it is: a conflict map scores the same layers by the same names, and Recon
    may branch them. Each task's rotation then turns the features of the task's own path. Rotations
    are not shared.

    Hand the heads over to the engine, and every step turns the rotations, whatever the method. The
    method ``rotograd`` adds the other half of RotoGrad, gradients of equal length. Methods that
    make one backward of weighted losses turn the rotations by the tasks' own gradients too; a task
    of weight 0 has none there. A task without loss in a step keeps its rotation.

    >>> import recon
    >>> backbone, heads = nn.Linear(4, 3), {"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)}
    >>> heads = RotatedHeads(heads, size=3, lr=0.1)
    >>> engine = recon.Engine(backbone, ["a", "b"], "rotograd", at="representation", heads=heads)
    >>> features = backbone(torch.ones(2, 4))
    >>> losses = {task: (head(features) - 1).square().mean() for task, head in heads.items()}
    >>> info = engine.backward(losses, representation=features)
    >>> torch.equal(heads["a"].rotation.matrix, torch.eye(3))
    False

    Args:
        heads: Task -> head, for all tasks. Heads take features ``(B, channels, ...)``.
        size: Number of features that are rotated, the first ones; all of them as a rule.
        lr: Learning rate of the rotations' Adam, >= 0; smaller than the network's as a rule.
        decay: Factor on this rate after each step, in (0, 1].

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self, heads: Mapping[str, nn.Module], size: int, lr: float = 1e-3, decay: float = 0.99999) -> None:
        check_whole("size", size)
        if size < 1 or not lr >= 0 or not 0 < decay <= 1:
            raise ValueError(f"rotations need size >= 1, lr >= 0 and decay in (0, 1], got {size}, {lr} and {decay}")
        super().__init__({task: RotatedHead(Rotation(size, lr, decay), head) for task, head in heads.items()})

    def take_gradients(self) -> dict[str, Tensor]:
        """Task -> gradient of its loss in its rotated features, since the latest forward; once.

        Raises:
            ValueError: The features of two tasks have different shapes.
        """
        taken = {task: self._rotation(task).take_gradient() for task in self}
        gradients = {task: gradient for task, gradient in taken.items() if gradient is not None}
        if len({gradient.shape for gradient in gradients.values()}) > 1:
            shapes = ", ".join(f"{tuple(gradient.shape)} of {task!r}" for task, gradient in gradients.items())
            raise ValueError(
                f"rotations align the gradients of all tasks in the same samples, got features of shapes {shapes}; "
                "give each head the features of the whole batch"
            )
        return gradients

    @torch.no_grad()
    def learn(
        self,
        batches: Sequence[Mapping[str, Tensor]] | None = None,
        tasks: Iterable[str] | None = None,
        summed: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        """Turn the rotations, after the backwards of a step; :class:`recon.Engine` calls this.

        Args:
            batches: Of each micro-batch, task -> gradient in the rotated features ``(B, channels,
                ...)``; by default those of the latest forward.
            tasks: The tasks of the step, in order; by default those that have a gradient. A single
                task turns nothing.
            summed: Sums a tensor over the processes that share the step.
        """
        batches = [self.take_gradients()] if batches is None else batches
        names = [*(batches[0] if tasks is None else tasks)]
        if len(names) < 2:
            return
        matrices = [self._rotation(task).matrix for task in names]
        passed = [_stacked(batch, names, matrices[0].dtype) for batch in batches if batch]
        pairs = [(rotated, _turned_back(matrices, rotated)) for rotated in passed]
        gramian = summed(sum((_products(back) for _, back in pairs), matrices[0].new_zeros(len(names), len(names))))
        norms = gramian.diagonal().sqrt()
        shares = torch.where(norms > 0, gramian.sum().clamp(min=0).sqrt() / norms, 0) / len(names) ** 2
        slopes = torch.stack([torch.zeros_like(matrix) for matrix in matrices])
        for rotated, back in pairs:
            slopes += _slopes(rotated, back, shares, len(matrices[0]))
        for task, slope in zip(names, summed(slopes), strict=True):
            self._rotation(task).descend(slope)

    def _rotation(self, task: str) -> Rotation:
        rotation: Rotation = self[task].rotation  # type: ignore[assignment]
        return rotation


def _stacked(batch: Mapping[str, Tensor], tasks: Sequence[str], dtype: torch.dtype) -> Tensor:
    """The gradients of K tasks in their rotated features, (K, B, channels, ...); zeros without."""
    some = next(iter(batch.values()))
    return torch.stack([batch.get(task, torch.zeros_like(some)).to(dtype) for task in tasks])


def _turned_back(matrices: Sequence[Tensor], rotated: Tensor) -> Tensor:
    """The gradients in the features before the rotations, (K, B, channels, ...)."""
    return torch.stack([turned(matrix.mT, each) for matrix, each in zip(matrices, rotated, strict=True)])


def _products(gradients: Tensor) -> Tensor:
    rows = gradients.flatten(1)
    return rows @ rows.T


def _slopes(rotated: Tensor, back: Tensor, shares: Tensor, size: int) -> Tensor:
    """The gradients of the objectives in the rotations, (K, d, d).

    The length of ``R v`` does not change with R, so ``-2 <R v, g~>`` is left of the objective.
    """
    mean = torch.einsum("k,k...->...", shares, back)[:, :size]
    return -2 * torch.einsum("kbi...,bj...->kij", rotated[:, :, :size], mean)
