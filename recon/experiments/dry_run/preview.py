"""What a benchmark would run, reuse and resume, and what that costs; it is not carried out."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from recon.experiments.dry_run.forecast import Forecast, Row, State
from recon.experiments.dry_run.likeness import likeness
from recon.experiments.dry_run.trials import Key, Trials, key_of, try_all
from recon.experiments.executors.local import LocalExecutor, threads_of
from recon.experiments.fit import Fit, devices_of
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job
from recon.experiments.launch import found_results
from recon.experiments.makespan import makespan
from recon.experiments.only import with_needed
from recon.experiments.plan import Plan
from recon.experiments.preflight import check_before_training
from recon.experiments.reuse.identity import data_identity, root_of
from recon.experiments.reuse.plan_record import plan_record
from recon.experiments.reuse.shelf import Shelf
from recon.plugins import import_by_name

Results = Mapping[str, dict[str, Any]]
"""Run -> its result, of the runs that are finished."""


def preview(
    plan: Plan,
    out: Path,
    root: str | None = None,
    jobs: int | None = None,
    reuse: Sequence[Path] = (),
    only: Sequence[str] = (),
) -> Forecast:
    """Tell what :func:`recon.experiments.benchmark` would do with the same arguments.

    Everything that a benchmark checks before it trains is checked, and the data are prepared as it
    would prepare them. Of each entry and variant with a run to train, one seed takes a few steps,
    in as many processes at a time as the benchmark has. Layers by a map that is still to be found
    are those of a map of these few steps.

    Args:
        plan: The plan.
        out: Folder of the results; it is only read, and need not exist.
        root: Folder of the data set, for data modules that read one.
        jobs: Runs at a time; by default as many as the benchmark takes.
        reuse: Folders of other benchmarks, whose finished runs would be copied.
        only: The runs to tell of, with those that they need; by default all.

    Raises:
        ValueError: What the benchmark would say, or a process died in the few steps.
    """
    devices = devices_of(plan.fit)
    jobs = LocalExecutor(jobs, plan.imports, devices).free
    for name in plan.imports:
        import_by_name(name)
    plan.check()
    fit = Fit(plan.fit, root)
    tasks = check_before_training(plan, fit)
    content = data_identity(fit)
    lines: list[str] = []
    with TemporaryDirectory(prefix="recon-dry-run-") as temporary:
        places = {likeness(folder, Path(temporary, str(n))): folder for n, folder in enumerate([out, *reuse])}
        folder, *others = places
        try:
            every = [Job(plan, run, fit, ResultsFolder(folder)) for run in plan.runs([task.name for task in tasks])]
            wanted = {run.id for run in with_needed([job.run for job in every], only)}
            shelf = Shelf(ResultsFolder(folder), content, root_of(fit), tasks, others, wanted, lines.append)
            results = found_results(shelf, every, plan_record(plan, fit, content))
            every = [job for job in every if job.run.id in wanted]
            trials = try_all([job for job in every if job.run.id not in results], jobs, threads_of(jobs * devices))
            twins = _twins(shelf, [job for job in every if job.run.id not in results])
            rows = _rows(every, results, twins, trials)
        except ValueError as error:
            raise ValueError(_named(str(error), places)) from error
    needed = {run_id for job in every for run_id in job.run.waits_for}
    in_order = sorted(every, key=lambda job: job.run.id not in needed)
    left = {job.run.id: job for job in in_order if job.run.id not in results}
    seconds = {run: 0.0 if run in twins else trials.of[key_of(job.run)].seconds for run, job in left.items()}
    waits = {run: [*job.run.waits_for, *([twins[run]] if run in twins else [])] for run, job in left.items()}
    whole = trials.start + makespan(seconds, waits, jobs)
    return Forecast(tuple(rows), tuple(_named(line, places) for line in lines), jobs, whole, devices)


def _named(text: str, places: Mapping[Path, Path]) -> str:
    """A text about likenesses, with the names of the folders."""
    for place, folder in places.items():
        text = text.replace(str(place), str(folder))
    return text


def _twins(shelf: Shelf, jobs: Sequence[Job]) -> dict[str, str]:
    """Run -> the one that is the same and is trained in its place, as far as that is known."""
    trained: dict[str, str] = {}
    found: dict[str, str] = {}
    for job in sorted(jobs, key=lambda job: _state(job, {}) != "resumed"):
        identity = shelf.identity(job)
        if identity is not None and trained.setdefault(identity, job.run.id) != job.run.id:
            found[job.run.id] = trained[identity]
    return found


def _rows(jobs: Sequence[Job], results: Results, twins: Collection[str], trials: Trials) -> list[Row]:
    groups: dict[Key, list[Job]] = {}
    for job in jobs:
        groups.setdefault(key_of(job.run), []).append(job)
    return [_row(key, group, results, twins, trials) for key, group in groups.items()]


def _row(key: Key, jobs: Sequence[Job], results: Results, twins: Collection[str], trials: Trials) -> Row:
    label, variant, task = key
    states: dict[int, State] = {job.run.seed: "copied" if job.run.id in twins else _state(job, results) for job in jobs}
    trial = trials.of.get(key)
    if trial is not None:
        layers = None if key in trials.failures else trial.layers
        costs = (layers, trial.parameters, trial.flops)
    else:
        costs = (_layers_of(jobs[0]), *(results[jobs[0].run.id][name] for name in ("parameters", "flops")))
    is_guess, problem = key in trials.guesses, trials.failures.get(key)
    return Row(task or label, variant, states, *costs, is_guess, trial, problem)


def _state(job: Job, results: Results) -> State:
    if job.run.id in results:
        return "finished"
    return "resumed" if job.folder.checkpoint(job.run.id).exists() else "new"


def _layers_of(job: Job) -> int:
    """Number of layers that a finished run has branched."""
    text = (job.folder.run(job.run.id) / "config.yaml").read_text(encoding="utf-8")
    branch = yaml.safe_load(text)["model"].get("branch") or {}
    return len(branch.get("layers") or ())
