"""The trials of a plan: one of each entry and variant that has a run to train."""

import multiprocessing
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from recon.experiments.dry_run.trial import Trial, try_out
from recon.experiments.job import Job
from recon.experiments.runs import Run
from recon.plugins import import_by_name, safe_path
from recon.progress import Advance

Key = tuple[str, str, str | None]
"""Label, variant or point of a grid, and task: runs with the same differ in their seeds."""


@dataclass(frozen=True)
class Trials:
    """The measured steps of a plan.

    Attributes:
        of: Key -> the trial of one run of it.
        guesses: Keys whose layers are those of a map of a few steps, or whose setting is still to
            be chosen from a grid: that of the entry itself stands in for it.
        failures: Key -> why such a map selects no layers for it. Its trial is that of the run that
            finds the map.
        start: Seconds until the processes were ready.
    """

    of: Mapping[Key, Trial]
    guesses: frozenset[Key]
    failures: Mapping[Key, str]
    start: float


def key_of(run: Run) -> Key:
    """What runs have in common that differ in their seeds."""
    return run.label, run.variant if run.point is None else f"grid {run.point}", run.task


def try_all(jobs: Sequence[Job], processes: int, threads: int) -> Trials:
    """Try one job of each key, some at a time; those that need a map after those that find it.

    Args:
        jobs: The jobs that are not finished; their folder is a likeness.
        processes: How many at a time.
        threads: Threads of each.

    Raises:
        ValueError: A run refuses its configuration, or a process died.
    """
    if not jobs:
        return Trials({}, frozenset(), {}, 0.0)
    keys = {job.run.id: key_of(job.run) for job in jobs}
    chosen = _one_of_each(jobs, keys)
    ready = {key: _without_grid(job, keys) for key, job in chosen.items() if job.run.needs not in keys}
    waiting = {key: _without_grid(job, keys) for key, job in chosen.items() if key not in ready}
    guesses = frozenset(key for key, job in chosen.items() if not keys.keys().isdisjoint(job.run.waits_for))
    imports = next(iter(chosen.values())).plan.imports
    failures = {}
    with _pool(processes, threads, imports) as (pool, start), Advance("dry run", unit="row") as advance:
        trials: dict[Key, Trial] = {}
        for key, result in _results(pool, ready):
            if isinstance(result, ValueError):
                raise result
            trials[key] = result
            advance.reach(len(trials), len(chosen))
        finders = {key: keys[str(job.run.needs)] for key, job in waiting.items()}
        for key, job in waiting.items():
            _lend_map(job, ready[finders[key]])
        for key, result in _results(pool, waiting):
            if isinstance(result, ValueError):
                failures[key] = str(result)
            trials[key] = trials[finders[key]] if isinstance(result, ValueError) else result
            advance.reach(len(trials), len(chosen))
    return Trials(trials, guesses, failures, start)


def _one_of_each(jobs: Sequence[Job], left: Mapping[str, Key]) -> dict[Key, Job]:
    """Key -> the job of it to try, one that waits for none of those left if there is one."""
    found: dict[Key, Job] = {}
    for job in sorted(jobs, key=lambda job: not left.keys().isdisjoint(job.run.waits_for)):
        found.setdefault(key_of(job.run), job)
    return found


def _without_grid(job: Job, left: Mapping[str, Key]) -> Job:
    """The job with the entry's own values, if its setting follows from runs that are left."""
    if left.keys().isdisjoint(job.run.grid):
        return job
    return replace(job, run=replace(job.run, grid=(), point=None))


def _lend_map(job: Job, finder: Job) -> None:
    """Give a job the map of the steps of another seed."""
    place = job.folder.conflict_map(str(job.run.needs))
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(finder.folder.conflict_map(finder.run.id), place)


def _results(pool: ProcessPoolExecutor, jobs: Mapping[Key, Job]) -> Iterator[tuple[Key, Trial | ValueError]]:
    futures = {pool.submit(try_out, job): (key, job) for key, job in jobs.items()}
    for future in as_completed(futures):
        key, job = futures[future]
        try:
            yield key, future.result()
        except ValueError as error:
            yield key, error
        except BrokenProcessPool as death:
            raise ValueError(
                f"a process died in the first steps of {job.run.id} or a run beside it; out of memory? Fewer --jobs "
                "need less"
            ) from death


@contextmanager
def _pool(processes: int, threads: int, imports: Sequence[str]) -> Iterator[tuple[ProcessPoolExecutor, float]]:
    """Processes as those of a benchmark, and how long they took to start."""
    began = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with safe_path(), ProcessPoolExecutor(processes, context, _begin, (threads, tuple(imports))) as pool:
        for each in [pool.submit(time.sleep, 0.1) for _ in range(processes)]:  # a task for each
            each.result()
        yield pool, time.perf_counter() - began


def _begin(threads: int, imports: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a word
    torch.set_num_threads(threads)
    for name in imports:
        import_by_name(name)
