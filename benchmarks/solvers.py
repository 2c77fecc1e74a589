"""Time and residual of every Gramian method's solver, TorchJD's beside it.

    OMP_NUM_THREADS=1 python benchmarks/solvers.py
    OMP_NUM_THREADS=1 python benchmarks/solvers.py --tasks [2, 40] --rounds 50
    OMP_NUM_THREADS=1 python benchmarks/solvers.py --groups 41 --tasks [2, 3]

Each round draws five Jacobians for each K (normal entries around a common direction, rows of
unequal norm) and has every method find the weights for their Gramians one after the other, ours and
TorchJD's in turn: a machine whose speed drifts slows all alike, and no solver meets an input twice.
Printed are medians in microseconds, and the largest residual of the equations or optimality
conditions that define the method's weights, where there are any:

    mgda               (|x|² - min g_i·x) / mean |g_i|²
    cagrad             (dual - worst-served task) / |g_0|²
    nash_mtl           max a_i (G a)_i / mean - 1, in absolute value
    fairgrad           max a_i (G a)_i - 1, in absolute value
    upgrad, dualproj   worst conflict: max -g_i·d / (|g_i| |g_0|)
    imtl_g             max d·g_i / |g_i| / mean - 1, in absolute value

With `--groups` it prints another table for each K: the time in milliseconds to find the weights for
that many Gramians, those of the layers of a network, in one call and one by one.

Last come ours at the largest K beside processes that keep every core busy, as data workers or a
second run do: with the threads of the environment (leave OMP_NUM_THREADS out to see the default)
and with one for all linear algebra, in turn.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter

import torch
from jsonargparse import auto_cli
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torchjd import aggregation

import recon
from recon.methods import GramianMethod, StatefulMethod

Solver = Callable[[Tensor], Tensor]
Residual = Callable[[Tensor, Tensor], Tensor]
_IN_A_ROW = 5


def nothing(gramian: Tensor, weights: Tensor) -> Tensor:
    """Residual of methods whose weights are a formula, or the outcome of a published procedure."""
    return torch.tensor(float("nan"))


def mgda(gramian: Tensor, weights: Tensor) -> Tensor:
    products = gramian @ weights
    return (weights @ products - products.min()) / gramian.diagonal().mean()


def cagrad(gramian: Tensor, weights: Tensor) -> Tensor:
    mean_square, shares = gramian.mean(), weights - 1 / len(weights)
    shares = shares / shares.sum()
    dual = shares @ gramian.mean(1) + 0.4 * (mean_square * (shares @ gramian @ shares)).sqrt()
    return (dual - (gramian @ weights).min()) / mean_square


def nash_mtl(gramian: Tensor, weights: Tensor) -> Tensor:
    gains = weights * (gramian @ weights)
    return (gains / gains.mean() - 1).abs().max()


def fairgrad(gramian: Tensor, weights: Tensor) -> Tensor:
    return (weights * (gramian @ weights) - 1).abs().max()


def conflict(gramian: Tensor, weights: Tensor) -> Tensor:
    return (-(gramian @ weights) / gramian.diagonal().sqrt()).max().clamp(min=0) / gramian.mean().sqrt()


def imtl_g(gramian: Tensor, weights: Tensor) -> Tensor:
    gains = gramian @ weights / gramian.diagonal().sqrt()
    return (gains / gains.mean() - 1).abs().max()


@dataclass
class Row:
    """One method: ours and TorchJD's for K tasks, and the residual of the weights."""

    ours: Callable[[], GramianMethod]
    theirs: Callable[[int], Solver] | None = None
    residual: Residual = nothing
    from_jacobian: bool = False


def ours(name: str, **options: object) -> Callable[[], GramianMethod]:
    return lambda: recon.create_method(name, **options)  # type: ignore[return-value]


