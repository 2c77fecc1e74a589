"""The shared part, handed over in several pieces."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.gradients.layers import shared_layers
from recon.gradients.parts import as_one_module
from recon.tasks import classification


class Parts:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.encoder, self.neck = nn.Sequential(nn.Linear(6, 8)), nn.Linear(8, 8)
        self.heads = nn.ModuleDict({"a": nn.Linear(8, 1), "b": nn.Linear(8, 1)})

    def tasks(self) -> list[tuple[int, tuple[str, nn.Module]]]:
        return list(enumerate(self.heads.items()))

    def losses(self) -> dict[str, Tensor]:
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
        features = self.neck(self.encoder(x).relu())
        return {task: (head(features) - i).square().mean() for i, (task, head) in self.tasks()}


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


def test_the_network_of_several_modules_is_named_by_all_of_them() -> None:
    net = Parts()
    shared = {"encoder": net.encoder, "neck": net.neck}
    assert "Sequential + Linear" in repr(recon.Engine(shared, ["a", "b"], "mgda"))
    analyzer = recon.ConflictAnalyzer([net.encoder, net.neck], ["a", "b"])
    assert analyzer.network == "Sequential + Linear"
    with pytest.raises(ValueError, match=r"another network: .*'0\.0', '1', 'encoder\.0', 'neck'"):
        recon.Engine(shared, ["a", "b"], "mgda", analyzer)


class Shared(nn.Module):
    """The parts as one network, which names its layers as the parts' keys do."""

    def __init__(self, encoder: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.encoder, self.neck = encoder, neck

    def forward(self, x: Tensor) -> Tensor:
        return self.neck(self.encoder(x).relu())


def test_a_map_of_parts_branches_the_parts_and_a_network_of_them(tmp_path: Path) -> None:
    net = Parts()
    parts = {"encoder": net.encoder, "neck": net.neck}
    analyzer = recon.ConflictAnalyzer(parts, ["a", "b"])
    engine = recon.Engine(parts, ["a", "b"], "joint", analyzer)
    for _ in range(3):
        engine.backward(net.losses())
    analyzer.conflict_map().save(tmp_path / "map.json")
    conflict_map = recon.ConflictMap.load(tmp_path / "map.json")
    assert sorted(conflict_map.top(2, severity=-0.1)) == ["encoder.0", "neck"]

    whole = recon.branch(Shared(net.encoder, net.neck), conflict_map.top(1, severity=-0.1), ["a", "b"])
    assert whole.layers == tuple(conflict_map.top(1, severity=-0.1))
    own = [name.removeprefix("encoder.") for name in conflict_map.layers if name.startswith("encoder.")]
    encoder = recon.branch(net.encoder, own, ["a", "b"])
    remaining = {"encoder": encoder, "neck": net.neck}
    again = recon.ConflictAnalyzer(remaining, ["a", "b"])
    features = encoder(torch.randn(4, 6))
    losses = {task: (head(net.neck(features[task].relu())) - i).square().mean() for i, (task, head) in net.tasks()}
    recon.Engine(remaining, ["a", "b"], "cagrad", again).backward(losses)
    assert list(again.conflict_map().layers) == ["neck"]
    assert all(p.grad is not None for task in ("a", "b") for p in encoder.branch_parameters(task))
    with pytest.raises(ValueError, match=r"unknown layer 'encoder\.0' in Sequential; nearest: '0'"):
        recon.branch(net.encoder, ["encoder.0"], ["a", "b"])


def test_two_encoders_of_which_a_task_uses_one() -> None:
    net, second = Parts(), nn.Linear(3, 8)
    x, y = torch.randn(4, 6), torch.randn(4, 3)
    first = net.encoder(x)
    losses = {"a": net.heads["a"](first).square().mean(), "b": net.heads["b"](first + second(y)).square().mean()}
    rows = [
        torch.autograd.grad(loss, second.weight, retain_graph=True, allow_unused=True)[0] for loss in losses.values()
    ]
    analyzer = recon.ConflictAnalyzer([net.encoder, second], ["a", "b"])
    info = recon.Engine([net.encoder, second], ["a", "b"], "pcgrad", analyzer).backward(losses)
    assert rows[0] is None
    torch.testing.assert_close(second.weight.grad, rows[1] * info.weights[1])
    assert analyzer.conflict_map().histogram.sum(2).squeeze().tolist() == [1, 0]  # one task has no cosine


def test_several_modules_weigh_tasks_at_the_representation() -> None:
    net = Parts()
    features = net.neck(net.encoder(torch.randn(4, 6)).relu())
    losses = {task: (head(features) - i).square().mean() for i, (task, head) in net.tasks()}
    rows = torch.stack(
        [torch.autograd.grad(loss, features, retain_graph=True)[0].flatten() for loss in losses.values()]
    )
    engine = recon.Engine([net.encoder, net.neck], ["a", "b"], "mgda", at="representation")
    info = engine.backward(losses, representation=features)
    gramian = (rows @ rows.T).double()
    torch.testing.assert_close(info.weights, recon.create_method("mgda").weights(gramian).float())
    assert all(p.grad is not None for p in net.encoder.parameters())


@pytest.mark.parametrize("given", [lambda net: [net.encoder, net.neck], lambda net: nn.ModuleList([net.encoder])])
def test_a_module_of_several_backbones_needs_one_forward(given: Any) -> None:
    net, tasks = Parts(), [classification("a", 2), classification("b", 2)]
    with pytest.raises(TypeError, match=r"which has no forward; put several backbones into one module"):
        recon.MultiTaskModule(given(net), tasks, heads=net.heads)
    module = recon.MultiTaskModule(Shared(net.encoder, net.neck), tasks, heads=net.heads)
    assert list(shared_layers(module.backbone)) == ["encoder.0", "neck"]
