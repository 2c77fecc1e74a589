"""Losses, gradients and metrics of batches that lack labels of some tasks, or have inputs of each task's own."""

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader
from torchmetrics import MeanSquaredError

from recon.tasks.per_image import classification
from recon.tasks.per_pixel import depth, normals, segmentation
from recon.tasks.per_sample import binary
from recon.tasks.task import Task
from recon.training import BranchOptions, MultiTaskModule

TrainerFactory = Callable[..., pl.Trainer]


def squared() -> dict[str, Any]:
    return {"mse": MeanSquaredError()}


TASKS = [classification("kind", 4), Task("size", mse_loss, squared, 1)]


class Network(nn.Sequential):
    num_features = 5

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5))


def module(branch: bool = False, tasks: list[Task] = TASKS, **options: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(Network(), tasks, branch=BranchOptions(layers=["2"]) if branch else None, **options)


def samples(size: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x, sizes = torch.randn(size, 3, generator=generator), torch.randn(size, 1, generator=generator)
    return x, {"kind": torch.randint(4, (size,), generator=generator), "size": sizes}


def gapped(targets: dict[str, Tensor]) -> dict[str, Tensor]:
    """Kinds of even samples, and sizes of all but the first two."""
    kinds, sizes = (target.clone() for target in targets.values())
    kinds[1::2], sizes[:2] = -1, math.nan
    return {"kind": kinds, "size": sizes}


branched = pytest.mark.parametrize("branch", [False, True], ids=["plain", "branched"])


# Losses -------------------------------------------------------------------------------------------


class Waiting(nn.SyncBatchNorm):
    """A norm over all processes, as far as the CPU has one."""

    def forward(self, input: Tensor) -> Tensor:
        return input


@pytest.mark.parametrize(("norm", "forwards"), [(nn.BatchNorm1d, 0), (Waiting, 1)])
def test_without_labels_the_network_runs_only_if_norms_of_other_processes_wait_for_it(
    norm: type[nn.Module], forwards: int
) -> None:
    network = module()
    network.backbone.append(norm(5))
    seen: list[Any] = []
    network.backbone[0].register_forward_hook(lambda *call: seen.append(call))
    assert not network.evaluate((torch.zeros(2, 3), {}))
    assert len(seen) == forwards


@branched
def test_losses_are_means_over_the_labelled_samples_and_counts_say_how_many(branch: bool) -> None:
    network, (x, targets) = module(branch), samples(7)
    evaluation = network.evaluate((x, gapped(targets)))
    assert evaluation.counts == {"kind": 4, "size": 5}
    assert evaluation.features is None
    predictions = network(x)
    torch.testing.assert_close(evaluation["kind"], cross_entropy(predictions["kind"][::2], targets["kind"][::2]))
    torch.testing.assert_close(evaluation["size"], mse_loss(predictions["size"][2:], targets["size"][2:]))


@branched
def test_gradients_are_those_of_the_labelled_samples_alone(branch: bool) -> None:
    network, (x, targets) = module(branch), samples(7)
    given = gapped(targets)
    for task, kept in (("kind", slice(None, None, 2)), ("size", slice(2, None))):
        whole, alone = copy.deepcopy(network), copy.deepcopy(network)
        whole.evaluate((x, given))[task].backward()
        alone.evaluate((x[kept], {task: targets[task][kept]}))[task].backward()
        for (name, parameter), expected in zip(whole.named_parameters(), alone.parameters(), strict=True):
            assert (parameter.grad is None) == (expected.grad is None), name
            if parameter.grad is not None:
                torch.testing.assert_close(parameter.grad, expected.grad)


@branched
@pytest.mark.parametrize("form", ["absent", "None", "NaN"])
def test_a_task_without_labels_has_no_loss_and_its_head_does_not_run(branch: bool, form: str) -> None:
    network, (x, targets) = module(branch), samples(4)
    ran: list[str] = []
    for task, head in network.heads.items():
        head.register_forward_hook(lambda *_, task=task: ran.append(task))
    missing = {"absent": {}, "None": {"size": None}, "NaN": {"size": torch.full((4, 1), math.nan)}}
    evaluation = network.evaluate((x, {"kind": targets["kind"], **missing[form]}))
    assert evaluation.keys() == {"kind"}
    assert evaluation.counts == {"kind": 4}
    assert ran == ["kind"]
    assert network.losses((x, {"kind": targets["kind"]})).keys() == {"kind"}


def test_no_labels_are_no_losses() -> None:
    evaluation = module().evaluate((torch.zeros(2, 3), {"kind": torch.tensor([-1, -1])}))
    assert evaluation == {}
    assert evaluation.counts == {}


def test_features_are_handed_on_when_asked_for() -> None:
    network, (x, targets) = module(), samples(4)
    evaluation = network.evaluate_with_features((x, {"kind": targets["kind"]}))
    assert evaluation.features is not None
    torch.testing.assert_close(evaluation.features, network.backbone(x))
    assert evaluation.features.grad_fn is not None
    assert evaluation.counts == {"kind": 4}
    with pytest.raises(ValueError, match=r"needs the features that all heads take.*use at='parameters'"):
        network.evaluate_with_features({"kind": (x, targets["kind"])})


# Inputs of each task's own ------------------------------------------------------------------------


@branched
def test_each_input_passes_through_its_tasks_path_alone(branch: bool) -> None:
    network = module(branch)
    (x, targets), (y, others) = samples(4), samples(6, seed=1)
    evaluation = network.evaluate({"size": (y, others["size"]), "kind": (x, targets["kind"])})
    assert evaluation.counts == {"kind": 4, "size": 6}
    torch.testing.assert_close(evaluation["kind"], cross_entropy(network(x)["kind"], targets["kind"]))
    torch.testing.assert_close(evaluation["size"], mse_loss(network(y)["size"], others["size"]))


@branched
def test_one_task_runs_alone(branch: bool) -> None:
    network, (x, _) = module(branch), samples(4)
    for task, prediction in network(x).items():
        torch.testing.assert_close(network.run(task, x), prediction)
    with pytest.raises(ValueError, match="unknown task 'sise'; nearest: 'size'"):
        network.run("sise", x)


def test_a_branch_never_sees_the_input_of_another_task() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6))
    heads = nn.ModuleDict({task: nn.Linear(6, outputs) for task, outputs in (("kind", 4), ("size", 1))})
    network = MultiTaskModule(backbone, TASKS, heads=heads, branch=BranchOptions(layers=["1"]))
    (x, targets), (y, others) = samples(4), samples(6, seed=1)
    network.evaluate({"kind": (x, targets["kind"]), "size": (y, others["size"])})
    for task, inputs in (("kind", x), ("size", y)):
        norm = network.backbone.branches[task].get_submodule("1")  # type: ignore[union-attr, index]
        torch.testing.assert_close(norm.running_mean, 0.1 * backbone[0](inputs).mean(0))
        assert norm.num_batches_tracked == 1


