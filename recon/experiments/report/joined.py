"""Several benchmarks in one table: their rows side by side, over the same single-task networks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any

from recon.data.contract import dataset_name_of, tasks_of
from recon.experiments.entry import UNTESTED
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.plan import Plan
from recon.experiments.report import figures
from recon.experiments.report.delta_m import with_delta_m
from recon.experiments.report.report import Report, joint_label, write_tables
from recon.experiments.report.summary import summarise
from recon.experiments.reuse.identity import RunIdentity
from recon.experiments.reuse.plan_record import PLAN, identity_in, read_record
from recon.experiments.runs import Run
from recon.plugins import import_by_name
from recon.tasks.task import Task

_OF_NO_RUN = ("name", "fit", "methods", "single", "imports", "top", "select", "map")
"""Keys of a plan that do not say how layers are chosen, or that are told otherwise."""

_OF_NO_CHOICE = (
    *("method", "options", "variants", "seeds", "name", "model", "map", "tree", "top", "select"),
    *("grid", "held_out", "grid_seeds", "sweep", "trials", "resources"),
)
"""Keys of an entry that do not say how layers are chosen, or that are told otherwise."""

_Labels = dict[tuple[str, str | None], str]
"""Folder and label of an entry -> the label that tells it apart."""


@dataclass(frozen=True)
class _Benchmark:
    """A folder of results, read."""

    path: Path
    record: Mapping[str, Any]
    plan: Plan
    tasks: list[Task]
    dataset: str

    @classmethod
    def read(cls, path: Path) -> "_Benchmark":
        record = read_record(path)
        if record is None:
            raise ValueError(f"{path} holds no benchmark; give folders that `recon benchmark` wrote")
        known = {each.name for each in fields(Plan)}
        plan = Plan.from_dict({key: value for key, value in record.items() if key in known})
        for name in plan.imports:
            import_by_name(name)
        data = Fit(plan.fit, _folder_of(record)).without_files().data()
        return cls(path, record, plan, tasks_of(data), f"{dataset_name_of(data)}, {record.get('data')}")

    def results(self) -> list[tuple[Run, RunIdentity, dict[str, Any]]]:
        """The finished runs with metrics of the test data, with their identities and results."""
        folder, found = ResultsFolder(self.path), []
        for run in self.plan.runs([task.name for task in self.tasks]):
            if run.variant in UNTESTED:
                continue
            result = folder.finished(run, self.tasks)
            identity = None if result is None else identity_in(folder.run(run.id), self.record, None, None)
            if result is not None and identity is not None:
                found.append((run, identity, result))
        return found

    def setting(self, run: Run, identity: RunIdentity) -> RunIdentity:
        """Everything that a row's runs have in common: their identity without seed and layers.

        Of runs with branches also the choice of the layers. The width of a wider network follows
        from these layers too, so it may differ from seed to seed.
        """
        model = dict(identity.record["model"])
        setting = {key: value for key, value in identity.record.items() if key != "seed_everything"}
        if run.variant in ("single", "plain"):
            return RunIdentity(setting)
        branch = {key: value for key, value in model["branch"].items() if key not in ("layers", "groups")}
        backbone = setting.pop("base", model["backbone"])
        sums = self.record.get("map_sha256", {})
        choice = {
            **{key: value for key, value in self.plan.to_dict().items() if key not in _OF_NO_RUN},
            **{key: value for key, value in asdict(run.entry).items() if key not in _OF_NO_CHOICE},
            "rule": asdict(self.plan.rule_of(run.entry)),
            "map": sums.get(self.plan.map_of(run.entry)),
        }
        return RunIdentity({**setting, "model": {**model, "backbone": backbone, "branch": branch}, "choice": choice})


def join(folders: Sequence[Path], out: Path) -> Report:
    """Write the runs of several benchmarks as one table, with delta-m over all single-task runs.

    A row has the runs of all folders that differ in nothing but the seed. Of a run that several
    folders have, the first counts. Entries of one label and different settings are told apart by
    the names of their folders, with those of the folders around them where names are the same.

    Args:
        folders: The folders of the benchmarks, which are only read.
        out: Folder of the tables; it holds no benchmark of its own.

    Raises:
        ValueError: A folder holds no benchmark or a damaged file; or the benchmarks have other
            tasks, other data or other single-task networks.
    """
    if (out / PLAN).exists():
        raise ValueError(f"{out} holds a benchmark, whose table would be replaced; give another --out")
    benchmarks = [_Benchmark.read(path) for path in {path.resolve(): path for path in folders}.values()]
    for other in benchmarks[1:]:
        _check_comparable(benchmarks[0], other)
    runs, labels = _joined(benchmarks)
    tasks, joint = benchmarks[0].tasks, joint_label(benchmarks[0].plan)
    record = {"plans": {str(one.path): one.plan.to_dict() for one in benchmarks}}
    report = write_tables(record, runs, tasks, labels.get((str(benchmarks[0].path), joint), joint), out)
    summary = summarise(with_delta_m(runs, tasks))
    drawn = any(row["delta_m"] is not None for row in summary)
    paths = figures.save(figures.delta_m_dots(summary), out / "delta_m") if drawn else []
    return Report(report.table, (*report.paths, *paths))


def _check_comparable(first: _Benchmark, other: _Benchmark) -> None:
    named = [{task.name: dict(task.higher_is_better) for task in one.tasks} for one in (first, other)]
    if named[0] != named[1]:
        tasks = [", ".join(each) for each in named]
        raise ValueError(f"{first.path} and {other.path} have different tasks: {tasks[0]}; {tasks[1]}; join others")
    if first.dataset != other.dataset:
        raise ValueError(
            f"{first.path} and {other.path} have different data: {first.dataset}; {other.dataset}; join others"
        )


def _joined(benchmarks: Sequence[_Benchmark]) -> tuple[list[dict[str, Any]], _Labels]:
    """The runs under the labels of the joined table, and folder and label -> that label."""
    found = [(one, *each) for one in benchmarks for each in one.results()]
    settings: dict[tuple[str, str], dict[str, tuple[_Benchmark, RunIdentity]]] = {}
    for one, run, identity, _ in found:
        of_row = settings.setdefault((run.label, run.variant), {})
        of_row.setdefault(one.setting(run, identity).hash, (one, one.setting(run, identity)))
    _check_single(settings.get(("single", "single"), {}))
    apart = {label for (label, variant), of_row in settings.items() if len(of_row) > 1 and variant != "single"}
    names = _ends([one.path for one in benchmarks])
    labels: _Labels = {(str(path), label): f"{label} ({name})" for path, name in names.items() for label in apart}
    runs: dict[tuple[str, str, int, str | None], dict[str, Any]] = {}
    for one, run, _, result in found:
        label = labels.get((str(one.path), run.label), run.label)
        named = {**result, "method": label, "folder": str(one.path)}
        runs.setdefault((label, run.variant, run.seed, run.task), named)
    return list(runs.values()), labels


def _ends(paths: Sequence[Path]) -> dict[Path, str]:
    """Path -> its last parts, as many as tell all paths apart."""
    whole = {path: path.resolve().parts for path in paths}
    number = next(number for number in count(1) if len({parts[-number:] for parts in whole.values()}) == len(whole))
    return {path: "/".join(parts[-number:]) for path, parts in whole.items()}


def _check_single(settings: Mapping[str, tuple[_Benchmark, RunIdentity]]) -> None:
    """Refuse single-task networks of several settings; those of different tasks differ in that."""
    trained: dict[str, tuple[_Benchmark, RunIdentity]] = {}
    for one, setting in settings.values():
        first, known = trained.setdefault(str(setting.record["model"]["only"]), (one, setting))
        if known.hash != setting.hash:
            raise ValueError(
                f"the single-task networks of {first.path} and {one.path} differ in "
                f"{', '.join(known.differences(setting))}, so no delta-m is over both; join others"
            )


def _folder_of(record: Mapping[str, Any]) -> str | None:
    """The folder of the data, where they are known by it."""
    data: str | None = record.get("data")
    return None if data is None or data.startswith("sha256:") else data
