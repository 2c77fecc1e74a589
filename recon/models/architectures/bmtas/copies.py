"""The copies that stand in place of a stage of a backbone."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten


class StageCopies(nn.Module):
    """Copies of a stage, of which one runs, or all for a weighted sum of their outputs.

    Args:
        copies: Modules of one structure.

    Attributes:
        choice: The number of the copy that runs; or the weights of all, ``(copies,)``.
    """

    choice: int | Tensor

    def __init__(self, copies: Sequence[nn.Module]) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)
        self.choice = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the stage; its output may be nested."""
        if isinstance(self.choice, int):
            return self.copies[self.choice](*args, **kwargs)
        outputs = []
        for copy in self.copies:  # each has inputs of its own, as it may write into them
            own, named = tree_map(_cloned, (args, kwargs))
            outputs.append(copy(*own, **named))
        return _mixed(self.choice, outputs)

    def norms(self) -> Iterator[_NormBase]:
        """The norms in the copies that keep running statistics."""
        for module in self.modules():
            if isinstance(module, _NormBase) and module.running_mean is not None:
                yield module


def replace_stages(backbones: Sequence[nn.Module], stages: Sequence[str]) -> dict[str, StageCopies]:
    """Put the stages of several backbones of one structure into the first of them.

    Args:
        backbones: The backbones; the first one is changed.
        stages: Paths of the stages.

    Returns:
        Stage -> its copies, which have no learned scale in their last batch norm.
    """
    found = {}
    for stage in stages:
        found[stage] = StageCopies([backbone.get_submodule(stage) for backbone in backbones])
        for copy in found[stage].copies:
            _fix_last_scale(copy)
        parent, _, name = stage.rpartition(".")
        backbones[0].get_submodule(parent)._modules[name] = found[stage]
    return found


def check_stages_hold_layers(backbone: nn.Module, stages: Sequence[str]) -> None:
    """Refuse stages without parameters, which there is no point in copying.

    Raises:
        ValueError: There is one.
    """
    for stage in stages:
        if not any(True for _ in backbone.get_submodule(stage).parameters()):
            raise ValueError(f"stage {stage!r} of {type(backbone).__name__} has no parameters; name one that has some")


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _mixed(weights: Tensor, outputs: Sequence[Any]) -> Any:
    flat, structures = zip(*map(tree_flatten, outputs), strict=True)
    mixed = [
        sum(weight * own for weight, own in zip(weights, values, strict=True))
        if isinstance(values[0], Tensor) and values[0].is_floating_point()
        else values[0]
        for values in zip(*flat, strict=True)
    ]
    return tree_unflatten(mixed, structures[0])


def _fix_last_scale(stage: nn.Module) -> None:
    norms = [module for module in stage.modules() if isinstance(module, _NormBase) and module.affine]
    if norms:
        nn.init.ones_(norms[-1].weight.requires_grad_(False))
        nn.init.zeros_(norms[-1].bias.requires_grad_(False))