ROWS: dict[str, Row] = {
    "mgda": Row(ours("mgda"), lambda k: aggregation.MGDAWeighting(), mgda),
    "pcgrad": Row(ours("pcgrad"), lambda k: aggregation.PCGradWeighting()),
    "cagrad": Row(ours("cagrad", c=0.4, rescale=0), lambda k: aggregation.CAGradWeighting(c=0.4), cagrad),
    "imtl_g": Row(ours("imtl_g"), lambda k: aggregation.IMTLGWeighting(), imtl_g),
    "gradvac": Row(ours("gradvac"), lambda k: aggregation.GradVacWeighting()),
    "nash_mtl": Row(
        ours("nash_mtl", max_norm=None),
        lambda k: aggregation.NashMTL(n_tasks=k, max_norm=0.0, update_weights_every=1, optim_niter=20).weighting,
        nash_mtl,
        from_jacobian=True,
    ),
    "aligned_mtl": Row(ours("aligned_mtl"), lambda k: aggregation.AlignedMTLWeighting()),
    "fairgrad": Row(ours("fairgrad"), lambda k: aggregation.FairGradWeighting(alpha=1.0), fairgrad),
    "upgrad": Row(ours("upgrad"), lambda k: aggregation.UPGradWeighting(), conflict),
    "dualproj": Row(ours("dualproj"), lambda k: aggregation.DualProjWeighting(), conflict),
    "sdmgrad": Row(ours("sdmgrad"), lambda k: aggregation.SDMGradWeighting()),
    "modo": Row(ours("modo"), lambda k: aggregation.MoDoWeighting()),
    "krum": Row(ours("krum"), lambda k: aggregation.KrumWeighting(n_byzantine=0)),
    "constant": Row(ours("constant")),
    "cr_mogm": Row(ours("cr_mogm"), lambda k: aggregation.CRMOGMWeighting(aggregation.MGDAWeighting())),
    "psmgd": Row(ours("psmgd")),
}


def draw(tasks: int, generator: torch.Generator) -> Tensor:
    """A (K, 5 K + 5) Jacobian: cosines around 0.1 and of both signs, norms over two decades."""
    jacobian = torch.randn(tasks, 5 * tasks + 5, generator=generator, dtype=torch.float64)
    jacobian += 0.3 * torch.randn(5 * tasks + 5, generator=generator, dtype=torch.float64)
    return jacobian * 10 ** (2 * torch.rand(tasks, 1, generator=generator, dtype=torch.float64) - 1)


def measure(tasks: int, rounds: int, generator: torch.Generator) -> dict[str, tuple[float, float, float, float]]:
    """Name -> microseconds and largest residual, ours and TorchJD's (NaN where it has none)."""
    chosen = {name: row for name, row in ROWS.items() if not (name == "krum" and tasks < 3)}
    pairs = {name: (row.ours().weights, row.theirs(tasks) if row.theirs else None) for name, row in chosen.items()}
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in chosen}
    residuals: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in chosen}
    for _ in range(rounds + 1):
        jacobians = [draw(tasks, generator) for _ in range(_IN_A_ROW)]
        gramians = [jacobian @ jacobian.T for jacobian in jacobians]
        for name, row in chosen.items():
            for side, solver in enumerate(pairs[name]):
                if solver is None:
                    continue
                weights = []
                for argument in jacobians if side == 1 and row.from_jacobian else gramians:
                    start = perf_counter()
                    weights.append(solver(argument))
                    seconds[name][side].append(perf_counter() - start)
                residuals[name][side].extend(map(float, map(row.residual, gramians, weights)))
    return {
        name: (
            1e6 * median(seconds[name][0][_IN_A_ROW:]),
            max(residuals[name][0]),
            1e6 * median(seconds[name][1][_IN_A_ROW:]) if seconds[name][1] else float("nan"),
            max(residuals[name][1], default=float("nan")),
        )
        for name in chosen
    }


