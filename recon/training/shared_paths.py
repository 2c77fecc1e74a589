"""The shared part of a module that Recon did not write, named by its path."""

from collections.abc import Sequence

from torch import nn

from recon.errors import unknown_name


def parts_of(module: nn.Module, shared: str | Sequence[str]) -> nn.Module | dict[str, nn.Module]:
    """The parts of a module at one path, or by names at several.

    >>> parts_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "0")
    Linear(in_features=2, out_features=2, bias=True)

    Args:
        module: The module.
        shared: A path such as ``"net"`` or ``"model.encoder"``, or several.

    Raises:
        ValueError: The module has no such part.
    """
    paths = [shared] if isinstance(shared, str) else list(shared)
    known = dict(module.named_modules())
    for path in paths:
        if path not in known:
            raise unknown_name("module", path, [name for name in known if name], type(module).__name__)
    return known[shared] if isinstance(shared, str) else {path.replace(".", "_"): known[path] for path in paths}