class Keywords(nn.Module):
    num_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 5)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.second(self.first(left) * right)


@pytest.mark.parametrize("branch", [None, BranchOptions(layers=["second"])], ids=["plain", "branched"])
def test_inputs_by_name_reach_a_tasks_path_too(branch: Any) -> None:
    network = MultiTaskModule(Keywords(), TASKS, branch=branch)
    inputs = {"left": torch.randn(4, 3), "right": torch.randn(4, 5)}
    torch.testing.assert_close(network.run("size", inputs), network(inputs)["size"])


class FeaturesByTask(nn.Module):
    """A backbone that gives each task features of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({task: nn.Linear(3, 5) for task in ("kind", "size")})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {task: layer(x) for task, layer in self.layers.items()}


def test_features_by_task_go_to_the_heads_of_the_tasks_that_are_there() -> None:
    heads = nn.ModuleDict({"kind": nn.Linear(5, 4), "size": nn.Linear(5, 1)})
    network, (x, targets) = MultiTaskModule(FeaturesByTask(), TASKS, heads=heads), samples(4)
    expected = mse_loss(network(x)["size"], targets["size"])
    for batch in ((x, {"size": targets["size"]}), {"size": (x, targets["size"])}):
        evaluation = network.evaluate(batch)
        assert evaluation.keys() == {"size"}
        torch.testing.assert_close(evaluation["size"], expected)


# Evaluation ---------------------------------------------------------------------------------------


def loader(*batches: Any) -> DataLoader[Any]:
    return DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]


def test_metrics_are_of_all_labelled_samples_of_the_set(trainer: TrainerFactory) -> None:
    network, (x, targets) = module(), samples(9)
    given = gapped(targets)
    parts = [
        (x[:4], {"kind": given["kind"][:4], "size": None}),
        (x[:4], {"size": given["size"][:4]}),
        (x[4:6], {}),
        (x[4:], {task: target[4:] for task, target in given.items()}),
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*compute.* method of metric")
        warnings.filterwarnings("error", message=".*have no labels")
        (found,) = trainer().validate(network, loader(*parts), verbose=False)
    with torch.no_grad():
        predictions = network.eval()(x)
    right = predictions["kind"].argmax(1) == targets["kind"]
    assert found["val/kind/accuracy"] == pytest.approx(right[::2].double().mean().item())
    assert found["val/size/mse"] == pytest.approx(mse_loss(predictions["size"][2:], targets["size"][2:]).item())


class ByProcess(pl.LightningDataModule):
    """Sizes for the first of two processes, kinds for the second; one process has both."""

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        x, targets = samples(9)
        parts = [(x[:4], {"size": targets["size"][:4]}), (x[4:], {"kind": targets["kind"][4:]})]
        return loader(*parts[self.trainer.global_rank :: self.trainer.world_size])


def test_processes_that_have_seen_different_tasks_give_the_metrics_of_all(trainer: TrainerFactory) -> None:
    found = []
    two: dict[str, Any] = {"devices": 2, "strategy": "ddp_fork", "use_distributed_sampler": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the val data have no labels of task 'never'")
        warnings.filterwarnings("error", message=".*compute.* method of metric")  # in the forked ones too
        for options in ({}, two):
            network = module(tasks=[*TASKS, classification("never", 3)])
            found += trainer(**options).validate(network, datamodule=ByProcess(), verbose=False)
    alone, together = found
    assert math.isnan(alone.pop("val/never/accuracy"))
    assert math.isnan(together.pop("val/never/accuracy"))
    assert together == pytest.approx(alone)
    assert alone.keys() == {"val/kind/accuracy", "val/size/mse"}


class ChecksByProcess(pl.LightningDataModule):
    """Labels of one task for the first of two processes, of the other for the second."""

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        x, _ = samples(9)
        truth = torch.arange(9) % 2
        parts = [(x[:4], {"first": truth[:4]}), (x[4:], {"second": truth[4:]})]
        return loader(*parts[self.trainer.global_rank :: self.trainer.world_size])


def test_a_process_without_a_label_joins_in_metrics_that_keep_all_logits(trainer: TrainerFactory) -> None:
    found = []
    two: dict[str, Any] = {"devices": 2, "strategy": "ddp_fork", "use_distributed_sampler": False}
    for options in ({}, two):
        network = module(tasks=[binary("first"), binary("second")])
        found += trainer(**options).validate(network, datamodule=ChecksByProcess(), verbose=False)
    alone, together = found
    assert together == pytest.approx(alone) and alone["val/second/average_precision"] > 0


def test_each_tasks_own_set_is_evaluated_whole(trainer: TrainerFactory) -> None:
    network, (x, targets), (y, others) = module(), samples(9), samples(4, seed=1)
    sets = {
        "kind": loader(*zip(x.split(2), targets["kind"].split(2), strict=True)),
        "size": loader((y, others["size"])),
    }
    (found,) = trainer().test(network, CombinedLoader(sets, "max_size"), verbose=False)
    with torch.no_grad():
        kinds, sizes = network.eval()(x)["kind"].argmax(1), network(y)["size"]
    assert found["test/kind/accuracy"] == pytest.approx((kinds == targets["kind"]).double().mean().item())
    assert found["test/size/mse"] == pytest.approx(mse_loss(sizes, others["size"]).item())


def test_a_task_that_has_had_labels_before_is_named_when_it_has_none(trainer: TrainerFactory) -> None:
    network, (x, targets) = module(), samples(4)
    fit = trainer()
    fit.validate(network, loader((x, targets)), verbose=False)
    with pytest.warns(UserWarning, match=r"the val data have no labels of task 'kind', task 'size': metrics"):
        (found,) = fit.validate(network, loader((x, {})), verbose=False)
    assert all(math.isnan(value) for value in found.values())
    assert len(found) == 2


DENSE = [segmentation("seg", 3), depth("depth"), normals("normals"), depth("batches", "per_batch")]


def test_dense_tasks_with_partial_truth_or_none_have_the_metrics_of_the_rest(trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    heads = nn.ModuleDict({task.name: nn.Conv2d(2, task.outputs, 1) for task in DENSE})
    network = MultiTaskModule(nn.Conv2d(3, 2, 1), DENSE, heads=heads)
    x = torch.rand(6, 3, 4, 5)
    targets = {"seg": torch.randint(3, (6, 4, 5)), "depth": torch.rand(6, 1, 4, 5) + 1}
    targets |= {"normals": torch.rand(6, 3, 4, 5), "batches": targets["depth"].clone()}
    for target in targets.values():
        target[..., 0, :] = math.nan if target.is_floating_point() else -1
        target[2:4] = math.nan if target.is_floating_point() else -1  # nothing in the second batch
    batches = [(x[i : i + 2], {task: target[i : i + 2] for task, target in targets.items()}) for i in (0, 2, 4)]
    counts = [network.evaluate(batch).counts for batch in batches]
    assert counts == [dict.fromkeys(targets, 2 * 3 * 5), {}, dict.fromkeys(targets, 2 * 3 * 5)]
    (found,) = trainer().test(network, loader(*batches), verbose=False)
    (expected,) = trainer().test(network, loader(batches[0], batches[2]), verbose=False)
    assert found == expected
    assert all(math.isfinite(value) for value in found.values())


def test_predictions_of_each_tasks_own_inputs(trainer: TrainerFactory) -> None:
    network, (x, targets), (y, others) = module(), samples(3), samples(2, seed=1)
    sets = [loader({"kind": (x, targets["kind"])}), loader({"size": (y, others["size"]), "kind": None})]
    (first,), (second,) = trainer().predict(network, sets)  # type: ignore[misc]
    with torch.no_grad():
        assert torch.equal(first.pop("kind"), network.eval()(x)["kind"].argmax(1))
        torch.testing.assert_close(second.pop("size"), network(y)["size"])
    assert not first
    assert not second
