"""Values in containers of any kind, of which every call of a remembered module is made."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recon.branching.untraced.structure import Opaque, map_tensors, signature

Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Output:
    features: Tensor
    hidden: tuple[Tensor, ...]


class Named(dict[str, Any]):
    """A dictionary of a class of its own, as models return."""


def _values(t: Tensor) -> list[Any]:
    return [
        t, nn.Parameter(t), (t, [t, {"a": t}]), Pair(t, None), OrderedDict(a=t, b=1), Output(t, (t, t)),
        Named(a=t, b=(t,)), {"n": None, "s": "x", "f": 1.5, "t": (t, True)}, [], (), {},
    ]  # fmt: skip


@pytest.mark.parametrize("index", range(11))
def test_every_tensor_is_replaced_and_the_containers_are_of_the_same_kind(index: int) -> None:
    t = torch.tensor([1.0, 2.0])
    value = _values(t)[index]
    doubled = map_tensors(value, lambda tensor: 2 * tensor.detach())
    assert type(doubled) is type(value) or isinstance(value, nn.Parameter)
    assert str(doubled) == str(map_tensors(value, lambda _: torch.tensor([2.0, 4.0])))
    assert isinstance(value, Tensor) or not doubled or doubled is not value


def test_signatures_tell_kinds_values_keys_and_tensors_apart() -> None:
    t, other = torch.zeros(1), torch.zeros(1)
    values = [*_values(t)[2:], (t,), [t], (other,), {"a": t}, {"b": t}, 1, 1.0, True, None, "1", (t, t), ((t,), t)]
    signatures = [signature(value, id) for value in values]
    assert len(set(signatures)) == len(values)
    assert signatures[:9] == [signature(value, id) for value in _values(t)[2:]]


def test_what_nobody_knows_is_refused_however_deep_it_is() -> None:
    for value in (object(), [object()], {"a": (1, object())}, Pair(1, object()), Output(object(), ())):  # type: ignore[arg-type]
        with pytest.raises(Opaque):
            signature(value, id)
        with pytest.raises(Opaque):
            map_tensors(value, torch.clone)
