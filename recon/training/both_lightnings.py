"""Lightning's classes by name, since it is published as two packages with classes of their own."""

from typing import Any

_PACKAGES = ("pytorch_lightning", "lightning")


def is_lightnings(one: Any, *names: str) -> bool:
    """Whether an object is of a class of Lightning, of either package.

    ``import lightning as L`` has the classes of ``import pytorch_lightning as pl`` once more, and
    ``isinstance`` tells them apart.

    >>> from pytorch_lightning.loggers import CSVLogger
    >>> [is_lightnings(CSVLogger("logs"), name) for name in ("CSVLogger", "WandbLogger")]
    [True, False]

    Args:
        one: The object.
        *names: Names of classes; one of them, or a subclass, will do.
    """
    ours = {kind.__name__ for kind in type(one).__mro__ if kind.__module__.split(".")[0] in _PACKAGES}
    return not ours.isdisjoint(names)
