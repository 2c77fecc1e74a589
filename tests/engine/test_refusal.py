"""Steps that are refused, and the steps after them."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.conflict import ConflictAnalyzer
from recon.engine.refusal import kept_if_refused

# All but those that cannot go wrong twice alike: they are wrapped, or need another library.
METHODS = [name for name in recon.list_methods() if name != "torchjd"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.heads = nn.ModuleDict({task: nn.Linear(5, 1) for task in ("a", "b", "c")})
        self.double()

    def losses(self, seed: int) -> dict[str, Tensor]:
        x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        features = self.backbone(x)
        return {t: (head(features) - i).square().mean() + 0.1 for i, (t, head) in enumerate(self.heads.items())}


class Trainer:
    def __init__(self, name: str, **options: Any) -> None:
        self.net = Net()
        self.method = recon.create_method(name, **options)
        self.analyzer = ConflictAnalyzer(self.net.backbone, ["a", "b", "c"], every=2)
        self.engine = recon.Engine(self.net.backbone, ["a", "b", "c"], self.method, self.analyzer)
        self.optimizer = torch.optim.SGD([*self.net.parameters(), *self.method.parameters()], lr=0.05)

    def step(self, seed: int, spoil: Any = None) -> None:
        def closure(batch: Any = None) -> dict[str, Tensor]:
            losses = self.net.losses(seed)
            return losses if spoil is None else losses | {"b": spoil(losses["b"])}

        self.engine.step(closure, self.optimizer, validation=lambda: self.net.losses(seed + 50))

    def state(self) -> str:
        torch.set_printoptions(precision=12)
        try:
            return str((self.method.state_dict(), self.analyzer.state_dict(), self.net.state_dict()))
        finally:
            torch.set_printoptions(profile="default")


def nan_loss(loss: Tensor) -> Tensor:
    return loss * float("nan")


def nan_gradient(loss: Tensor) -> Tensor:
    return loss + torch.sqrt(loss - loss)  # a finite value, and an infinite slope times zero


@pytest.mark.parametrize("spoil", [nan_loss, nan_gradient])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_with_a_refused_batch_is_the_run_without_it(name: str, spoil: Any) -> None:
    skipping, plain = Trainer(name), Trainer(name)
    for seed in range(5):
        if seed in (1, 2):
            with pytest.raises(ValueError, match=f"is not finite in step {seed}"):
                skipping.step(seed + 100, spoil)
        skipping.step(seed)
        plain.step(seed)
    assert skipping.state() == plain.state()
    assert skipping.engine.step_count == 5


@pytest.mark.parametrize("name", ["mgda", "psmgd"])
def test_wrapped_counters_and_randomness_wait_for_the_step_that_is_made(name: str) -> None:
    options = {"method": "pcgrad"} if name == "psmgd" else {}
    skipping, plain = Trainer(name, **options), Trainer(name, **options)
    skipping.engine.analyzer = plain.engine.analyzer = None  # psmgd then knows its weights beforehand
    for seed in range(6):
        if seed % 2:
            with pytest.raises(ValueError, match="is not finite"):
                skipping.step(seed, nan_gradient)
        skipping.step(seed)
        plain.step(seed)
    assert skipping.state() == plain.state()


def test_losses_after_the_step_are_looked_at_too() -> None:
    """FAMO moves its weights by the losses after the step, which may have diverged."""
    trainer = Trainer("famo")
    evaluations = []

    def closure(batch: Any = None) -> dict[str, Tensor]:
        evaluations.append(1)
        losses = trainer.net.losses(0)
        return losses | {"c": losses["c"] * float("inf")} if len(evaluations) == 2 else losses

    state = copy.deepcopy(trainer.method.state_dict())
    with pytest.raises(ValueError, match="the loss of task 'c' is not finite in step 0"):
        trainer.engine.step(closure, trainer.optimizer)
    assert str(trainer.method.state_dict()) == str(state)


def test_what_the_method_itself_refuses_leaves_no_trace() -> None:
    trainer = Trainer("db_mtl")
    trainer.step(0)
    before = trainer.state()
    with pytest.raises(ValueError, match="db_mtl: needs positive losses"):
        trainer.step(1, lambda loss: loss - loss.detach() - 1)
    assert trainer.state() == before


def test_attributes_buffers_randomness_and_grads_are_kept() -> None:
    class Own(recon.GramianMethod):
        def __init__(self) -> None:
            super().__init__()
            self.count, self.generator = 0, torch.Generator().manual_seed(0)
            self.register_buffer("seen", torch.zeros(2))
            self.scale_of_all = nn.Parameter(torch.ones(()))

        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            self.count += 1
            self.get_buffer("seen").add_(1)
            self.latest = torch.rand(2, generator=self.generator)
            self.scale_of_all.grad = torch.ones(())
            raise RuntimeError("no")

    method = Own()
    state = method.generator.get_state()
    with pytest.raises(RuntimeError, match="no"), kept_if_refused(method):
        method.weights(torch.eye(2))
    assert method.count == 0
    assert not hasattr(method, "latest")
    assert method.get_buffer("seen").tolist() == [0, 0]
    assert torch.equal(method.generator.get_state(), state)
    assert method.scale_of_all.grad is None


def test_what_is_done_without_an_error_stays() -> None:
    method = recon.create_method("dwa")
    method.bind(2)
    with kept_if_refused(method):
        method.combine(torch.eye(2), torch.ones(2))
    assert method.get_buffer("steps").tolist() == [1, 1]
