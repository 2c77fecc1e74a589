"""Networks of the shapes that people branch: exact, and with a trunk that runs once a step."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import clients
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from recon.branching import BranchedModule, branch
from recon.branching.call import Call
from recon.branching.graph.program import Refusal

TASKS = ("a", "b", "c")


@dataclass(frozen=True)
class Client:
    """A network, what to branch in it, how to call it, and why it cannot be traced, if it
    cannot.
    """

    make: Callable[[], nn.Module]
    layers: list[str]
    args: Callable[[], tuple[Any, ...]] = lambda: (torch.randn(5, 6).double(),)
    kwargs: Callable[[], dict[str, Any]] = field(default=dict)
    reason: str = ""


def image() -> tuple[Tensor]:
    return (torch.randn(2, 3, 8, 8).double(),)


def graph() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 5).double(), torch.tensor([[0, 1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 0, 3]])


def ids() -> Tensor:
    return torch.arange(14).view(2, 7)


def words() -> tuple[Tensor]:
    return (ids(),)


def features() -> tuple[dict[str, Tensor]]:
    return ({"user": torch.tensor([1, 2, 3]), "clicks": ids()[:, :3].T % 10, "age": torch.rand(3, 2).double()},)


CLIENTS = {
    "hard sharing": Client(clients.HardSharing, ["late"]),
    "MMoE": Client(clients.Experts, ["experts.1.0", "gates.a.0"]),
    "CGC": Client(lambda: clients.Gating(1), ["levels.0.a.0"]),
    "PLE": Client(lambda: clients.Gating(2), ["levels.1.gate_a", "levels.1.shared.0"]),
    "Cross-stitch": Client(clients.CrossStitch, ["CrossStitch"]),
    "SegNet-MTAN": Client(clients.Attention, ["attention.1", "decoder.0"], image),
    "PAD-Net": Client(clients.Distilling, ["exchange.seg", "heads.depth"], image),
    "Unet that checks its input": Client(clients.Unet, ["decoder.1"], image, reason="control flow"),
    "BERT": Client(lambda: clients.Encoder(False), ["layers.1.qkv", "layers.2.norm"], words, reason="iterated"),
    "BERT with a mask and hidden states": Client(
        lambda: clients.Encoder(False, "eager"),
        ["pooler"],
        tuple,
        lambda: {"input_ids": ids(), "attention_mask": (ids() < 11).long(), "output_hidden_states": True},
    ),
    "BERT that looks into its mask": Client(
        lambda: clients.Encoder(True),
        ["layers.2.up"],
        tuple,
        lambda: {"input_ids": ids(), "attention_mask": (ids() < 11).long()},
        reason="control flow",
    ),
    "ViT": Client(lambda: clients.VisionTransformer(False), ["pooler"], image),
    "ViT that checks its input": Client(
        lambda: clients.VisionTransformer(True), ["layers.2.out"], image, reason="control flow"
    ),
    "ViT with hooks": Client(clients.Capturing, ["layers.2.out"], image, reason="hook"),
    "GCN": Client(lambda: clients.GraphNetwork("gcn"), ["out"], graph),
    "GCN with a branched convolution": Client(
        lambda: clients.GraphNetwork("gcn"), ["convs.1.lin", "out"], graph, reason="asks for the type"
    ),
    "GAT": Client(lambda: clients.GraphNetwork("gat"), ["convs.1"], graph, reason="asks for the type"),
    "SAGE": Client(lambda: clients.GraphNetwork("sage"), ["out"], graph),
    "GCN that counts its nodes": Client(lambda: clients.GraphNetwork("gcn", True), ["out"], graph),
    "MMoE recommender": Client(
        lambda: clients.Recommender(clients.Experts()), ["experts.experts.0.0", "experts.gates.b.0"], features
    ),
    "PLE recommender": Client(lambda: clients.Recommender(clients.Gating(2)), ["experts.levels.1.a.0"], features),
    "actor-critic": Client(clients.ActorCritic, ["core", "critic"]),
    "actor-critic with a state": Client(
        clients.ActorCritic, ["actor"], kwargs=lambda: {"state": torch.randn(5, 8).double()}
    ),
}


@torch.no_grad()
def moved_apart(plain: nn.Module, net: BranchedModule) -> dict[str, nn.Module]:
    """Separate copies of a network, and the same change to each task's copies in the branched
    one.
    """
    copies = {task: copy.deepcopy(plain) for task in TASKS}
    for task, separate in copies.items():
        own = dict(net.branches[task].named_parameters())
        for name, parameter in separate.named_parameters():
            if name in own:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
                own[name].copy_(parameter)
    return copies


def tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def backward(outputs: dict[str, Any]) -> None:
    total = [leaf.square().sum() * (i + 1) for i, task in enumerate(TASKS) for leaf in tensors(outputs[task])]
    torch.stack(total).sum().backward()


@pytest.mark.parametrize("name", CLIENTS)
def test_client_is_exact_and_its_trunk_runs_once(name: str) -> None:
    client = CLIENTS[name]
    torch.manual_seed(0)
    plain = client.make().double().train()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*cannot be traced")
        net = branch(plain, client.layers, TASKS)
        copies = moved_apart(plain, net)
        args, kwargs = client.args(), client.kwargs()
        net(*args, **kwargs)
        clients.Counted.calls = 0
        outputs = net(*args, **kwargs)
    assert clients.Counted.calls == 1
    program = net._programs.find(Call.of(True, args, kwargs))
    assert client.reason in program.reason if isinstance(program, Refusal) else not client.reason
    expected = {task: separate(*args, **kwargs) for task, separate in copies.items()}
    for task in TASKS:
        assert type(outputs[task]) is type(expected[task])
        for mine, theirs in zip(tensors(outputs[task]), tensors(expected[task]), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    backward(outputs)
    backward(expected)
    gradients = dict(net.named_parameters())
    for path, parameter in plain.named_parameters():
        theirs = {task: separate.get_parameter(path).grad for task, separate in copies.items()}
        if f"shared.{path}" in gradients:
            total = torch.stack([torch.zeros_like(parameter) if g is None else g for g in theirs.values()]).sum(0)
            mine = gradients[f"shared.{path}"].grad
            torch.testing.assert_close(torch.zeros_like(total) if mine is None else mine, total, rtol=1e-9, atol=1e-9)
        else:
            for task in TASKS:
                torch.testing.assert_close(
                    gradients[f"branches.{task}.{path}"].grad, theirs[task], rtol=1e-9, atol=1e-9
                )
