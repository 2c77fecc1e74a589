"""Methods that learn loss weights by a look ahead: a virtual step, judged by a validation batch."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from recon.gradients.precision import in_double
from recon.methods.base.kinds import LossMethod
from recon.methods.base.state import StatefulMethod
from recon.methods.base.step_engine import Closure, Info, StepEngine

Gradients = Mapping[str, Mapping[Tensor, Tensor]]
"""Task -> parameter -> gradient."""


class LookAheadMethod(StatefulMethod, LossMethod):
    """Base of loss methods that learn their weights from validation losses after a virtual step.

    A virtual step changes each parameter θ by -r (Σ w_j ∇L_j + drift). So the slope of a validation
    loss V_t in the weight w_j is -Σ r ∇V_t·∇L_j, a sum over all parameters: exact, and without any
    second derivative.

    A step takes one more forward and K backwards of the training batch, and a forward and K
    backwards of the validation batch. Running statistics see the plain step alone.
    """

    evaluates_again = True
    needs_one_process = True
    needs_validation = True

    @abstractmethod
    def rates(self, parameters: list[Tensor], optimizer: torch.optim.Optimizer) -> list[float]:
        """The rate r of the virtual step for each parameter."""

    def drift(self, parameter: Tensor, optimizer: torch.optim.Optimizer) -> Tensor | float:
        """What the virtual step adds to a parameter's weighted gradient, such as momentum."""
        return 0.0

    @abstractmethod
    def virtual_weights(self) -> Tensor:
        """The weights w of the virtual step, (K,)."""

    @abstractmethod
    def learn(self, slopes: Tensor, tasks: list[int]) -> None:
        """Move the weights.

        Args:
            slopes: (V, K), the slope of each validation loss in each weight; float64 on the CPU.
            tasks: Index of the task of each of the V validation losses, among all tasks.
        """

    def step(self, engine: StepEngine[Info], closure: Closure, optimizer: torch.optim.Optimizer) -> Info:
        """Move the weights by a look ahead, then step the network with them."""
        with engine.perturbed([], []):
            training = engine.task_gradients(closure())
        if len(training) > 1:
            with self.among([engine.tasks.index(task) for task in training]):
                self._look_ahead(engine, training, optimizer)
        return super().step(engine, closure, optimizer)

    def _look_ahead(self, engine: StepEngine[Info], training: Gradients, optimizer: torch.optim.Optimizer) -> None:
        parameters = list(dict.fromkeys(p for gradients in training.values() for p in gradients))
        rates = dict(zip(parameters, self.rates(parameters, optimizer), strict=True))
        weights = self.virtual_weights().to(parameters[0])
        steps = []
        for parameter, rate in rates.items():
            gradients = [gradients.get(parameter) for gradients in training.values()]
            weighted = sum(w * g for w, g in zip(weights, gradients, strict=True) if g is not None)
            steps.append(-rate * (weighted + self.drift(parameter, optimizer)))
        with engine.perturbed(parameters, steps):
            validation = engine.task_gradients(engine.validation())
        if not validation:  # a batch without labels says nothing
            return
        slopes = -products(validation, training, rates)
        if slopes.isfinite().all():
            self.learn(slopes, [engine.tasks.index(task) for task in validation])
        elif not engine.overflowed:
            raise ValueError(f"{self}: a gradient of the training or validation batch is not finite")


def products(validation: Gradients, training: Gradients, rates: Mapping[Tensor, float]) -> Tensor:
    """The inner products of two sets of gradients, (V, K), each parameter times its rate.

    In float64, on the CPU.
    """
    total: Tensor | float = 0.0
    for parameter, rate in rates.items():
        rows, columns = (_stacked(parameter, gradients) for gradients in (validation, training))
        total = total + rate * (rows @ columns.T)
    assert isinstance(total, Tensor)
    return total.to("cpu", torch.float64)


def _stacked(parameter: Tensor, gradients: Gradients) -> Tensor:
    """The tasks' gradients in one parameter, (K, P)."""
    rows = [own[parameter] if parameter in own else torch.zeros_like(parameter) for own in gradients.values()]
    return in_double(torch.stack([row.detach().flatten() for row in rows]))
