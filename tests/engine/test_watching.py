"""Watching leaves a training as it is, and finds the map that an engine finds."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from in_threads import ThreadProcesses, Threads
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from two_heads import TwoHeads

import recon
from recon.conflict import MeasuredMap


class Trained(TwoHeads):
    """A network with batch norm, dropout and a recomputed head, for plain training."""

    def __init__(self) -> None:
        super().__init__(dtype=torch.float32)
        self.drop = nn.Sequential(nn.Dropout(0.3), nn.Linear(5, 5), nn.BatchNorm1d(5))

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        features = self.backbone(x)
        dropped = checkpoint(self.drop, features, use_reentrant=False)
        return {
            task: (head(dropped if task == "a" else features) - i).square().mean()
            for i, (task, head) in enumerate(self.heads.items())
        }


def batches(number: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(4, 1, 6, 6, generator=generator) for _ in range(number)]


def train(net: Trained, look: Callable[[dict[str, Tensor]], Any], steps: int = 4) -> list[Tensor]:
    """All that a plain loop leaves: parameters, statistics, gradients, and the next random numbers."""
    torch.manual_seed(3)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for x in batches(steps):
        losses = net.losses(x)
        look(losses)
        optimizer.zero_grad()
        torch.stack([*losses.values()]).sum().backward()
        optimizer.step()
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    return [*net.state_dict().values(), *grads, torch.rand(3)]


def same_maps(first: MeasuredMap, second: MeasuredMap) -> bool:
    return (
        torch.equal(first.histogram, second.histogram)
        and torch.equal(first.mean_cosine, second.mean_cosine)
        and torch.equal(first.gradient_norms, second.gradient_norms)
    )


@pytest.mark.parametrize("every", [1, 3])
def test_training_is_the_same_bit_for_bit(every: int) -> None:
    plain, watched = Trained(), Trained()
    expected = train(plain, lambda losses: None)
    watch = recon.watch(watched.backbone, watched.heads, every)
    found = train(watched, watch)
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert watch.analyzer.observed_steps == len(range(0, 4, every))


def test_the_map_is_that_of_an_engine() -> None:
    net = TwoHeads()
    by_engine = deepcopy(net)
    watch = recon.watch(net.backbone, net.heads)
    analyzer = recon.ConflictAnalyzer(by_engine.backbone, ["a", "b"])
    engine = recon.Engine(by_engine.backbone, ["a", "b"], "joint", analyzer)
    for x in batches(5):
        info = watch(net.losses(x.double()))
        assert info is not None and info.cosines is not None
        of_engine = engine.backward(by_engine.losses(x.double()))
        assert torch.equal(info.layer_gramians, of_engine.layer_gramians)  # type: ignore[arg-type]
        assert info.losses.keys() == of_engine.losses.keys()
    assert same_maps(watch.map(seed=1), analyzer.conflict_map())
    assert watch.map(seed=1).provenance["seed"] == 1


def test_heads_within_the_shared_part_are_warned_of_by_name() -> None:
    net = TwoHeads()
    whole, shared = recon.watch(net, ["a", "b"]), recon.watch(net.backbone, net.heads)
    for watch in (whole, shared):
        watch({"a": net.losses(batches(1)[0].double())["a"]})
    whole.map()  # one task alone had labels so far, and tells no layer apart
    for x in batches(2):
        for watch in (whole, shared):
            watch(net.losses(x.double()))
    with pytest.warns(UserWarning, match=r"one task alone .*: heads\.a\S*, heads\.b\S*; .* without their heads"):
        whole.map()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared.map()


def test_weights_of_the_losses_change_norms_and_no_cosine() -> None:
    net = TwoHeads()
    plain, weighted = recon.watch(net.backbone, net.heads), recon.watch(net.backbone, net.heads)
    for x in batches(3):
        losses = net.losses(x.double())
        plain(losses)
        weighted({"a": 0.99 * losses["a"], "b": 0.01 * losses["b"]})
    torch.testing.assert_close(weighted.map().mean_cosine, plain.map().mean_cosine)
    torch.testing.assert_close(
        weighted.map().gradient_norms, plain.map().gradient_norms * torch.tensor([0.99, 0.01], dtype=torch.float64)
    )


def test_parts_of_a_batch_are_one_step() -> None:
    net = TwoHeads()
    by_engine = deepcopy(net)
    watch = recon.watch(net.backbone, ["a", "b"])
    analyzer = recon.ConflictAnalyzer(by_engine.backbone, ["a", "b"])
    engine = recon.Engine(by_engine.backbone, ["a", "b"], "joint", analyzer)
    first, second, third = (x.double() for x in batches(3))
    for part, count in ((first, 4), (second, 2)):
        watch.accumulate(net.losses(part), counts={"a": count, "b": count})
        engine.accumulate(by_engine.losses(part), counts={"a": count, "b": count})
    info = watch({"b": net.losses(third)["b"]}, counts={"b": 4})
    of_engine = engine.backward({"b": by_engine.losses(third)["b"]}, counts={"b": 4})
    assert info is not None
    torch.testing.assert_close(info.layer_gramians, of_engine.layer_gramians, rtol=1e-13, atol=0)
    watch.accumulate(net.losses(first))
    assert watch({}) is not None
    assert (watch.analyzer.observed_steps, len(watch.map().layers)) == (2, 3)


def test_hooks_on_grad_and_frozen_layers_are_left_alone() -> None:
    net = TwoHeads()
    seen: list[Tensor] = []
    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(seen.append)
    net.backbone[0].requires_grad_(False)
    watch = recon.watch(net.backbone, net.heads)
    assert watch(net.losses(batches(1)[0].double())) is not None
    assert not seen
    assert all(parameter.grad is None for parameter in net.parameters())
    assert watch.map().layers == ("1", "4")
    net.backbone.requires_grad_(False)
    assert watch(net.losses(batches(1)[0].double())) is None


def test_scaled_losses_give_the_same_gramians_and_an_overflow_does_not_count() -> None:
    net = TwoHeads(dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch, plain = recon.watch(net.backbone, net.heads, scaler=scaler), recon.watch(net.backbone, net.heads)
    with torch.autocast("cpu", dtype=torch.float16):
        losses = net.losses(batches(1)[0])
    info, expected = watch(losses), plain(losses)
    assert info is not None and expected is not None
    torch.testing.assert_close(info.layer_gramians, expected.layer_gramians, rtol=2e-2, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.float16):
        info = watch({task: 1e30 * loss for task, loss in net.losses(batches(1)[0]).items()})
    assert info is not None and info.overflow
    assert (watch.analyzer.observed_steps, "1 of 1 step" in repr(watch)) == (1, True)


def test_processes_see_the_map_of_all_their_data(threads: Threads) -> None:
    net = TwoHeads()
    net.backbone[1] = nn.Identity()  # whose statistics are those of a process's own batch
    nets, (x, _) = [deepcopy(net) for _ in range(2)], (x.double() for x in batches(2))

    def look(own: ThreadProcesses) -> Tensor | None:
        watch = recon.watch(nets[own.rank].backbone, nets[own.rank].heads)
        info = watch(nets[own.rank].losses(x.chunk(2)[own.rank]))
        assert info is not None
        return info.layer_gramians

    for found in threads.run(2, look):
        whole = recon.watch(net.backbone, net.heads)(net.losses(x))
        assert whole is not None
        torch.testing.assert_close(found, whole.layer_gramians)


def test_statistics_go_on_from_a_checkpoint() -> None:
    net = TwoHeads()
    first, second = recon.watch(net.backbone, net.heads, every=2), recon.watch(net.backbone, net.heads, every=2)
    for x in batches(3):
        first(net.losses(x.double()))
    second.load_state_dict(first.state_dict())
    assert second(net.losses(batches(1)[0].double())) is None
    assert same_maps(first.map(), second.map())


def test_bad_losses_are_refused_in_one_line_and_do_not_count() -> None:
    net = TwoHeads()
    watch = recon.watch(net.backbone, net.heads)
    losses = net.losses(batches(1)[0].double())
    with pytest.raises(TypeError, match="losses must be a mapping of tasks to scalar losses, got Tensor"):
        watch(losses["a"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"unknown \['c'\]"):
        watch({"c": losses["a"]})
    with pytest.raises(ValueError, match="there is no loss of any task"):
        watch({})
    with pytest.raises(ValueError, match="loss of task 'a' has no graph"):
        watch({"a": losses["a"].detach()})
    torch.stack([*losses.values()]).sum().backward()
    with pytest.raises(RuntimeError, match=r"call watch\(losses\) before loss\.backward\(\)"):
        watch(losses)
    assert "0 of 0 steps" in repr(watch)
    with pytest.raises(TypeError, match="heads is str; give"):
        recon.watch(net.backbone, "ab")
    with pytest.raises(ValueError, match="a conflict takes two or more tasks"):
        recon.watch(net.backbone, {"a": net.heads["a"]})
