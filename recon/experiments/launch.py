"""A benchmark from its plan to its report: each run once, resumed when interrupted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recon.errors import number_of
from recon.experiments.executors.executor import Epochs, Executor, Failed, Finished, Lost, RunsFailed
from recon.experiments.executors.local import LocalExecutor
from recon.experiments.fit import Fit, devices_of
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job
from recon.experiments.only import with_needed
from recon.experiments.outcomes import Outcomes
from recon.experiments.plan import Plan
from recon.experiments.preflight import check_before_training
from recon.experiments.progress import Progress, tell
from recon.experiments.report.report import Report
from recon.experiments.reuse.identity import data_identity, root_of
from recon.experiments.reuse.plan_record import PLAN, plan_record, read_record
from recon.experiments.reuse.shelf import Shelf
from recon.experiments.runs import Run
from recon.experiments.scheduler import Scheduler
from recon.files.atomic import write_json
from recon.plugins import import_by_name


def benchmark(
    plan: Plan,
    out: Path,
    root: str | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    reuse: Sequence[Path] = (),
    only: Sequence[str] = (),
) -> Report:
    """Carry out a plan. Finished runs are never repeated, interrupted ones resume.

    A run resumes from its last finished epoch. The plan may have changed since: runs that are the
    same are taken, new ones are trained, and others are kept below ``aside``, from where a later
    plan has them back (:class:`recon.experiments.reuse.identity.RunIdentity`).

    >>> from tempfile import TemporaryDirectory
    >>> data = {"class_path": "recon.data.Glyphs", "init_args": {"train_size": 64, "test_size": 64}}
    >>> backbone = {"class_path": "recon.models.LeNet"}
    >>> trainer = {"max_epochs": 1, "accelerator": "cpu"}
    >>> fit = {"trainer": trainer, "model": {"backbone": backbone}, "data": data}
    >>> methods = [{"method": "joint", "variants": ["plain"]}]
    >>> plan = Plan.from_dict({"name": "tiny", "fit": fit, "methods": methods, "single": False})
    >>> with TemporaryDirectory() as folder:
    ...     report = benchmark(plan, Path(folder), jobs=1)
    >>> [path.name for path in report.paths if path.suffix != ".pdf"]
    ['results.json', 'table.md', 'table.csv', 'conflict_by_layer.png']

    Args:
        plan: The plan.
        out: Folder of the results; made if absent. It may hold results of this or another plan.
        root: Folder of the data set, for data modules that read one.
        jobs: Runs at a time, without an executor; by default one on an accelerator, otherwise one a
            core, at most four. Runs on several devices count as many times.
        executor: Carries out the runs; by default as many processes of this machine as ``jobs``.
        reuse: Folders of other benchmarks. Their finished runs that are the same are copied.
        only: The runs to carry out or to copy, with those that they need: ids, patterns such as
            ``*-seed0``, or places in the plan from 0. By default all.

    Returns:
        The table, and the paths of results, tables and figures.

    Raises:
        ValueError: The plan or the data are wrong, ``out`` is in use, or a file in it is damaged.
        RunsFailed: Some runs failed; called again, only those are tried once more.
    """
    executor = LocalExecutor(jobs, plan.imports, devices_of(plan.fit)) if executor is None else executor
    for name in plan.imports:
        import_by_name(name)
    plan.check()
    fit, folder = Fit(plan.fit, root), ResultsFolder(out)
    tasks = check_before_training(plan, fit)
    content = data_identity(fit)
    all_jobs = [Job(plan, run, fit, folder) for run in plan.runs([task.name for task in tasks])]
    runs = with_needed([job.run for job in all_jobs], only)
    shelf = Shelf(folder, content, root_of(fit), tasks, reuse, {run.id for run in runs}, tell)
    with folder.held():
        outcomes = Outcomes(plan, tasks, folder, found_results(shelf, all_jobs, plan_record(plan, fit, content)))
        chosen = [job for job in all_jobs if job.run in runs]
        scheduler = Scheduler(chosen, outcomes.results, shelf.begin, shelf.identity)
        finished = [run.id for run in runs if run.id in outcomes.results]
        with executor, Progress(plan, runs, finished, len(tasks), executor.free) as progress:
            for run, message in scheduler.carry_out(executor):
                outcomes.take(run, message)
                _tell(progress, run, message)
            _tell_of_deaths(progress, scheduler.deaths, outcomes.failures)
        report = outcomes.report()
    if outcomes.failures:
        raise RunsFailed(_failure(outcomes, scheduler.deaths))
    return report


def found_results(shelf: Shelf, jobs: Sequence[Job], record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The results of finished runs in a folder, which has the plan of the record from now."""
    folder, runs = jobs[0].folder, [job.run for job in jobs]
    before = read_record(folder.path)
    if before is not None:
        shelf.take_over(before, runs)
    if before != record:
        write_json(folder.path / PLAN, record)
    shelf.clear(runs)
    return shelf.settle(jobs)


def _tell(progress: Progress, run: Run, message: Epochs | Finished | Failed | Lost) -> None:
    if isinstance(message, Epochs):
        progress.epochs(run, message.number)
    elif isinstance(message, Failed):
        progress.failed(run, message.reason)
    elif isinstance(message, Lost):
        progress.say(f"{run.id} is lost, because {message.how}; it resumes from its last epoch")
    elif "diverged" in message.result:
        progress.diverged(run, message.result["diverged"])
    else:
        progress.finished(run)


def _tell_of_deaths(progress: Progress, deaths: Mapping[str, str], failures: Mapping[str, str]) -> None:
    for run, death in deaths.items():
        if run not in failures:
            progress.say(f"{run}: {death}; with no other run beside it, it finished. Fewer --jobs need less memory")


def _failure(outcomes: Outcomes, deaths: Mapping[str, str]) -> str:
    names = ", ".join(f"{run}: {deaths[run]}" if run in deaths else run for run in outcomes.failures)
    return (
        f"{len(outcomes.failures)} of {number_of(len(outcomes.runs), 'run')} failed ({names}); what is finished "
        f"is kept in {outcomes.folder.path}, and the same command tries the failed ones again"
    )
