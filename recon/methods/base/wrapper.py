"""Methods around another method, whose weights they change.

State, randomness and scale are those of the wrapped method.
"""

from collections.abc import Mapping
from typing import Any

from recon.methods.base.hyperparameters import check_options
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import create_method, registered_name
from recon.methods.base.state import StatefulMethod


class GramianWrapper(StatefulMethod, GramianMethod):
    """Base of methods around a Gramian method.

    Args:
        method: Name of a registered Gramian method.
        method_options: Hyperparameters of the wrapped method.

    Attributes:
        wrapped: The wrapped method.
        scale: Scale of the wrapped method.
    """

    def __init__(self, method: str, method_options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.method_options = check_options(registered_name(type(self)), method_options)
        wrapped = create_method(method, **(self.method_options or {}))
        if not isinstance(wrapped, GramianMethod):
            raise ValueError(
                f"{type(self).__name__} wraps methods that weight task gradients by their Gramian; {method!r} does not"
            )
        self.method = method
        self.wrapped = wrapped
        self.scale = wrapped.scale  # type: ignore[misc]
        self.needs_all_tasks = wrapped.needs_all_tasks  # type: ignore[misc]

    def bind(self, tasks: int) -> None:
        self.wrapped.bind(tasks)  # first, because it may raise
        super().bind(tasks)

    def reseed(self, seed: int) -> None:
        if "seed" not in (self.method_options or {}):
            self.wrapped.reseed(seed)

    def end_epoch(self) -> None:
        self.wrapped.end_epoch()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
