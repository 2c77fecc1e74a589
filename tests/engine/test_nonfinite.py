"""Values that are not finite are named, with the step."""

import pytest
import torch
from torch import Tensor, nn
from two_heads import Known, TwoHeads

import recon
from recon.engine.nonfinite import FiniteWatch


@pytest.mark.parametrize("name", ["joint", "mgda"])
def test_a_loss_that_is_not_finite_names_task_and_step(name: str, x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method(name))
    engine.backward(net.losses(x))
    losses = net.losses(x)
    with pytest.raises(ValueError, match="loss of task 'b' is not finite in step 1"):
        engine.backward({"a": losses["a"], "b": losses["b"] * float("nan")})


@pytest.mark.parametrize("name", ["joint", "mgda", "graddrop"])
def test_a_gradient_that_is_not_finite_is_named(name: str) -> None:
    shared = nn.Linear(2, 2)
    engine = recon.Engine(shared, ["a", "b"], recon.create_method(name))
    x = torch.ones(1, 2)
    bad = torch.sqrt((shared(x) * 0).sum())  # finite value 0, infinite slope times zero: NaN
    with pytest.raises(ValueError, match="gradient of"):
        engine.backward({"a": shared(x).sum(), "b": bad})


def test_a_weight_that_is_not_finite_is_named_in_observed_steps_too(x: Tensor) -> None:
    class Logarithms(recon.LossMethod):
        def loss_weights(self, losses: Tensor) -> Tensor:
            return 1 / losses

        def objective(self, losses: Tensor) -> Tensor:
            return losses.log().sum()

    net = TwoHeads()
    for analyzer in (None, recon.ConflictAnalyzer(net.backbone, ["a", "b"])):
        with pytest.raises(ValueError, match="is not finite in step 0"):
            recon.backward(net.losses(x) | {"a": net.losses(x)["a"] * 0}, net.backbone, Logarithms(), analyzer)


def test_weights_beyond_the_parameters_precision_are_named(x: Tensor) -> None:
    net = TwoHeads(dtype=torch.float32)
    with pytest.raises(ValueError, match="the update of Known is not finite in step 0"):
        recon.backward(net.losses(x.float()), net.backbone, Known([1e39, 1.0]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_named(bad: float, x: Tensor) -> None:
    class Bad(recon.JacobianMethod):
        def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
            return jacobian[0] * bad

    net = TwoHeads()
    with pytest.raises(ValueError, match=r"Bad\(\) returned NaN or infinity in the update.* \(step 0; tasks"):
        recon.backward(net.losses(x), net.backbone, Bad())


def test_on_an_accelerator_the_late_report_names_the_step_and_is_made_once() -> None:
    """A watch looks now and then where a look would stall; its report must not come again."""
    watch = FiniteWatch(["the loss"])
    watch._first = torch.tensor([-1])
    watch._first.masked_fill_(torch.tensor([True]), 7)  # as noted on the device in step 7
    with pytest.raises(ValueError, match="the loss is not finite in step 7"):
        watch.check()
    watch.check()
    watch.watch(8, torch.zeros(1))
