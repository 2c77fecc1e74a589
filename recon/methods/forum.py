"""First-order multi-gradient descent for bilevel problems (FORUM), which learns loss weights.

Ye, Lin, Cao, Zhang & Tsang, "A First-Order Multi-Gradient Algorithm for Multi-Objective Bi-Level
Optimization", ECAI 2024, algorithm 1.

    f(a, θ) = Σ s_j L_j(θ),  s = softmax(a);   θ^T  by T steps of descent along f from θ, rate η
    q(a, θ) = f(a, θ) - f(a, θ^T)  has to become 0;   F_i the losses of a validation batch
    min_{λ, ν} |Σ λ_i u_i + ν ∇q|² - ν ρ |∇q|²  over the simplex,   u_i = ∇F_i / |∇F_i|
        subject to  ν >= 0,  ν >= ρ - Σ λ_i u_i·∇q / |∇q|²
    update Σ λ_i u_i + ν ∇q  of a and θ,  ν the least that is allowed

So the network descends on all validation losses, and at least at the rate ρ on q: it stays at a
minimum of the weighted training losses. θ^T counts as a constant. The λ of the update are moving
averages, λ <- λ + (λ_now - λ) / (e + 1)^(3/4) in epoch e from 0; a moves by Adam.

Needs the losses, and a validation batch in each step (:meth:`recon.Engine.step`). The state is λ, a
and its Adam, ν, and the number of epochs. No randomness. Heads are trained like all other
parameters.

K equal losses have weights that sum to ν, 1 at first (mean scale); the length of the update is that
of the paper. A step without validation losses is ρ ∇q. As in the published code, the descent to θ^T
ends where f is above 1e5.

Works in one process, and without accumulation.
"""

from collections.abc import Mapping

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from recon.methods.base.hyperparameters import check_above, check_count, check_number
from recon.methods.base.kinds import LossMethod
from recon.methods.base.learned_weights import LearnedWeights
from recon.methods.base.look_ahead import Gradients, products
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod
from recon.methods.base.step_engine import Closure, Info, StepEngine
from recon.methods.solvers.gramian import Array
from recon.methods.solvers.simplex import among_themselves, nearest_on_simplex

_DIVERGED = 1e5
# A part of ρ below the accuracy of λ.
_ROUNDING = 1e-5


