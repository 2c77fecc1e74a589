"""Two conflicting objectives in the plane: where each method ends, from five starts.

The toy problem of Liu et al., "Conflict-Averse Gradient Descent for Multi-Task Learning" (CAGrad),
NeurIPS 2021, with the starts and the small first objective of Navon et al., "Multi-Task Learning as
a Bargaining Game" (Nash-MTL), ICML 2022. Each method trains a network of two parameters x, y with
:class:`recon.Engine` and Adam, like any other network.

    f_1 = tanh(-y/2) (((x - 7)² + (y + 8)²/10) / 10 - 20)         y <= 0: a bowl around (7, -8)
    f_1 = tanh(y/2) (log max(|x + 7 - 2 tanh y| / 2, 5e-6) + 6)   y > 0: a valley, methods stick
    f_2(x, y) = f_1(-x, y);   L_1 = (f_1 + 20) / 10,   L_2 = f_2 + 20

The 20 is ours, as several methods need positive losses; it has no gradient. The papers take 35,000
to 100,000 steps at rate 0.001. A twentieth of the steps at twenty times the rate, with a second
moment that forgets twenty times sooner, ends near the same places.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tabulate import tabulate
from torch import Tensor, nn

from recon.engine.engine import Engine
from recon.files.atomic import atomic_path, check_writable, write_atomically
from recon.methods import Method, create_method, list_methods
from recon.methods.base.registry import method_name
from recon.progress import counted

Array = NDArray[np.float64]

STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
STEPS = 2000
LEARNING_RATE, BETAS = 0.02, (0.9, 0.98)
EPOCH = 100
"""Steps after which methods that go by epochs are told that one is over."""
REACHED = 0.005
"""A path has reached the Pareto front if its end's :func:`gap` is at most this."""

_SIDES = torch.tensor([1.0, -1.0], dtype=torch.float64)
_SCALES = torch.tensor([0.1, 1.0], dtype=torch.float64)
_COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3")


def objectives(points: Tensor) -> Tensor:
    """f_1 and f_2 of points (..., 2): (..., 2).

    >>> objectives(torch.tensor([7.0, -8.0])).round(decimals=1).tolist()
    [-20.0, -0.4]
    """
    x, y = points[..., :1] * _SIDES, points[..., 1:]
    valley = ((x + 7) / 2 - y.tanh()).abs().clamp(min=5e-6).log() + 6
    bowl = ((x - 7) ** 2 + (y + 8) ** 2 / 10) / 10 - 20
    height = torch.where(y > 0, y, -y)  # not y.abs(), which has no slope at 0, where a path starts
    return (height / 2).tanh() * torch.where(y > 0, valley, bowl)


def pareto_front(points: int = 4001) -> Array:
    """Points (N, 2) of the Pareto front, evenly in x from -7 to 7.

    There w f_1 + (1 - w) f_2 is stationary: in x where w = (x + 7) / 14, in y at a fixed point.
    """
    x = np.linspace(-7, 7, points)
    y = np.full_like(x, -8.4)
    for _ in range(60):  # a contraction by about 0.4
        bowl = (49 - x**2 + (y + 8) ** 2 / 10) / 10 - 20
        y = -8 + 50 * bowl / np.sinh(-y)
    return np.stack([x, y], axis=1)


def gap(points: Array) -> Array:
    """Distance (N,) of points (N, 2) from the Pareto front, in the objectives.

    The largest amount by which one Pareto point is better in both objectives at once, in units of
    an objective's range over the front; 0 on the front.

    >>> gap(np.array([[0.0, 0.0], [-7.0, -8.4]])).round(2).tolist()
    [0.77, 0.0]
    """
    front = objectives(torch.from_numpy(pareto_front())).T.numpy()
    values = objectives(torch.from_numpy(points)).T.numpy()
    better = np.minimum(*(values[:, :, None] - front[:, None])).max(axis=1)
    return better.clip(min=0) / np.ptp(front)


class Point(nn.Module):
    """A network of two parameters."""

    def __init__(self, start: tuple[float, float]) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def losses(self, batch: object = None) -> dict[str, Tensor]:
        """L_1 and L_2 here."""
        first, second = _SCALES * (objectives(self.at) + 20)
        return {"first": first, "second": second}


def path(method: Method, start: tuple[float, float], steps: int = STEPS) -> Array:
    """The path of a fresh method: points (steps + 1, 2).

    Raises:
        ValueError: It refuses two tasks.
    """
    point = Point(start)
    engine = Engine(point, ["first", "second"], method)
    optimizer = torch.optim.Adam([*point.parameters(), *method.parameters()], lr=LEARNING_RATE, betas=BETAS)
    points = [point.at.tolist()]
    for step in range(1, steps + 1):
        engine.step(point.losses, optimizer, validation=point.losses)
        points.append(point.at.tolist())
        if step % EPOCH == 0:
            method.end_epoch()
    return np.array(points)


