"""The folder of a benchmark as a report reads it: runs, maps and files; nothing is trained."""

import csv
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from recon.conflict import ConflictMap, MeasuredMap
from recon.errors import number_of
from recon.experiments.choice import Choice, Tried
from recon.experiments.entry import UNTESTED
from recon.experiments.folder import ResultsFolder
from recon.experiments.plan import Plan
from recon.experiments.report.delta_m import Metrics
from recon.experiments.report.differences import Difference, differences
from recon.experiments.report.report import joint_label, joint_maps
from recon.experiments.report.summary import summarise
from recon.experiments.result import RESULT
from recon.experiments.reuse.plan_record import PLAN
from recon.files.folder_names import check_folder_name
from recon.files.reading import NUMBER, read_object, require, require_count
from recon.moved import with_new_names
from recon.plot.rows import VARIANT_NAMES, row_name

_COUNTS = ("parameters", "parameters_base", "flops", "seed")
_SHOWN = 3
"""Names that a line shows; of more it shows the number."""


@dataclass(frozen=True)
class Source:
    """A folder of results.

    Attributes:
        path: The folder.
        plans: The plan, or those of the folders that were joined in this one.
        runs: The runs, as ``results.json`` has them.
        choices: Label of an entry -> what its grid chose, in words.
    """

    path: Path
    plans: tuple[Plan, ...]
    runs: tuple[dict[str, Any], ...]
    choices: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "Source":
        """Read a folder that ``recon benchmark`` or ``recon table`` wrote.

        Raises:
            ValueError: It holds no results or damaged ones, or these are of another plan or
                version; the error names the cure.
        """
        file = path / "results.json"
        if not file.exists():
            if (path / PLAN).exists():
                raise ValueError(f"{path} is unfinished: no run has a result yet; {_again(path)}")
            raise ValueError(f"{path} holds no results.json; give folders that `recon benchmark` wrote")
        record = read_object(file)
        try:
            plans = _plans(record)
            runs = [_run(run) for run in require(record, "runs", (list,), "it")]
            choices = {label: str(_choice(grid)) for label, grid in record.get("grids", {}).items()}
            if not runs:
                raise ValueError("it has no runs")
        except ValueError as error:
            raise ValueError(f"{file} is damaged, or of another version: {error}; {_again(path)}") from error
        source = cls(path, plans, tuple(runs), choices)
        source._check_plan()
        return source

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.resolve().name

    @property
    def plan(self) -> Plan:
        """The plan, or the first of several."""
        return self.plans[0]

    @cached_property
    def metrics(self) -> dict[str, list[str]]:
        """Task -> its metrics."""
        return {task: list(values) for run in self.runs for task, values in run["metrics"].items()}

    @cached_property
    def summary(self) -> list[dict[str, Any]]:
        """The rows of the table."""
        return summarise(self.runs)

    @cached_property
    def differences(self) -> list[Difference]:
        """The paired differences between rows."""
        return differences(self.runs, joint_label(self.plan))

    @cached_property
    def unfinished(self) -> str:
        """A line about runs without a result, and the cure; empty if there are none."""
        there = {run["id"] for run in self.runs}
        runs = [run for plan in self.plans for run in plan.runs(self.metrics) if run.variant not in UNTESTED]
        missing = [run.id for run in runs if run.id not in there]
        if not missing or len(self.plans) > 1:
            return ""
        names = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        total = len(missing) + len(there)
        lacking = f"{len(missing)} of {number_of(total, 'run')} without a result ({names})"
        return f"{self.path} is unfinished: {lacking}; {_again(self.path)}"

    @cached_property
    def before(self) -> dict[int, MeasuredMap]:
        """Seed -> the conflict map of plain joint training, as far as the folder keeps maps."""
        maps = joint_maps(self.plan, self.runs, ResultsFolder(self.path), "plain")
        lone = self.path / "conflict_map.json"
        if not maps and lone.exists():
            found = ConflictMap.load(lone)
            return {0: found} if isinstance(found, MeasuredMap) else {}
        return maps

    @cached_property
    def after(self) -> dict[int, MeasuredMap]:
        """Seed -> the conflict map of joint training with Recon."""
        return joint_maps(self.plan, self.runs, ResultsFolder(self.path), "recon")

    def of_joint(self, variant: str) -> dict[int, dict[str, Any]]:
        """Seed -> the run of the plan's joint entry."""
        label = joint_label(self.plan)
        return {run["seed"]: run for run in self.runs if (run["method"], run["variant"]) == (label, variant)}

    def groups(self, run: Mapping[str, Any]) -> dict[str, list[list[str]]]:
        """Layer -> its groups of tasks, where a run's configuration has any."""
        file = self.path / "runs" / run["id"] / "config.yaml"
        try:
            model = yaml.safe_load(file.read_text(encoding="utf-8"))["model"]
            return dict((model.get("branch") or {}).get("groups") or {})
        except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
            return {}  # the picture of the tree then has a copy per task

    @property
    def has_logs(self) -> bool:
        """Whether the folder keeps the logs of any run."""
        return any(True for _ in self.path.glob("runs/*/logs/version_*/metrics.csv"))

    def logged(self, run: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
        """Name of a logged value -> its (epoch, value), without those of the test."""
        found = (self.path / "runs" / run["id"]).glob("logs/version_*/metrics.csv")
        files = sorted(found, key=lambda file: (len(file.parent.name), file.parent.name))  # 10 after 9
        curves: dict[str, dict[float, float]] = {}
        for file in files:  # a later version goes on from a checkpoint
            for row in _csv_rows(file):
                for name, text in row.items():
                    if name in ("epoch", "step") or name.startswith("test/") or not text or not row.get("epoch"):
                        continue
                    try:
                        curves.setdefault(name, {})[float(row["epoch"])] = float(text)
                    except ValueError as error:
                        raise ValueError(f"{file} is damaged ({error}); remove it, or repeat the run") from error
        return {name: sorted(points.items()) for name, points in curves.items()}

    @property
    def predictions(self) -> dict[str, Path]:
        """Name of a row -> a sheet of its predictions, of the first seed that has one."""
        found: dict[str, Path] = {}
        for run in self.runs:
            sheet = self.path / "runs" / run["id"] / "predictions.png"
            if run["variant"] in ("plain", "recon") and sheet.exists():
                found.setdefault(row_name(run), sheet)
        loose = sorted(self.path.glob("predictions-*.png"))
        return found or {sheet.stem.removeprefix("predictions-"): sheet for sheet in loose}

    def _check_plan(self) -> None:
        """Refuse results of another plan than the one that the folder has now."""
        file = self.path / PLAN
        if not file.exists():
            return
        known = {each.name for each in fields(Plan)}
        record = with_new_names({key: value for key, value in read_object(file).items() if key in known})
        try:
            now = Plan.from_dict(record).to_dict()
        except ValueError as error:
            raise ValueError(f"{file} is damaged, or of another version: {error}; {_again(self.path)}") from error
        then = Plan.from_dict(with_new_names(self.plan.to_dict())).to_dict()
        differing = [key for key in then if key not in ("fit", "map") and now[key] != then[key]]
        if differing:
            raise ValueError(
                f"{self.path / 'results.json'} is of another plan than {PLAN} beside it "
                f"({', '.join(differing)} differ); {_again(self.path)}"
            )


def check_comparable(sources: Sequence[Source]) -> None:
    """Raise a ValueError unless all folders have the same tasks and metrics."""
    first = sources[0]
    for other in sources[1:]:
        if first.metrics != other.metrics and sorted(_names(first)) != sorted(_names(other)):
            raise ValueError(
                f"{first.path} and {other.path} have different tasks or metrics ({', '.join(first.metrics)}; "
                f"{', '.join(other.metrics)}); report each by itself"
            )


def _names(source: Source) -> list[str]:
    return [f"{task}/{name}" for task, names in source.metrics.items() for name in names]


def _again(path: Path) -> str:
    return f"`recon benchmark PLAN --out {shlex.quote(str(path))}` goes on from what is finished"


def _plans(record: Mapping[str, Any]) -> tuple[Plan, ...]:
    if "plans" in record:
        return tuple(Plan.from_dict(plan) for plan in require(record, "plans", (dict,), "it").values())
    return (Plan.from_dict(require(record, "plan", (dict,), "it")),)


def _choice(grid: Any) -> Choice:
    """The choice among the settings of a grid."""
    try:
        tried = tuple(Tried(**one) for one in grid["tried"])
        return Choice(float(grid["held_out"]), tuple(grid["seeds"]), tried)
    except (KeyError, TypeError) as error:
        raise ValueError(f"a grid cannot be read ({error})") from error


def _run(run: Any) -> dict[str, Any]:
    """A run with all keys, checked as far as the report goes."""
    name = require(run, "id", (str,), "a run")
    check_folder_name(name, "id of a run")
    if absent := [key for key in (*RESULT, "delta_m") if key not in run and key != "origin"]:
        raise ValueError(f"the run {name} has no {absent[0]!r}")
    for key in _COUNTS:
        require_count(run[key], f"{key!r} of the run {name}")
    if run["variant"] not in VARIANT_NAMES:
        raise ValueError(f"the run {name} is of the variant {run['variant']!r}, which this version does not know")
    _check_numbers(require(run, "metrics", (dict,), name), require(run, "conflict_by_layer", (dict,), name), name)
    for key in ("delta_m", "conflict_rate"):
        require(run, key, (*NUMBER, type(None)), f"the run {name}")
    require(run, "seconds", NUMBER, f"the run {name}")
    return {"delta_m_per_metric": None, "origin": {}, **run}


def _check_numbers(metrics: Metrics, rates: Mapping[str, Any], name: str) -> None:
    for task in metrics:
        for metric in require(metrics, task, (dict,), f"'metrics' of the run {name}"):
            require(metrics[task], metric, NUMBER, f"{task} of the run {name}")
    for layer in rates:
        require(rates, layer, NUMBER, f"'conflict_by_layer' of the run {name}")


def _csv_rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        try:
            return [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(stream)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{file} is damaged ({error}); remove it, or repeat the run") from error
