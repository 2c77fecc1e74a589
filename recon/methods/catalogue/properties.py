"""The properties that each method promises of its update.

The documentation prints this table, and the tests check it entry by entry. A user's own method
needs no entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Property = Literal[
    "alone",
    "agreeing",
    "calibrated",
    "order-free",
    "non-negative",
    "non-conflicting",
    "bounded",
    "mean-bounded",
    "homogeneous",
    "linear",
    "impartial",
    "stops",
    "stops early",
    "memoryless",
]

MEANING: dict[Property, str] = {
    "alone": "The update of a single task is its gradient.",
    "agreeing": "Equal task gradients give an update along them.",
    "calibrated": "K equal task gradients g give K g if the method's scale is `sum`, g if it is `mean`.",
    "order-free": "The order of the tasks does not matter.",
    "non-negative": "No task gradient enters with a negative weight.",
    "non-conflicting": "To first order the update harms no task: its inner product with no task gradient is negative.",
    "bounded": "The update is no longer than the longest task gradient, or K times that if the scale is `sum`.",
    "mean-bounded": "The update is no longer than the mean of the task gradients, or their sum if the scale is `sum`.",
    "homogeneous": "All gradients times c > 0 give the update times c.",
    "linear": "The update is linear in positive factors of single task gradients.",
    "impartial": "Positive factors of single task gradients do not turn the update.",
    "stops": "The update is zero where a combination of the gradients with positive weights vanishes.",
    "stops early": "The update is zero where a convex combination of nonzero gradients vanishes (Pareto-stationary).",
    "memoryless": "The update depends only on the present gradients and losses: no state, no randomness.",
}


@dataclass(frozen=True)
class Entry:
    """A method with some hyperparameters, and the properties that it promises.

    Every update is finite for finite gradients; the entry promises more.

    Attributes:
        method: Registered name.
        properties: Keys of :data:`MEANING`.
        options: Hyperparameters that differ from the defaults.
        least_tasks: The smallest number of tasks that the method accepts.
    """

    method: str
    properties: frozenset[Property]
    options: Mapping[str, Any] = field(default_factory=dict)
    least_tasks: int = 1

    @property
    def label(self) -> str:
        """Name and hyperparameters, as in ``cagrad(c=1.5)``."""
        listed = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.method}({listed})" if listed else self.method


def _entry(method: str, *properties: Property, least_tasks: int = 1, **options: Any) -> Entry:
    unknown = set(properties) - set(get_args(Property))
    if unknown:
        raise ValueError(f"{method}: unknown properties {sorted(unknown)}; there are {get_args(Property)}")
    return Entry(method, frozenset(properties), options, least_tasks)


_PLAIN: tuple[Property, ...] = ("alone", "agreeing", "calibrated", "homogeneous")
_FAIR: tuple[Property, ...] = (
    "order-free",
    "non-negative",
    "non-conflicting",
    "impartial",
    "stops",
    "stops early",
    "memoryless",
)

ENTRIES: tuple[Entry, ...] = (
    # One backward: losses.
    _entry("joint", *_PLAIN, "bounded", "mean-bounded", "order-free", "non-negative", "linear", "memoryless"),
    _entry("rlw", *_PLAIN, "bounded", "non-negative", "linear"),
    _entry("uw", "agreeing", "homogeneous", "order-free", "non-negative", "linear"),
    _entry("dwa", *_PLAIN, "bounded", "order-free", "non-negative", "linear"),
    _entry("gls", *_PLAIN, "order-free", "non-negative", "linear", "memoryless"),
    _entry("imtl_l", *_PLAIN, "order-free", "non-negative", "linear"),
    _entry("log_sum", "agreeing", "homogeneous", "order-free", "non-negative", "linear", "memoryless"),
    _entry("tchebycheff", *_PLAIN, "bounded", "order-free", "non-negative", "linear", "memoryless"),
    _entry("stch", *_PLAIN, "bounded", "order-free", "non-negative", "linear", "memoryless"),
    _entry("log_stch", "agreeing", "homogeneous", "order-free", "non-negative", "linear"),
    _entry("pbi", "alone", "calibrated", "homogeneous", "order-free", "linear", "memoryless"),
    _entry("cosmos", "alone", "calibrated", "homogeneous", "order-free", "linear", "memoryless"),
    _entry("famo", *_PLAIN, "bounded", "order-free", "non-negative", "linear"),
    _entry("uw_so", *_PLAIN, "bounded", "order-free", "non-negative", "linear", "memoryless"),
    _entry("go4align", *_PLAIN, "order-free", "non-negative", "linear"),
    _entry("moml", *_PLAIN, "bounded", "order-free", "non-negative", "linear"),
    _entry("auto_lambda", "agreeing", "homogeneous", "order-free", "non-negative", "linear"),
    _entry("forum", *_PLAIN, "order-free", "non-negative", "linear"),  # a validation step adds to the update
    # Gramian.
    _entry(
        "mgda",
        *_PLAIN, "bounded", "mean-bounded", "order-free", "non-negative", "non-conflicting", "stops", "stops early",
        "memoryless",
    ),
    _entry("mgda", *_PLAIN, "bounded", "order-free", "non-negative", "memoryless", normalization="l2"),
    _entry("mgda", *_PLAIN, "bounded", "order-free", "non-negative", "memoryless", normalization="loss"),
    _entry("mgda", *_PLAIN, "bounded", "order-free", "non-negative", "memoryless", normalization="loss+"),
    _entry("pcgrad", *_PLAIN, "bounded", "non-negative", "linear"),
    _entry("cagrad", "alone", "agreeing", "homogeneous", "order-free", "non-negative", "memoryless"),
    _entry(
        "cagrad",
        *_PLAIN, "bounded", "mean-bounded", "order-free", "non-negative", "non-conflicting", "stops", "memoryless",
        c=1.5,
        rescale=2,
    ),
    _entry("conicgrad", *_PLAIN, "bounded", "mean-bounded", "order-free", "non-negative", "memoryless"),
    _entry("conicgrad", *_PLAIN, "bounded", "mean-bounded", "order-free", "non-negative", "memoryless", c=0.9),
    _entry("imtl_g", *_PLAIN, "order-free", "stops", "stops early", "memoryless"),
    _entry("imtl", *_PLAIN, "order-free", "stops", "stops early"),
    _entry("gradvac", *_PLAIN, "non-negative", "linear"),
    _entry("nash_mtl", "agreeing", *_FAIR),
    _entry("nash_mtl", "agreeing", *_FAIR, max_norm=None),
    _entry("fairgrad", "agreeing", *_FAIR),
    _entry("fairgrad", "agreeing", *(p for p in _FAIR if p != "impartial"), alpha=0.5),
    _entry("fairgrad", "agreeing", *(p for p in _FAIR if p != "impartial"), alpha=2.0),
    _entry("aligned_mtl", *_PLAIN, "bounded", "mean-bounded", "order-free", "memoryless"),
    _entry("aligned_mtl", *_PLAIN, "bounded", "order-free", "memoryless", scale_mode="median"),
    _entry("aligned_mtl", *_PLAIN, "bounded", "order-free", "memoryless", scale_mode="rmse"),
    _entry(
        "upgrad",
        *_PLAIN, "bounded", "order-free", "non-negative", "non-conflicting", "linear", "stops", "memoryless",
    ),
    _entry(
        "dualproj",
        *_PLAIN, "bounded", "mean-bounded", "order-free", "non-negative", "non-conflicting", "stops", "memoryless",
    ),
    _entry("sdmgrad", *_PLAIN, "bounded", "order-free", "non-negative"),
    _entry("modo", "alone", "agreeing", "calibrated", "bounded", "order-free", "non-negative"),
    _entry("cr_mogm", *_PLAIN, "bounded", "mean-bounded", "order-free", "non-negative"),
    _entry("psmgd", *_PLAIN, "bounded", "mean-bounded", "order-free", "non-negative"),
    _entry("rotograd", *_PLAIN, "bounded", "order-free", "non-negative", "impartial"),
    _entry("krum", "agreeing", "calibrated", "bounded", "homogeneous", "non-negative", "memoryless", least_tasks=3),
    _entry("constant", *_PLAIN, "bounded", "mean-bounded", "order-free", "non-negative", "linear", "memoryless"),
    _entry("config", *_PLAIN, "bounded", "order-free", "impartial", "memoryless"),
    _entry("torchjd", *_PLAIN, "bounded", "mean-bounded", "order-free", aggregator="MGDA"),
    _entry("gradnorm", *_PLAIN, "bounded", "order-free", "non-negative", "linear"),
    _entry("pcd", *_PLAIN, "bounded", "non-negative", "linear", "impartial"),
    _entry("pcd", *_PLAIN[1:], "bounded", "non-negative", "linear", "impartial", primary=1, tau=0.5, least_tasks=2),
    _entry("metabalance", *_PLAIN, "bounded", "non-negative", "linear"),
    _entry("ntkmtl", "alone", "agreeing", "homogeneous", "order-free", "non-negative", "impartial", "memoryless"),
    _entry("gradops", *_PLAIN, "bounded", "order-free", "non-conflicting", "linear", "stops", "memoryless"),
    _entry("gradops", *_PLAIN, "order-free", "non-conflicting", "stops", "memoryless", alpha=-1.0),
    # Jacobian.
    _entry("graddrop", *_PLAIN, "bounded"),
    _entry("graddrop", *_PLAIN, "bounded", leak=0.3),
    _entry("moco", "agreeing", "bounded", "order-free"),
    _entry("db_mtl", "agreeing", "homogeneous", "order-free", "impartial"),
    _entry("excess_mtl", *_PLAIN, "bounded", "order-free", "linear"),
    _entry("trimmed_mean", *_PLAIN, "order-free", "memoryless"),
    _entry("fmtl"),  # `step` makes its update; `combine`, which the tests call, is that of the wrapped method
    _entry("samo"),  # likewise; `combine` is the mean
)  # fmt: skip
