"""The runs that a folder of results has: each goes to the run of the plan that it is, or aside."""

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from recon.experiments.folder import CHECKPOINT, ResultsFolder, checked, read_result, result_file
from recon.experiments.job import Job
from recon.experiments.reuse.identity import RunIdentity
from recon.experiments.reuse.plan_record import IDENTITY, identity_in, read_record
from recon.experiments.reuse.wanted import WantedRuns
from recon.experiments.runs import Run
from recon.files.atomic import write_json
from recon.files.checksum import sealed
from recon.tasks.task import Task

_SHOWN = 4
"""Names that a line shows; of more it shows the number."""


class Shelf:
    """Finished and interrupted runs, found by what they are.

    A run of the plan has its folder below ``runs`` if that holds the same run. Another run in its
    place goes below ``aside``. The same run comes back from there, whatever it was called, or is
    copied from a finished one. A finished one takes the place of an interrupted one. Each folder
    moves in one step, so a kill loses nothing.

    Args:
        folder: The folder of the results, which is held.
        content: The identity of the data.
        root: The folder of the data, by which earlier versions knew them.
        tasks: The tasks of the plan.
        reuse: Folders of other benchmarks, whose finished runs may be copied.
        copied: Ids of the runs that are copied where a finished one is the same.
        tell: Is given a line about runs that move.
    """

    def __init__(
        self,
        folder: ResultsFolder,
        content: str | None,
        root: str | None,
        tasks: Sequence[Task],
        reuse: Sequence[Path],
        copied: Collection[str],
        tell: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._content = content
        self._root = root
        self._tasks = tasks
        self._reuse = [
            (path, _finished_in(path, root, content)) for path in reuse if path.resolve() != folder.path.resolve()
        ]
        self._copied = copied
        self._tell = tell
        self._wanted = WantedRuns(folder, content, tasks)
        self._settled: set[str] = set()

    def take_over(self, record: Mapping[str, Any], runs: Iterable[Run]) -> None:
        """Write the identities of runs that an earlier version began; nothing else changes.

        Args:
            record: The record of the plan that they were of.
            runs: The runs of the plan, whose results must be intact.

        Raises:
            ValueError: A file is damaged.
        """
        for run in runs:
            read_result(self._folder.run(run.id))
        found = {path: identity_in(path, record, self._root, self._content) for path in _folders(self._folder.run(""))}
        for path, identity in found.items():
            if identity is not None and not (path / IDENTITY).exists():
                write_json(path / IDENTITY, identity.sealed())

    def settle(self, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
        """Give each job the run that it is, if there is one; return the results of finished ones.

        Jobs whose layers come from a run that is not finished wait for a later call.

        Raises:
            ValueError: A result is damaged.
        """
        results: dict[str, dict[str, Any]] = {}
        waiting = list(jobs)
        while ready := [job for job in waiting if self._is_known(job)]:
            waiting = [job for job in waiting if job not in ready]
            runs = [job.run for job in ready]
            self._put_aside(runs)
            self._fetch(runs)
            self._settled |= {run.id for run in runs}
            for run in runs:
                self._wanted.remember(run)
            found = {run.id: self._folder.finished(run, self._tasks) for run in runs if self._is_in_place(run)}
            results |= {run_id: result for run_id, result in found.items() if result is not None}
        return results

    def clear(self, runs: Iterable[Run]) -> None:
        """Put all runs aside that are not of the plan."""
        known = {run.id for run in runs}
        unknown = [path for path in _folders(self._folder.run("")) if path.name not in known]
        for path in unknown:
            self._move_aside(path)
        if unknown:
            self._tell(f"not in the plan, kept in {self._folder.aside}: {_some([path.name for path in unknown])}")

    def identity(self, job: Job) -> str | None:
        """The hash of what a job is; ``None`` while its layers cannot be chosen."""
        return self._wanted[job.run].hash if self._is_known(job) else None

    def begin(self, job: Job) -> dict[str, Any] | None:
        """Prepare the folder of a job that is about to begin; its result, if it need not begin."""
        results = self.settle([job])
        if job.run in self._wanted and not self._is_in_place(job.run):
            self._wanted.write(self._folder.run(job.run.id), job.run)
        return results.get(job.run.id)

    def _is_known(self, job: Job) -> bool:
        """Whether a job's layers can be chosen by now; then its identity is kept."""
        return all(self._is_finished(run_id) for run_id in job.run.waits_for) and self._wanted.find(job)

    def _is_finished(self, run_id: str) -> bool:
        return run_id in self._settled and result_file(self._folder.run(run_id)).exists()

    def _is_in_place(self, run: Run) -> bool:
        return (self._folder.run(run.id) / IDENTITY).exists()

    def _put_aside(self, runs: Iterable[Run]) -> None:
        """Put runs aside that are in the place of others."""
        others: dict[str, list[str]] = {}
        for run in runs:
            path = self._folder.run(run.id)
            own = _identity_of(path)
            if own is None and not (result_file(path).exists() or (path / CHECKPOINT).exists()):
                continue
            if own is None or own.hash != self._wanted[run].hash:
                keys = ["nobody knows what"] if own is None else own.differences(self._wanted[run])
                self._move_aside(path)
                others.setdefault(", ".join(keys), []).append(run.id)
        for differing, names in others.items():
            self._tell(f"changed by {differing}, the earlier run kept in {self._folder.aside}: {_some(names)}")

    def _move_aside(self, path: Path) -> None:
        identity = _identity_of(path)
        name = f"{path.name}-{'unknown' if identity is None else identity.hash[:12]}"
        self._folder.aside.mkdir(exist_ok=True)
        places = (self._folder.aside / (name if number == 1 else f"{name}-{number}") for number in count(1))
        path.rename(next(place for place in places if not place.exists()))

    def _fetch(self, runs: Iterable[Run]) -> None:
        """Bring the runs that runs of the plan are, as far as there are such."""
        aside = [(path, identity) for path in _folders(self._folder.aside) if (identity := _identity_of(path))]
        brought: dict[str, list[str]] = {}
        for run in runs:
            place, wanted = self._folder.run(run.id), self._wanted[run].hash
            if result_file(place).exists():
                continue
            same = [path for path, identity in aside if identity.hash == wanted and path.exists()]
            if self._is_in_place(run):  # it was interrupted, so that only a finished one is of use
                same = [path for path in same if result_file(path).exists()]
            if same:
                path = max(same, key=lambda path: (result_file(path).exists(), (path / CHECKPOINT).exists()))
                self._wanted.write(path, run)
                _name(path, run, self._tasks)
                self._replace(path, run)
                brought.setdefault(f"back from {self._folder.aside}", []).append(run.id)
            elif run.id in self._copied and (source := self._source(wanted)):
                self._copy(source[1], run)
                brought.setdefault(f"copied from {source[0]}", []).append(run.id)
        for how, ids in brought.items():
            self._tell(f"{how}: {_some(ids)}")

    def _source(self, wanted: str) -> tuple[Path, Path] | None:
        """A folder of results, and the folder in it of a finished run to copy."""
        for folder, finished in self._reuse:
            if wanted in finished:
                return folder, finished[wanted]
        for path in map(self._folder.run, self._wanted.same(wanted)):
            if result_file(path).exists() and _is(path, wanted):
                return self._folder.path, path
        return None

    def _copy(self, path: Path, run: Run) -> None:
        incoming = self._folder.incoming / run.id
        shutil.copytree(path, incoming)
        self._wanted.write(incoming, run)
        _name(incoming, run, self._tasks)
        self._replace(incoming, run)
        self._folder.incoming.rmdir()

    def _replace(self, path: Path, run: Run) -> None:
        """Move a folder to the place of a run, where nothing but a failure may be."""
        place = self._folder.run(run.id)
        if place.exists():
            self._move_aside(place)
        place.parent.mkdir(exist_ok=True)
        path.rename(place)


def _name(path: Path, run: Run, tasks: Sequence[Task]) -> None:
    """Give a result in a folder the names of a run, if it is a result of that run."""
    record = read_result(path)
    if record is not None:
        names = {"id": run.id, "method": run.label, "variant": run.variant}
        result = {**record, **names}
        if result != record:
            checked({key: value for key, value in result.items() if key != "checksum"}, path, run, tasks)
            write_json(result_file(path), sealed(result))


def _finished_in(folder: Path, root: str | None, content: str | None) -> dict[str, Path]:
    """Hash -> the folder of a finished run of another benchmark."""
    record = read_record(folder)
    if record is None:
        raise ValueError(f"{folder} holds no benchmark whose runs could be reused; give a folder of results")
    found: dict[str, Path] = {}
    for path in (*_folders(folder / "aside"), *_folders(folder / "runs")):
        if result_file(path).exists():
            identity = identity_in(path, record, root, content)
            found |= {} if identity is None else {identity.hash: path}
    return found


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []


def _identity_of(directory: Path) -> RunIdentity | None:
    """The identity of the run in a folder; ``None`` if nothing was begun there."""
    return RunIdentity.load(directory / IDENTITY) if (directory / IDENTITY).exists() else None


def _is(directory: Path, wanted: str) -> bool:
    identity = _identity_of(directory)
    return identity is not None and identity.hash == wanted


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
