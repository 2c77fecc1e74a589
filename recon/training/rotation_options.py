"""The rotations between backbone and heads, as a configuration writes them."""

from dataclasses import dataclass

from torch import nn

from recon.methods import Method, RotoGrad
from recon.models import RotatedHeads
from recon.models.contract import has_linear_heads


@dataclass(frozen=True)
class RotationOptions:
    """Turn the features for each task by a learned rotation, as RotoGrad does.

    >>> from recon.models import LeNet, linear_heads
    >>> from recon.tasks import classification
    >>> heads = linear_heads(50, [classification("digit", 10), classification("letter", 10)])
    >>> RotationOptions(lr=0.01).apply(heads, LeNet())["digit"].rotation
    Rotation(50, lr=0.01, decay=0.99999)

    Args:
        size: Number of features that are rotated, the first ones; ``None`` for all, as the
            backbone's ``num_features`` says.
        lr: Learning rate of the rotations; see :class:`recon.models.RotatedHeads`.
        decay: Factor on this rate after each step.
    """

    size: int | None = None
    lr: float = 1e-3
    decay: float = 0.99999

    def apply(self, heads: nn.ModuleDict, backbone: nn.Module) -> RotatedHeads:
        """The heads behind rotations, which start at the identity.

        Args:
            heads: Task -> head.
            backbone: The backbone whose features they take.

        Raises:
            ValueError: The backbone does not say the number of its features; or a number is out of
                range.
        """
        size = self.size
        if size is None:
            if not has_linear_heads(backbone):
                raise ValueError(
                    f"{type(backbone).__name__} does not say its num_features; set that attribute, or the size of the "
                    "rotations"
                )
            size = backbone.num_features
        return RotatedHeads(dict(heads.items()), size, self.lr, self.decay)


def heads_behind(
    rotations: RotationOptions | None, method: Method, heads: nn.ModuleDict, backbone: nn.Module
) -> nn.ModuleDict:
    """The heads to train: behind rotations if asked for, or if the method is ``rotograd``.

    Args:
        rotations: The rotations; ``None`` for those that go with the method.
        method: The multi-task optimizer.
        heads: Task -> head; a single task has nothing to align, and heads may have rotations.
        backbone: The backbone whose features they take.
    """
    asked = rotations or (RotationOptions() if isinstance(method, RotoGrad) else None)
    if asked is None or len(heads) == 1 or isinstance(heads, RotatedHeads):
        return heads
    return asked.apply(heads, backbone)


def check_same_samples(heads: nn.ModuleDict) -> None:
    """Refuse data of each task's own to rotations.

    Raises:
        ValueError: The heads have rotations.
    """
    if isinstance(heads, RotatedHeads):
        raise ValueError(
            "rotations align the gradients of the tasks in the same samples, and with data of each task's own there "
            "are none; train without rotations"
        )
