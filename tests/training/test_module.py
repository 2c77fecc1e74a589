"""The LightningModule against hand-written loops and metrics."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

import recon
from recon.data import Glyphs
from recon.data.composites.module import Composites
from recon.models import LeNet
from recon.tasks.task import Task
from recon.training import ConflictCallback, MultiTaskModule
from recon.training.branch_options import BranchOptions

TrainerFactory = Callable[..., pl.Trainer]


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=3e-3)


def plain_sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def module_for(data: Glyphs, **options: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(LeNet(), data.tasks, **options)


def whole_set(data: Glyphs, split: str) -> tuple[Tensor, dict[str, Tensor]]:
    composites = data.composites(split)  # type: ignore[arg-type]
    return composites[torch.arange(len(composites))]


def displacement(before: nn.Module, after: nn.Module) -> Tensor:
    return torch.cat([(b - a).flatten() for b, a in zip(before.parameters(), after.parameters(), strict=True)]).detach()


# Training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["joint", "mgda", "pcgrad", "cagrad", "graddrop"])
def test_every_method_learns(method: str, trainer: TrainerFactory) -> None:
    data = Glyphs(train_size=128, test_size=8, batch_size=32)
    module = module_for(data, method=method, optimizer=adam)
    before = {task: loss.item() for task, loss in module.losses(whole_set(data, "train")).items()}
    trainer(max_epochs=12, limit_val_batches=0).fit(module, datamodule=data)
    after = module.losses(whole_set(data, "train"))
    assert sum(after.values()).item() < 0.95 * sum(before.values())


def test_joint_training_is_a_plain_loop_over_the_summed_loss(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    def halved(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)

    module = module_for(glyphs, scheduler=halved)
    expected = copy.deepcopy(module)
    trainer(max_epochs=3).fit(module, datamodule=glyphs)

    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.9)
    loader = glyphs.train_dataloader()
    for epoch, rate in enumerate([0.1, 0.05, 0.025]):
        optimizer.param_groups[0]["lr"] = rate
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for x, targets in loader:
            features = expected.backbone(x)
            losses = [cross_entropy(expected.heads[task](features), targets[task]) for task in ("digit", "letter")]
            optimizer.zero_grad()
            (losses[0] + losses[1]).backward()
            optimizer.step()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, expected.get_parameter(name), msg=lambda m, name=name: f"{name}: {m}")


def test_sum_scale_doubles_the_shared_update_of_a_mean_scaled_method(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    shared, heads = {}, {}
    for scale in ("method", "sum"):
        module = module_for(glyphs, method="mgda", update_scale=scale, optimizer=plain_sgd)
        start = copy.deepcopy(module)
        trainer(max_steps=1, limit_val_batches=0).fit(module, datamodule=glyphs)
        shared[scale] = displacement(start.backbone, module.backbone)
        heads[scale] = displacement(start.heads, module.heads)
    torch.testing.assert_close(shared["sum"], 2 * shared["method"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(heads["sum"], heads["method"])


class NormRecorder(torch.optim.SGD):
    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.1)
        self.norms: list[float] = []

    def step(self, closure: Any = None) -> Any:
        result = super().step(closure)  # Lightning clips in the closure
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        self.norms.append(nn.utils.get_total_norm(gradients).item())
        return result


def test_clipping_bounds_the_norm_of_the_whole_gradient_after_the_method(
    glyphs: Glyphs, trainer: TrainerFactory
) -> None:
    norms = {}
    for clip in (None, 0.01):
        module = module_for(glyphs, method="mgda", optimizer=NormRecorder, gradient_clip_val=clip)
        fit = trainer()
        fit.fit(module, datamodule=glyphs)
        norms[clip] = fit.optimizers[0].norms  # type: ignore[attr-defined]
    assert norms[0.01] == pytest.approx([0.01] * 3, rel=1e-3)
    assert min(norms[None]) > 0.02


@pytest.mark.parametrize("method", ["joint", "mgda"])
def test_an_optimizer_that_evaluates_by_itself_does_as_in_a_loop_with_an_engine(
    method: str, glyphs: Glyphs, trainer: TrainerFactory
) -> None:
    def lbfgs(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)

    module = module_for(glyphs, method=method, optimizer=lbfgs, update_scale="method")
    expected = copy.deepcopy(module)
    trainer(limit_val_batches=0).fit(module, datamodule=glyphs)
    engine = recon.Engine(expected.backbone, ["digit", "letter"], method)
    optimizer = lbfgs(expected.parameters())
    loader = glyphs.train_dataloader()
    loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
    for batch in loader:
        engine.step(lambda other=None, batch=batch: expected.losses(batch), optimizer)  # type: ignore[misc]
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, expected.get_parameter(name))


class Batches(pl.Callback):
    def __init__(self) -> None:
        self.training: list[Tensor] = []
        self.validation: list[Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.training.append(batch[0])

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, *args: Any) -> None:
        self.validation.append(batch[0])


def test_overfitting_sees_the_same_batches_in_every_epoch(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    seen = Batches()
    trainer(max_epochs=2, overfit_batches=2, callbacks=[seen]).fit(module_for(glyphs), datamodule=glyphs)
    loader = glyphs.train_dataloader()
    batches = [x for x, _ in loader][:2]
    assert torch.equal(torch.stack(seen.training), torch.stack(batches * 2))
    assert [len(x) for x in seen.validation] == [10, 10] * 2


@pytest.mark.parametrize("method", ["joint", "pcgrad", "gradvac", "graddrop", "cagrad"])
def test_a_network_in_bf16_trains(method: str, glyphs: Glyphs, trainer: TrainerFactory) -> None:
    module = module_for(glyphs, method=method)
    fit = trainer(precision="bf16-true", callbacks=[ConflictCallback()])
    fit.fit(module, datamodule=glyphs)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}
    assert 0 <= fit.callback_metrics["val/digit/accuracy"] <= 1
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_bf16_autocast_trains(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    module = module_for(glyphs, method="cagrad")
    start = copy.deepcopy(module)
    trainer(precision="bf16-mixed").fit(module, datamodule=glyphs)
    moved = displacement(start, module)
    assert moved.dtype == torch.float32
    assert moved.isfinite().all()
    assert moved.any()


def test_the_progress_bar_shows_task_losses_and_conflict_rate(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    fit = trainer(callbacks=[ConflictCallback()])
    fit.fit(module_for(glyphs), datamodule=glyphs)
    assert {"loss/digit", "loss/letter", "conflict"} <= fit.progress_bar_metrics.keys()
    assert 0 <= fit.progress_bar_metrics["conflict"] <= 1


def test_one_task_trains_alone_whatever_the_method(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    module = module_for(glyphs, only=["letter"], method="cagrad")
    assert list(module.heads) == ["letter"]
    fit = trainer()
    fit.fit(module, datamodule=glyphs)
    assert list(fit.test(module, datamodule=glyphs, verbose=False)[0]) == ["test/letter/accuracy"]


class Uncertainty(recon.LossMethod):
    """Learnable log-variances, as in uncertainty weighting."""

    scale = "sum"

    def __init__(self) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(2))

    def loss_weights(self, losses: Tensor) -> Tensor:
        return torch.exp(-self.log_variances)

    def objective(self, losses: Tensor) -> Tensor:
        return (self.loss_weights(losses) * losses + self.log_variances).sum()


def test_learnable_parameters_of_a_method_are_trained_and_saved(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    method = Uncertainty()
    fit = trainer()
    fit.fit(module_for(glyphs, method=method), datamodule=glyphs)
    assert any(p is method.log_variances for group in fit.optimizers[0].param_groups for p in group["params"])
    assert method.log_variances.all()
    fit.save_checkpoint(f"{fit.default_root_dir}/a.ckpt")
    saved = torch.load(f"{fit.default_root_dir}/a.ckpt")
    assert torch.equal(saved["state_dict"]["method.log_variances"], method.log_variances)


def test_at_the_representation_training_is_a_plain_loop_over_the_features_gradients(
    glyphs: Glyphs, trainer: TrainerFactory
) -> None:
    module = module_for(glyphs, method="mgda", at="representation", optimizer=plain_sgd, update_scale="method")
    expected = copy.deepcopy(module)
    trainer(limit_val_batches=0).fit(module, datamodule=glyphs)

    method, optimizer = recon.create_method("mgda"), plain_sgd(expected.parameters())
    loader = glyphs.train_dataloader()
    loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
    for x, targets in loader:
        features = expected.backbone(x)
        cut = features.detach().requires_grad_()
        optimizer.zero_grad()
        rows = []
        for task in ("digit", "letter"):
            cross_entropy(expected.heads[task](cut), targets[task]).backward()
            rows.append(cut.grad.flatten())  # type: ignore[union-attr]
            cut.grad = None
        jacobian = torch.stack(rows)
        features.backward(method.combine(jacobian).view_as(features))
        optimizer.step()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, expected.get_parameter(name), rtol=1e-4, atol=1e-6)


def test_in_the_memory_of_one_gradient_training_is_the_same(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    module = module_for(glyphs, method="mgda", memory="gramian", optimizer=plain_sgd)
    expected = module_for(glyphs, method="mgda", optimizer=plain_sgd)
    expected.load_state_dict(module.state_dict())
    for each in (module, expected):
        trainer(limit_val_batches=0).fit(each, datamodule=glyphs)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, expected.get_parameter(name), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="takes whole batches"):
        trainer(accumulate_grad_batches=2).fit(module, datamodule=glyphs)
    with pytest.raises(ValueError, match="GradDrop combines the task gradients themselves"):
        module_for(glyphs, method="graddrop", memory="gramian")


def test_with_a_group_for_each_layer_training_is_a_plain_loop_over_the_layers(
    glyphs: Glyphs, trainer: TrainerFactory
) -> None:
    module = module_for(glyphs, method="mgda", granularity="layer", optimizer=plain_sgd, update_scale="method")
    expected = copy.deepcopy(module)
    trainer(limit_val_batches=0).fit(module, datamodule=glyphs)

    method, optimizer = recon.create_method("mgda"), plain_sgd(expected.parameters())
    loader = glyphs.train_dataloader()
    loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
    for x, targets in loader:
        optimizer.zero_grad()
        losses = {task: cross_entropy(expected(x)[task], targets[task]) for task in ("digit", "letter")}
        for task, loss in losses.items():
            loss.backward(inputs=[*expected.heads[task].parameters()], retain_graph=True)
        for layer in (expected.backbone.conv1, expected.backbone.conv2, expected.backbone.fc):
            own = [*layer.parameters()]
            rows = [torch.autograd.grad(loss, own, retain_graph=True) for loss in losses.values()]
            update = method.combine(torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]))
            for parameter, part in zip(own, update.split([p.numel() for p in own]), strict=True):
                parameter.grad = part.view_as(parameter)
        optimizer.step()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, expected.get_parameter(name), rtol=1e-4, atol=1e-6)


def test_fmtl_trains_and_leaves_one_update_of_statistics_a_step(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(LeNet(), nn.BatchNorm1d(50))
    backbone.num_features = 50
    module = MultiTaskModule(backbone, glyphs.tasks, method="fmtl", method_options={"method": "mgda", "rho": 0.1})
    start = copy.deepcopy(module)
    fit = trainer(callbacks=[ConflictCallback()])
    fit.fit(module, datamodule=glyphs)
    assert backbone[1].num_batches_tracked == fit.global_step == 3
    assert displacement(start, module).isfinite().all()
    assert displacement(start.heads, module.heads).any()


# Evaluation ---------------------------------------------------------------------------------------


def two_metrics(name: str) -> Task:
    """Micro accuracy and macro F1: not means over batches of their values, and torchmetrics lets them share state."""

    def metrics() -> dict[str, Any]:
        return {"accuracy": MulticlassAccuracy(10, average="micro"), "f1": MulticlassF1Score(10, average="macro")}

    return Task(name, cross_entropy, metrics, 10)


def test_metrics_are_those_of_the_whole_set(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    glyphs.tasks = [two_metrics("digit"), two_metrics("letter")]
    module = module_for(glyphs)
    fit = trainer()
    fit.fit(module, datamodule=glyphs)
    values = {**fit.validate(module, datamodule=glyphs, verbose=False)[0]}
    values |= fit.test(module, datamodule=glyphs, verbose=False)[0]
    x, targets = whole_set(glyphs, "test")
    with torch.no_grad():
        predictions = module.eval()(x)
    for stage in ("val", "test"):
        for task, labels in targets.items():
            guesses = predictions[task].argmax(1)
            assert values[f"{stage}/{task}/accuracy"] == pytest.approx((guesses == labels).double().mean().item())
            assert values[f"{stage}/{task}/f1"] == pytest.approx(macro_f1(guesses, labels))


def macro_f1(guesses: Tensor, labels: Tensor) -> float:
    """Mean over the classes that occur in either, in counts."""
    scores = []
    for c in range(10):
        hits, wrong = ((guesses == c) & (labels == c)).sum().item(), ((guesses == c) ^ (labels == c)).sum().item()
        if hits + wrong:
            scores.append(2 * hits / (2 * hits + wrong))
    return sum(scores) / len(scores)


def test_metrics_start_anew_each_epoch(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    module = module_for(glyphs)
    fit = trainer(max_epochs=2)
    fit.fit(module, datamodule=glyphs)
    last = {key: value.item() for key, value in fit.callback_metrics.items() if key.startswith("val/")}
    assert last == pytest.approx(fit.validate(module, datamodule=glyphs, verbose=False)[0])


# Bad input ----------------------------------------------------------------------------------------


class Untouched(Glyphs):
    """Data that fail as soon as anybody begins to work with them."""

    def prepare_data(self) -> None:
        raise AssertionError("data were prepared")

    def setup(self, stage: str) -> None:
        raise AssertionError("data were set up")


def test_a_strategy_that_cannot_work_is_refused_before_any_work(
    trainer: TrainerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")  # as a launcher sets it, so that Lightning starts no process
    data = Untouched(train_size=8, test_size=8)
    hooked = DDPStrategy(ddp_comm_hook=lambda state, bucket: None)
    with pytest.raises(ValueError, match=r"ddp_comm_hook.*leave it out"):
        trainer(strategy=hooked, devices=1).fit(module_for(data), datamodule=data)


def test_what_is_refused_in_training_does_not_matter_in_a_test(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    trainer(accumulate_grad_batches=2).test(module_for(glyphs, method="famo"), datamodule=glyphs, verbose=False)


class WithoutLetters(Glyphs):
    def compose(self, split: Any) -> Composites:
        composites = super().compose(split)
        return Composites(composites.images, {"digit": composites.targets["digit"]})


@pytest.mark.parametrize(("work", "stage"), [("validate", "val"), ("test", "test")])
def test_a_task_without_labels_in_a_whole_set_is_named_and_has_no_metrics(
    work: str, stage: str, trainer: TrainerFactory
) -> None:
    data = WithoutLetters(train_size=8, test_size=8)
    with pytest.warns(UserWarning, match=f"the {stage} data have no labels of task 'letter': metrics of it are NaN"):
        (found,) = getattr(trainer(), work)(module_for(data), datamodule=data, verbose=False)
    assert found.keys() == {f"{stage}/digit/accuracy", f"{stage}/letter/accuracy"}
    assert math.isnan(found[f"{stage}/letter/accuracy"])
    assert found[f"{stage}/digit/accuracy"] >= 0


def test_unknown_names_suggest_the_nearest(glyphs: Glyphs) -> None:
    with pytest.raises(ValueError, match="unknown task 'digits'; nearest: 'digit'"):
        module_for(glyphs, only=["digits"])
    with pytest.raises(ValueError, match="unknown method 'pcgrd'; nearest: 'pcgrad'"):
        module_for(glyphs, method="pcgrd")
    with pytest.raises(ValueError, match="unknown hyperparameter 'leek' in method 'graddrop'; nearest: 'leak'"):
        module_for(glyphs, method="graddrop", method_options={"leek": 0.1})


def test_parts_that_do_not_fit_are_refused(glyphs: Glyphs) -> None:
    with pytest.raises(ValueError, match="given more than once"):
        MultiTaskModule(LeNet(), [*glyphs.tasks, glyphs.tasks[0]])
    with pytest.raises(ValueError, match="Linear does not say its num_features"):
        MultiTaskModule(nn.Linear(2, 2), glyphs.tasks)
    with pytest.raises(ValueError, match=r"heads has no \['letter'\]"):
        MultiTaskModule(LeNet(), glyphs.tasks, heads=nn.ModuleDict({"digit": nn.Linear(50, 10)}))
    with pytest.raises(ValueError, match="gradient_clip_val=0 must be a positive norm"):
        MultiTaskModule(LeNet(), glyphs.tasks, gradient_clip_val=0)


def test_representation_mode_is_refused_before_any_work_where_it_has_no_meaning(glyphs: Glyphs) -> None:
    with pytest.raises(ValueError, match="GradDrop needs the Jacobian"):
        module_for(glyphs, method="graddrop", at="representation")
    with pytest.raises(ValueError, match="Joint weights losses"):
        module_for(glyphs, at="representation")
    with pytest.raises(ValueError, match="branched network"):
        module_for(glyphs, method="mgda", at="representation", branch=BranchOptions(layers=["fc"]))
    assert module_for(glyphs, only=["digit"], at="representation").at == "representation"


def test_groups_of_layers_are_refused_before_any_work_where_they_have_no_meaning(glyphs: Glyphs) -> None:
    with pytest.raises(ValueError, match="Joint weights losses, which are the same in every layer"):
        module_for(glyphs, granularity="layer")
    with pytest.raises(ValueError, match=r"unknown layer 'conv3' in group 'stem' of LeNet; nearest: 'conv2', 'conv1'"):
        module_for(glyphs, method="mgda", granularity={"stem": ["conv1", "conv3"]})
    with pytest.raises(ValueError, match="at='representation' weights the gradients of the features"):
        module_for(glyphs, method="mgda", granularity="layer", at="representation")
    branched = module_for(
        glyphs, method="modo", granularity={"ends": ["conv1", "fc"]}, branch=BranchOptions(layers=["fc"])
    )
    assert branched.state_dict()["method.simplex_weights"].shape == (2, 2)
    assert module_for(glyphs, only=["digit"], granularity="layer").granularity == "layer"


def test_the_optimizer_can_be_made_without_a_trainer(glyphs: Glyphs) -> None:
    module = module_for(glyphs)
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == [id(p) for p in module.parameters()]
