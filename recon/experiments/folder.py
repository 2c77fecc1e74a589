"""The folder of a benchmark: the files of its runs, and its lock."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recon.experiments.result import checked_result
from recon.experiments.runs import Run
from recon.files.atomic import remove_leftovers, write_json
from recon.files.checksum import check_seal, sealed
from recon.files.reading import read_object
from recon.tasks.task import Task

CHECKPOINT = "last.ckpt"


@dataclass(frozen=True)
class ResultsFolder:
    """The results of a plan, written by one process at a time.

    Each run has a folder below ``runs``. Runs that the plan does not have any more are kept below
    ``aside``.

    >>> ResultsFolder(Path("results")).run("joint-plain-seed0")
    PosixPath('results/runs/joint-plain-seed0')

    Attributes:
        path: The folder.
    """

    path: Path

    def run(self, run_id: str) -> Path:
        """Folder of a run: its configuration, checkpoint, logs, conflict map and result."""
        return self.path / "runs" / run_id

    @property
    def aside(self) -> Path:
        """Folder of the runs that the plan does not have."""
        return self.path / "aside"

    @property
    def incoming(self) -> Path:
        """Folder of runs that are being copied; what a killed process left there is removed."""
        return self.path / "incoming"

    def checkpoint(self, run_id: str) -> Path:
        """File of a run's last finished epoch, from which it resumes."""
        return self.run(run_id) / CHECKPOINT

    def conflict_map(self, run_id: str) -> Path:
        """File of the conflict map that a run finds."""
        return self.run(run_id) / "conflict_map.json"

    def proposal(self, label: str, number: int) -> Path:
        """File of the setting that a trial of an entry's sweep tries."""
        return self.path / "sweeps" / f"{label}-{number}.json"

    def error(self, run_id: str) -> Path:
        """File that says why a run failed."""
        return self.run(run_id) / "error.txt"

    def keep(self, result: Mapping[str, Any]) -> None:
        """Write a run's result, whole or not at all, with its checksum."""
        write_json(result_file(self.run(result["id"])), sealed(result))

    def finished(self, run: Run, tasks: Sequence[Task]) -> dict[str, Any] | None:
        """The result of a finished run; ``None`` while there is none.

        Args:
            run: The run.
            tasks: The tasks of the plan, whose metrics know their ranges.

        Raises:
            ValueError: The file is damaged, or holds the result of another run.
        """
        result = read_result(self.run(run.id))
        return None if result is None else checked(result, self.run(run.id), run, tasks)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, and remove half-written files.

        Raises:
            ValueError: Another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(
                f"another benchmark is running in {self.path}; wait for it, or give another --out"
            ) from error
        try:
            for pattern in ("", "runs/*/", "aside/*/"):
                remove_leftovers(self.path, pattern)
            if self.incoming.exists():
                shutil.rmtree(self.incoming)
            yield
        finally:
            lock.release()


def result_file(directory: Path) -> Path:
    """File of the result in a run's folder."""
    return directory / "result.json"


def read_result(directory: Path) -> dict[str, Any] | None:
    """The record of a result in a run's folder, intact by its checksum; ``None`` without one.

    Raises:
        ValueError: It is damaged.
    """
    path = result_file(directory)
    if not path.exists():
        return None
    try:
        record = read_object(path)
    except ValueError as error:
        raise ValueError(f"{error}; or remove it to repeat the run") from error
    try:
        check_seal(record)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; remove it to repeat the run") from error
    return record


def checked(record: Mapping[str, Any], directory: Path, run: Run, tasks: Sequence[Task]) -> dict[str, Any]:
    """The result that a record from a folder holds, which must be that of a run.

    Raises:
        ValueError: It is not.
    """
    try:
        return checked_result(record, run, tasks)
    except ValueError as error:
        path = result_file(directory)
        raise ValueError(f"{path} is not the result of {run.id}: {error}; remove it to repeat the run") from error