@register_method("forum")
class FORUM(StatefulMethod, LossMethod):
    """Training losses with learned weights, and the validation losses that these weights serve.

    Args:
        rho: ρ, the least rate at which q falls, > 0. The default is the published code's.
        eta: η, the rate of the descent to θ^T, >= 0. The default is the published code's.
        inner_steps: T, >= 1. The default is the published code's.
        lr: Learning rate of the Adam that moves a, >= 0. The default is the published code's.

    Example:
        >>> import torch
        >>> from recon import Engine, create_method
        >>> backbone = torch.nn.Linear(2, 1, bias=False)
        >>> engine = Engine(backbone, ["seg", "depth"], create_method("forum", eta=0.01))
        >>> optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
        >>> def losses(x):
        ...     y = backbone(x)
        ...     return {"seg": y.square().mean(), "depth": (y - 1).square().mean()}
        >>> training, held_out = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]])
        >>> info = engine.step(
        ...     lambda batch=None: losses(training), optimizer, validation=lambda: losses(held_out)
        ... )
        >>> engine.method.shares.sum()
        tensor(1., dtype=torch.float64)
    """

    evaluates_again = True
    needs_one_process = True
    needs_validation = True
    simplex: LearnedWeights
    shares: Tensor
    multiplier: Tensor
    epochs: Tensor

    def __init__(self, rho: float = 0.1, eta: float = 0.1, inner_steps: int = 5, lr: float = 1e-3) -> None:
        super().__init__()
        self.rho = check_above("forum", "rho", rho, low=0)
        self.eta = check_number("forum", "eta", eta, low=0)
        self.inner_steps = check_count("forum", "inner_steps", inner_steps, low=1)
        self.lr = check_number("forum", "lr", lr, low=0)

    def make_state(self, tasks: int) -> None:
        """Start with equal weights and equal λ, (K,), and with ν = 1."""
        self.simplex = LearnedWeights(tasks, self.lr)
        self.register_buffer("shares", torch.full((tasks,), 1 / tasks, dtype=torch.float64))
        self.register_buffer("multiplier", torch.tensor(1.0, dtype=torch.float64))
        self.register_buffer("epochs", torch.tensor(0))

    def loss_weights(self, losses: Tensor) -> Tensor:
        """ν s, (K,): the weights of the training losses."""
        return (self.multiplier * self.simplex()).to(losses)

    def end_epoch(self) -> None:
        self.epochs = self.epochs + 1

    def step(self, engine: StepEngine[Info], closure: Closure, optimizer: torch.optim.Optimizer) -> Info:
        """Find λ and ν, step the network with them, then move a."""
        with engine.perturbed([], []):  # running statistics see the plain step alone
            losses = closure()
            present = [index for index, task in enumerate(engine.tasks) if task in losses]
            weights = torch.stack([self.simplex.logits[index] for index in present]).softmax(0)
            lower = engine.weighted_gradient(losses, weights)
        if len(losses) == 1:
            return super().step(engine, closure, optimizer)
        start = {task: loss.detach() for task, loss in losses.items()}
        fall = self._fall(engine, closure, start, lower, weights)
        steepness = float((weights * (fall - weights @ fall)).square().sum())
        with engine.perturbed([], []):
            upper = engine.task_gradients(engine.validation())
        factors = self._solve(engine, upper, lower, steepness)
        optimizer.zero_grad()
        info = engine.backward(closure())
        if not info.overflow:
            engine.add_to_grad(_combination(upper, factors))
        optimizer.step()
        with self.among(present):
            self.simplex.descend(self.multiplier * fall, torch.zeros_like(fall, dtype=torch.bool))
        return info

    def _fall(
        self,
        engine: StepEngine[Info],
        closure: Closure,
        start: Mapping[str, Tensor],
        gradient: Mapping[Tensor, Tensor],
        weights: Tensor,
    ) -> Tensor:
        """The fall of each training loss from θ to θ^T, (K',).

        Args:
            engine: The engine within the step.
            closure: Evaluates the training batch.
            start: Task -> loss at θ.
            gradient: The gradient of f in θ.
            weights: s, (K',).

        Raises:
            ValueError: The descent ends where a loss is not finite.
        """
        order = [task for task in engine.tasks if task in start]
        moved = {parameter: -self.eta * slope for parameter, slope in gradient.items()}
        for _ in range(self.inner_steps - 1):
            with engine.perturbed([*moved], [*moved.values()]):
                losses = closure()
                values = torch.stack([losses[task].detach() for task in order])
                if (weights.to(values) @ values).cpu() > _DIVERGED:
                    break
                for parameter, slope in engine.weighted_gradient(losses, weights).items():
                    moved[parameter] = moved.get(parameter, 0.0) - self.eta * slope
        with engine.perturbed([*moved], [*moved.values()]), torch.no_grad():
            end = closure()
        fall = torch.stack([start[task] - end[task] for task in order]).to(self.simplex.logits)
        if not (fall.isfinite().all() or engine.overflowed):
            raise ValueError("forum: a loss after the descent to θ^T is not finite; give a smaller eta")
        return fall

    def _solve(
        self, engine: StepEngine[Info], upper: Gradients, lower: Mapping[Tensor, Tensor], steepness: float
    ) -> dict[str, float]:
        """Move λ and ν by the validation gradients.

        Args:
            engine: The engine within the step.
            upper: Validation task -> gradient.
            lower: The gradient of f in θ.
            steepness: |∇q|² in a.

        Returns:
            Validation task -> λ_i / |∇F_i|.
        """
        rows = {**upper, "": lower}
        gramian: Array = products(rows, rows, dict.fromkeys((p for row in rows.values() for p in row), 1.0)).numpy()
        if not np.isfinite(gramian).all():
            if not engine.overflowed:
                raise ValueError(f"{self}: a gradient of the training or validation batch is not finite")
            return {}
        norms = np.sqrt(gramian.diagonal()[:-1])
        inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
        cosines = inverse[:, None] * gramian[:-1, :-1] * inverse
        square = float(gramian[-1, -1]) + steepness
        along = inverse * gramian[-1, :-1] / (np.sqrt(square) or 1.0)
        if not upper:
            self.multiplier = torch.full_like(self.multiplier, self.rho)
            return {}
        tasks = [engine.tasks.index(task) for task in upper]
        share, total = among_themselves(torch.stack([self.shares[task] for task in tasks]))
        now = torch.from_numpy(best_shares(cosines, along, self.rho * np.sqrt(square))).to(share)
        share = share + (now - share) / float(self.epochs + 1) ** 0.75
        self.shares = self.shares.clone()
        for task, own in zip(tasks, share * total, strict=True):
            self.shares[task].copy_(own)
        reached = float(share.cpu().double() @ torch.from_numpy(along))
        lacking = self.rho - reached / np.sqrt(square) if square else 0.0
        # At the bound rounding decides the sign of ν, and Adam would step by its sign.
        self.multiplier = torch.full_like(self.multiplier, lacking if lacking > _ROUNDING * self.rho else 0.0)
        return dict(zip(upper, (share.cpu().numpy() * inverse).tolist(), strict=True))


def best_shares(cosines: Array, along: Array, rate: float) -> Array:
    """λ of the problem, in units of |∇q|.

    For the least ν, Σ λ_i u_i + ν ∇q reaches max(rate, λ·along) along ∇q. So the objective is

        λ'(cosines - along along')λ + v² - rate v + rate λ·along,   v = max(rate, λ·along)

    Args:
        cosines: (V, V), the products of the u_i.
        along: (V,), their parts along ∇q.
        rate: ρ |∇q|.

    Returns:
        A point of the simplex, (V,), to about six digits.

    Example:
        >>> best_shares(np.eye(2), np.array([0.0, 0.6]), rate=0.0).round(4)
        array([0.5, 0.5])
    """
    if len(along) == 1:
        return np.ones(1)
    across = cosines - np.outer(along, along)

    def objective(point: Array) -> tuple[float, Array]:
        shares, v = point[:-1], point[-1]
        turned = across @ shares
        value = shares @ turned + v * v - rate * v + rate * (shares @ along)
        return float(value), np.append(2 * turned + rate * along, 2 * v - rate)

    start = np.full(len(along), 1 / len(along))
    solved = minimize(
        objective,
        np.append(start, max(rate, float(start @ along))),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(along) + [(rate, None)],
        constraints=[
            {"type": "eq", "fun": lambda point: point[:-1].sum() - 1},
            {"type": "ineq", "fun": lambda point: point[-1] - point[:-1] @ along},
        ],
        options={"ftol": 1e-14, "maxiter": 200},
    )
    return nearest_on_simplex(solved.x[:-1])


def _combination(gradients: Gradients, factors: Mapping[str, float]) -> dict[Tensor, Tensor]:
    """The weighted sum of gradients, in each parameter that one of them reaches."""
    total: dict[Tensor, Tensor] = {}
    for task, factor in factors.items():
        for parameter, gradient in gradients[task].items():
            term = factor * gradient
            total[parameter] = total[parameter] + term if parameter in total else term
    return total
