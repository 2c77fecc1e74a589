"""Carry out a benchmark: its runs in worker processes, each once, resumed when interrupted."""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from recon.conflict import map_file
from recon.experiments.execution import execute, finished_result, prepare, run_directory
from recon.experiments.plan import Plan, Run
from recon.experiments.report import Report, draw_figures, write_results
from recon.files import write_atomically, write_json
from recon.names import import_by_name
from recon.reading import read_object

MAX_DEFAULT_JOBS = 4

# Of a worker process: where it reports its finished epochs.
_queue: "ContextVar[SimpleQueue[tuple[str, int]]]" = ContextVar("_queue")


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
    with _folder_of(_identity(plan, root), out):
        results = {run.id: result for run in runs if (result := finished_result(out, run)) is not None}
        failures: dict[str, BaseException] = {}
        with _workers(plan, runs, results, jobs) as pool:
            for run, outcome in _outcomes(pool, plan, runs, results, out, root, jobs):
                if isinstance(outcome, BaseException):
                    failures[run.id] = outcome
                    tqdm.write(f"{run.id} failed: {outcome}", file=sys.stderr)
                    continue
                results[run.id] = outcome
                write_results(plan, _in_order(runs, results), tasks, out)
        finished = _in_order(runs, results)
        report = write_results(plan, finished, tasks, out)
        figures = draw_figures(plan, finished, tasks, out)
    if failures:
        raise RunsFailed(
            f"{len(failures)} of {len(runs)} runs failed ({', '.join(failures)}); what is finished is kept in {out}, "
            "and the same command tries the failed ones again"
        )
    return Report(report.table, (*report.paths, *figures))


def _in_order(runs: Sequence[Run], results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [results[run.id] for run in runs if run.id in results]


def _outcomes(
    pool: ProcessPoolExecutor,
    plan: Plan,
    runs: Sequence[Run],
    results: dict[str, dict[str, Any]],
    out: Path,
    root: str | None,
    jobs: int,
) -> Iterator[tuple[Run, dict[str, Any] | BaseException]]:
    """Run what is left, what others need first; yield each run with its result or its error."""
    needed = {run.needs for run in runs}
    waiting = sorted((run for run in runs if run.id not in results), key=lambda run: run.id not in needed)
    running: dict[Future[dict[str, Any]], Run] = {}
    while waiting or running:
        ready = [run for run in waiting if run.needs is None or run.needs in results][: jobs - len(running)]
        for run in ready:
            waiting.remove(run)
            with _without_interrupts():  # a process that starts here inherits it
                running[pool.submit(_work, plan, run, out, root)] = run
        if not running:
            for run in waiting:
                yield run, RunsFailed(f"{run.needs}, whose conflict map it needs, failed")
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                raise RunsFailed(
                    "a worker process died (out of memory, perhaps: try fewer --jobs); finished runs are kept in "
                    f"{out}, the same command resumes"
                ) from error
            yield running.pop(future), error if error is not None else future.result()


# The folder -----------------------------------------------------------------------------------------------------------


def _identity(plan: Plan, root: str | None) -> dict[str, Any]:
    """What a folder's results are of: the plan, where its data are, and what its conflict maps say."""
    identity = {**plan.to_dict(), "data": None if root is None else str(Path(root).expanduser().resolve())}
    identity["map_sha256"] = {path: hashlib.sha256(map_file(path).read_bytes()).hexdigest() for path in plan.maps}
    return identity


@contextmanager
def _folder_of(identity: dict[str, Any], out: Path) -> Iterator[None]:
    """Hold the folder, for this plan on these data alone."""
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"another benchmark is running in {out}; wait for it, or give another --out") from error
    try:
        _claim(identity, out)
        yield
    finally:
        lock.release()


def _claim(identity: dict[str, Any], out: Path) -> None:
    """Note whose results the folder holds, or refuse when they are another plan's."""
    path = out / "plan.json"
    if not path.exists():
        if (out / "runs").exists():
            raise ValueError(f"{out} holds runs but no plan.json; give another --out, or remove that folder")
        write_json(path, identity)
        return
    try:
        other = read_object(path)
    except ValueError as error:
        raise ValueError(f"{error}; or give another --out") from error
    own, other = json.loads(json.dumps(identity)), _completed(other)
    differing = sorted(key for key in own.keys() | other.keys() if own.get(key) != other.get(key))
    if differing:
        raise ValueError(
            f"{out} holds the results of another plan, {other.get('name')!r} (what differs: {', '.join(differing)}); "
            "give another --out, or remove that folder"
        )


def _completed(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity that an earlier version wrote, with what was not to be chosen then."""
    plan = {key: value for key, value in identity.items() if key in {each.name for each in fields(Plan)}}
    try:
        return {**identity, **json.loads(json.dumps(Plan.from_dict(plan).to_dict()))}
    except ValueError:
        return identity


# Worker processes -----------------------------------------------------------------------------------------------------


@contextmanager
def _workers(
    plan: Plan, runs: Sequence[Run], results: dict[str, dict[str, Any]], jobs: int
) -> Iterator[ProcessPoolExecutor]:
    """Processes for the runs, and a progress bar over all their epochs; on Ctrl-C they are stopped at once.

    Nothing is lost by that: results and checkpoints are replaced whole, and a resumed run starts from its last epoch.
    """
    context = multiprocessing.get_context("spawn")
    queue: SimpleQueue[tuple[str, int]] = context.SimpleQueue()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, context, _start_worker, (queue, _threads(jobs), plan.imports))
    with _progress(plan, runs, results, queue):
        try:
            yield pool
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()  # Lightning would take a polite request as one to finish the batch
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C. It reaches every process of the group; what becomes of the workers is for the parent to say."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _progress(
    plan: Plan, runs: Sequence[Run], results: dict[str, dict[str, Any]], queue: "SimpleQueue[Any]"
) -> Iterator[None]:
    """A bar that counts epochs, with the time left, fed from the workers' queue by a thread."""
    epochs = int(plan.fit["trainer"]["max_epochs"])
    done = dict.fromkeys(results, epochs)

    def listen() -> None:
        while (message := queue.get()) is not None:
            run, epoch = message
            done[run] = epoch
            bar.set_description(f"{sum(count == epochs for count in done.values())}/{len(runs)} runs, {run}")
            bar.n = sum(done.values())
            bar.refresh()

    with tqdm(total=epochs * len(runs), initial=sum(done.values()), unit="epoch", dynamic_ncols=True) as bar:
        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        yield
        # Not after an error: a worker that was stopped may have died holding the queue.
        queue.put(None)
        listener.join()


def _start_worker(queue: "SimpleQueue[tuple[str, int]]", threads: int, imports: Sequence[str]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _queue.set(queue)
    torch.set_num_threads(threads)
    for name in imports:
        import_by_name(name)


def _end_with_parent() -> None:
    """A killed benchmark must not leave workers that go on writing into its folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(plan: Plan, run: Run, out: Path, root: str | None) -> dict[str, Any]:
    queue = _queue.get()
    trace = run_directory(out, run.id) / "error.txt"
    trace.unlink(missing_ok=True)
    try:
        return execute(plan, run, out, root, lambda name, epoch: queue.put((name, epoch)))
    except Exception as error:
        write_atomically(trace, traceback.format_exc())
        # Not the error itself: not every one can be sent to another process.
        raise RunsFailed(f"{type(error).__name__}: {error} ({trace} shows where)") from None
