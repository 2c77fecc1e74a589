"""One way of calling a backbone."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


class Variable:
    """The class that stands in a :class:`Call` for an argument whose value is left open.

    It stands for arguments that are no tensors; :class:`torch.Tensor`, as a class, stands for a
    tensor.
    """


@dataclass(frozen=True)
class Call:
    """One way of calling a backbone: the flags that its trace bakes in; other arguments are open.

    Flags are None, booleans and strings, also in dictionaries, lists and tuples, whose keys and
    lengths are flags too.
    """

    training: bool
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, training: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        return cls(training, tuple(map(_flag, args)), tuple((name, _flag(value)) for name, value in kwargs.items()))


@dataclass(frozen=True)
class Nested:
    """Stands in a :class:`Call` for a container: its type, its keys, and a flag per value."""

    kind: type
    keys: tuple[Any, ...]
    flags: tuple[Any, ...]

    def rebuilt(self, values: list[Any]) -> Any:
        """A container of this kind that holds the values."""
        return dict(zip(self.keys, values, strict=True)) if self.kind is dict else self.kind(values)


def plain_call(backbone: nn.Module, training: bool) -> Call:
    """A call with a tensor for every argument without a default, or else for the first."""
    parameters = inspect.signature(backbone.forward).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return Call(training, (Tensor,) * (len(needed) or min(len(parameters), 1)), ())


def variables(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments that a :class:`Call` leaves open, in its order."""
    return [leaf for value in (*args, *kwargs.values()) for leaf in _open(value)]


def _flag(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Tensor
    if value is None or isinstance(value, bool | str):
        return value
    if type(value) in (list, tuple):
        return Nested(type(value), (), tuple(map(_flag, value)))
    if type(value) is dict:
        return Nested(dict, tuple(value), tuple(map(_flag, value.values())))
    return Variable


def _open(value: Any) -> Iterator[Any]:
    if type(value) in (list, tuple, dict):
        for inner in value.values() if type(value) is dict else value:
            yield from _open(inner)
    elif value is not None and not isinstance(value, bool | str):
        yield value
