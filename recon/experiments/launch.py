"""Carry out a benchmark: its runs in worker processes, each once, resumed when interrupted."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from recon.experiments.executors.local import Epochs, Failed, Workers
from recon.experiments.fit import data_of, with_root
from recon.experiments.folder import Identity, held
from recon.experiments.plan import Plan, Run
from recon.experiments.progress import Progress
from recon.experiments.report.report import Report, draw_figures, write_results
from recon.experiments.result import finished_result, run_directory
from recon.experiments.run import prepare
from recon.experiments.scheduler import Schedule
from recon.files.atomic import write_atomically
from recon.plugins import import_by_name

MAX_DEFAULT_JOBS = 4


class RunsFailed(RuntimeError):
    """Some runs of a benchmark failed; the others are finished and kept."""


def default_jobs() -> int:
    """Runs at a time: one on an accelerator, otherwise one a core, at most four (each holds its own data)."""
    return 1 if torch.cuda.is_available() else min(_cores(), MAX_DEFAULT_JOBS)


def _cores() -> int:
    """Cores that this process may use, where the system tells; a container or a scheduler may allow fewer than all."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _threads(jobs: int) -> int:
    """Threads of a run: its share of the cores, or fewer where OMP_NUM_THREADS has said so to torch."""
    return max(1, min(_cores() // jobs, torch.get_num_threads()))


def benchmark(plan: Plan, out: Path, root: str | None = None, jobs: int | None = None) -> Report:
    """Carry out a plan. Finished runs are never repeated, interrupted ones resume from their last epoch.

    Args:
        plan: What to run.
        out: Folder of the results; made if absent. It may hold unfinished results of this same plan.
        root: Folder of the data set, for data modules that read one.
        jobs: Runs at a time; by default :func:`default_jobs`.

    Returns:
        The table, and the paths of results, tables and figures.

    Raises:
        ValueError: The plan or the data are wrong, or ``out`` holds the results of another plan or is in use.
        RunsFailed: Some runs failed; called again, only those are tried once more.
    """
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    for name in plan.imports:
        import_by_name(name)
    plan.check()
    tasks = prepare(plan, root)
    runs = plan.runs([task.name for task in tasks])
    data = data_of(with_root(plan.fit, root))
    with held(Identity.of(plan, root, data), out):
        results = {run.id: result for run in runs if (result := finished_result(out, run, tasks)) is not None}
        schedule = Schedule(runs, results)
        failures: dict[str, str] = {}
        with (
            Workers(jobs, _threads(jobs), plan.imports) as workers,
            Progress(plan, runs, results) as progress,
        ):
            for run, message in schedule.carry_out(workers, plan, out, root):
                if isinstance(message, Epochs):
                    progress.epochs(run, message.number)
                elif isinstance(message, Failed):
                    failures[run.id] = message.reason
                    if run.id in schedule.deaths:  # the process itself could not say it
                        write_atomically(run_directory(out, run.id) / "error.txt", f"{message.reason}\n")
                    progress.say(f"{run.id} failed: {message.reason}")
                else:
                    results[run.id] = message.result
                    write_results(plan, _in_order(runs, results), tasks, out)
                    progress.finished(run)
            _tell_of_deaths(schedule.deaths, failures, progress)
        finished = _in_order(runs, results)
        report = write_results(plan, finished, tasks, out)
        figures = draw_figures(plan, finished, tasks, out)
    if failures:
        raise RunsFailed(_failure(failures, schedule.deaths, len(runs), out))
    return Report(report.table, (*report.paths, *figures))


def _tell_of_deaths(deaths: Mapping[str, str], failures: Mapping[str, str], progress: Progress) -> None:
    for run, death in deaths.items():
        if run not in failures:
            progress.say(f"{run}: {death}; with no other run beside it, it finished. Fewer --jobs need less memory")


def _failure(failures: Mapping[str, str], deaths: Mapping[str, str], runs: int, out: Path) -> str:
    names = ", ".join(f"{run}: {deaths[run]}" if run in deaths else run for run in failures)
    return (
        f"{len(failures)} of {runs} runs failed ({names}); what is finished is kept in {out}, "
        "and the same command tries the failed ones again"
    )


def _in_order(runs: Sequence[Run], results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [results[run.id] for run in runs if run.id in results]