def measure_groups(
    groups: int, tasks: int, rounds: int, generator: torch.Generator
) -> dict[str, tuple[float, float, float]]:
    """Name -> milliseconds for many Gramians in one call and one by one; largest difference."""
    names = [name for name in ROWS if not (name == "krum" and tasks < 3)]
    together, alone = ({name: ROWS[name].ours() for name in names} for _ in range(2))
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    differences = {name: float("nan") if isinstance(together[name], StatefulMethod) else 0.0 for name in names}
    for count in range(rounds + 1):
        gramians = torch.stack([jacobian @ jacobian.T for jacobian in (draw(tasks, generator) for _ in range(groups))])
        for name in names:
            sides = (together[name].weights_of_groups, lambda g, own=alone[name]: torch.stack([*map(own.weights, g)]))
            weights = []
            for side, solver in enumerate(sides):
                start = perf_counter()
                weights.append(solver(gramians))
                if count > 0:
                    seconds[name][side].append(perf_counter() - start)
            relative = (weights[0] - weights[1]).abs() / weights[1].abs().amax(dim=1, keepdim=True)
            differences[name] = max(differences[name], relative.max().item())  # stays NaN for methods with state
    return {name: (*(1e3 * median(side) for side in seconds[name]), differences[name]) for name in names}


@contextmanager
def busy_machine() -> Iterator[None]:
    """A process for each core that does nothing but take time, for a ``with`` block."""
    workers = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def measure_threads(tasks: int, rounds: int, generator: torch.Generator) -> dict[str, tuple[list[float], list[float]]]:
    """Name -> microseconds of ours with the threads of the environment, and with one."""
    libraries = ThreadpoolController().select(user_api="blas")
    contexts: list[Callable[[], AbstractContextManager[object]]] = [nullcontext, lambda: libraries.limit(limits=1)]
    solvers = {name: row.ours().weights for name, row in ROWS.items() if not (name == "krum" and tasks < 3)}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in solvers}
    for count in range(rounds + 1):
        gramians = [jacobian @ jacobian.T for jacobian in (draw(tasks, generator) for _ in range(_IN_A_ROW))]
        for name, solver in solvers.items():
            for side, context in enumerate(contexts):
                with context():
                    for gramian in gramians:
                        start = perf_counter()
                        solver(gramian)
                        if count > 0:
                            times[name][side].append(1e6 * (perf_counter() - start))
    return times


def main(
    tasks: tuple[int, ...] = (2, 3, 5, 10, 40), rounds: int = 30, seed: int = 0, groups: int | None = None
) -> None:
    """Print one table for each number of tasks.

    Args:
        tasks: Numbers of tasks.
        rounds: Rounds counted, after one that is not.
        seed: Seed of the Jacobians.
        groups: Number of Gramians to weigh in one call, in place of the tables of single ones.
    """
    generator = torch.Generator().manual_seed(seed)
    if groups is not None:
        for count in tasks:
            _print_groups(groups, count, measure_groups(groups, count, rounds, generator))
        return
    for count in tasks:
        print(f"K = {count}, {rounds} rounds{'ours':>21}{'residual':>12}{'TorchJD':>12}{'residual':>12}")
        for name, figures in measure(count, rounds, generator).items():
            time, residual, their_time, their_residual = figures
            print(
                f"{name:20}{_shown(time, '.0f', ' us'):>15}{_shown(residual, '.0e'):>12}"
                f"{_shown(their_time, '.0f', ' us'):>12}{_shown(their_residual, '.0e'):>12}"
            )
    print(f"K = {max(tasks)}, all cores busy{'default':>10}{'90 %':>12}{'one thread':>14}{'90 %':>12}")
    with busy_machine():
        for name, sides in measure_threads(max(tasks), rounds, generator).items():
            figures = [figure for side in sides for figure in (median(side), quantiles(side, n=10)[-1])]
            cells = [f"{figure:>{width}.0f} us" for figure, width in zip(figures, (9, 9, 11, 9), strict=True)]
            print(f"{name:20}{''.join(cells)}")


def _print_groups(groups: int, tasks: int, figures: dict[str, tuple[float, float, float]]) -> None:
    print(f"K = {tasks}, {groups} groups{'one call':>22}{'one by one':>14}{'difference':>12}")
    for name, (together, alone, difference) in figures.items():
        print(f"{name:20}{together:>14.2f} ms{alone:>11.2f} ms{_shown(difference, '.0e'):>12}")


def _shown(value: float, form: str, unit: str = "") -> str:
    return "" if value != value else f"{value:{form}}{unit}"


if __name__ == "__main__":
    auto_cli(main)