@dataclass
class Paths:
    """The paths of methods, and the reasons why some methods have none.

    Attributes:
        taken: Method -> its paths (starts, steps + 1, 2).
        left_out: Method -> why it does not work here.
    """

    taken: dict[str, Array]
    left_out: dict[str, str]


def walk(methods: Sequence[str], steps: int = STEPS) -> Paths:
    """Take the paths of methods with default hyperparameters from all starts; show progress."""
    paths = Paths({}, {})
    for name in counted(methods, "toy", "method"):
        try:
            paths.taken[name] = np.stack([path(create_method(name), start, steps) for start in STARTS])
        except (ImportError, TypeError, ValueError) as error:
            paths.left_out[name] = str(error)
    return paths


def ends_table(paths: Paths, steps: int) -> str:
    """The ends of the paths as a Markdown page: for each method and start x, y and the gap."""
    starts = [f"from ({x:g}, {y:g})" for x, y in STARTS]
    rows = [_ends(name, taken) for name, taken in paths.taken.items()]
    alignment = ["left", *("right" for _ in ("reached", *starts))]
    lines = [
        "# Where each method ends on the toy problem",
        "",
        "For each start x, y and the gap in the end: by how much some Pareto point is better in both objectives at "
        "once, in percent of an objective's range over the Pareto front. *Reached*: from how many starts it is at most "
        f"{REACHED:.1%}. Adam at {LEARNING_RATE}, {steps:,} steps; methods with their default hyperparameters.",
        "",
        tabulate(rows, ["method", "reached", *starts], tablefmt="pipe", colalign=alignment),
    ]
    if paths.left_out:
        lines += ["", "Left out:", ""]
        lines += [f"* `{name}`: {reason}" for name, reason in paths.left_out.items()]
    return "\n".join(lines) + "\n"


def _ends(method: str, taken: Array) -> list[str]:
    """A row of the table."""
    ends, gaps = taken[:, -1], gap(taken[:, -1])
    cells = [f"{x:.2f}, {y:.2f} ({part:.1%})" for (x, y), part in zip(ends, gaps, strict=True)]
    return [f"`{method}`", f"{reached(taken)} of {len(STARTS)}", *cells]


def reached(taken: Array) -> int:
    """Number of the paths (starts, steps + 1, 2) that have reached the Pareto front."""
    return int((gap(taken[:, -1]) <= REACHED).sum())


def panels(taken: Mapping[str, Array]) -> Figure:
    """One panel a method: its paths over contours of the mean loss, and the Pareto front."""
    columns = min(7, len(taken))
    rows = -(-len(taken) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.3 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, (name, paths) in zip(figure.axes, taken.items(), strict=False):
        _draw(axes, paths)
        axes.set_title(f"{name}: {reached(paths)} of {len(paths)}", fontsize=9)
    figure.supxlabel("dot: start, star: end, grey: Pareto front", fontsize=8)
    return figure


def _draw(axes: Axes, paths: Array) -> None:
    axes.set_axis_on()
    ticks = np.linspace(-11, 11, 221)
    grid = torch.from_numpy(np.stack(np.meshgrid(ticks, ticks), axis=-1))
    mean = (_SCALES * objectives(grid)).mean(dim=-1).numpy()
    axes.contour(ticks, ticks, mean, levels=12, colors="0.8", linestyles="solid", linewidths=0.5)
    axes.plot(*pareto_front().T, color="#b0b0b0", linewidth=4, solid_capstyle="round")
    for points, colour in zip(paths, _COLOURS, strict=True):
        axes.plot(*points.T, color=colour, linewidth=1)
        axes.plot(*points[0], "o", color="black", markersize=3)
        axes.plot(*points[-1], "*", color=colour, markeredgecolor="black", markeredgewidth=0.4, markersize=7, zorder=3)
    axes.set(xlim=(-11, 11), ylim=(-11, 11), xticks=[], yticks=[], aspect="equal")


def toy(out: Path, methods: Sequence[str] | None = None, steps: int = STEPS) -> list[Path]:
    """Write the ends of paths as ``ends.md``, and the paths as ``paths.png``.

    Args:
        out: Folder for them.
        methods: Names of methods, as ``create_method`` takes them; by default all registered ones.
        steps: Steps from each start.

    Returns:
        The files.

    Raises:
        ValueError: A method is unknown, none of them works here, or ``steps`` is less than one.
        TypeError: A name is not a string.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; take at least one")
    check_writable(out / "ends.md", "--out")
    paths = walk(list_methods() if methods is None else [method_name(name) for name in methods], steps)
    if not paths.taken:
        raise ValueError("; ".join(paths.left_out.values()))
    write_atomically(out / "ends.md", ends_table(paths, steps))
    with atomic_path(out / "paths.png") as temporary:
        panels(paths.taken).savefig(temporary, dpi=150, format="png")
    return [out / "ends.md", out / "paths.png"]
