"""The shared part, handed over in several pieces."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.gradients.layers import shared_layers
from recon.gradients.parts import as_one_module


class Parts:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.encoder, self.neck = nn.Sequential(nn.Linear(6, 8)), nn.Linear(8, 8)
        self.heads = nn.ModuleDict({"a": nn.Linear(8, 1), "b": nn.Linear(8, 1)})

    def losses(self) -> dict[str, Tensor]:
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
        features = self.neck(self.encoder(x).relu())
        return {task: (head(features) - i).square().mean() for i, (task, head) in enumerate(self.heads.items())}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (lambda encoder, neck: [encoder, neck], ["0.0", "1"]),
        (lambda encoder, neck: (encoder, neck), ["0.0", "1"]),
        (lambda encoder, neck: nn.ModuleList([encoder, neck]), ["0.0", "1"]),
        (lambda encoder, neck: {"encoder": encoder, "neck": neck}, ["encoder.0", "neck"]),
        (lambda encoder, neck: nn.ModuleDict({"encoder": encoder, "neck": neck}), ["encoder.0", "neck"]),
    ],
)
def test_several_modules_are_one_shared_part(given: Any, names: list[str]) -> None:
    net = Parts()
    parameters = [*net.encoder.parameters(), *net.neck.parameters()]
    rows = [torch.autograd.grad(net.losses()[task], parameters) for task in net.heads]
    jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    shared = given(net.encoder, net.neck)
    analyzer = recon.ConflictAnalyzer(shared, ["a", "b"])
    recon.Engine(shared, ["a", "b"], recon.create_method("mgda"), analyzer).backward(net.losses())
    update = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    torch.testing.assert_close(update, recon.create_method("mgda").combine(jacobian))
    assert list(analyzer.conflict_map().layers) == names


def test_the_parts_are_the_modules_that_were_given() -> None:
    net = Parts()
    one = as_one_module([net.encoder, net.neck])
    net.encoder.requires_grad_(False)
    assert list(shared_layers(one)) == ["1"]
    assert as_one_module(net.encoder) is net.encoder


@pytest.mark.parametrize(
    "given",
    [
        lambda net: net.parameters(),
        lambda net: list(net.parameters()),
        lambda net: next(net.parameters()),
        lambda net: [net, next(net.parameters())],
        lambda net: "backbone",
        lambda net: None,
    ],
)
def test_what_is_no_module_is_refused_with_the_cure(given: Any) -> None:
    for make in (
        recon.ConflictAnalyzer,
        lambda shared, tasks: recon.Engine(shared, tasks, recon.create_method("mgda")),
    ):
        with pytest.raises(TypeError, match=r"give the module that owns the shared parameters.*\[encoder, neck\]"):
            make(given(nn.Linear(2, 2)), ["a", "b"])


def test_no_module_at_all_and_a_bad_key_are_refused() -> None:
    with pytest.raises(ValueError, match="shared is empty"):
        as_one_module([])
    for key in ("a.b", "keys", ""):
        with pytest.raises(ValueError, match=f"shared has the key {key!r}"):
            as_one_module({key: nn.Linear(2, 2)})


def test_a_container_is_not_branched_but_its_parts_are() -> None:
    net = Parts()
    with pytest.raises(ValueError, match="ModuleList has no forward"):
        recon.branch(nn.ModuleList([net.encoder, net.neck]), ["1"], ["a", "b"])
    assert recon.branch(net.encoder, ["0"], ["a", "b"]).layers == ("0",)
