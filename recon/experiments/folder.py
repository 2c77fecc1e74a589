"""The folder of a benchmark: the identity of its results, the files of its runs, and its lock."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recon.conflict import map_file
from recon.experiments.contents import content_of
from recon.experiments.fit import Fit
from recon.experiments.plan import Plan, Run
from recon.experiments.result import checked_result
from recon.files.atomic import remove_leftovers, write_json
from recon.files.checksum import sealed
from recon.files.reading import read_object
from recon.moved import with_new_names
from recon.tasks.task import Task


@dataclass(frozen=True)
class Identity:
    """The origin of a folder's results: the plan, the content of its data, its maps and trees.

    Args:
        record: The content of ``plan.json``.
        by_path: The same as earlier versions wrote it, with the data by their folder. Equal to
            ``record`` for data that do not list their files (:mod:`recon.experiments.contents`).
    """

    record: dict[str, Any]
    by_path: dict[str, Any]

    @classmethod
    def of(cls, plan: Plan, fit: Fit) -> "Identity":
        """The identity of a plan on its data, which must have been prepared."""
        files = {path: map_file(path) for path in plan.maps} | {path: Path(path) for path in plan.trees}
        hashes = {path: hashlib.sha256(file.read_bytes()).hexdigest() for path, file in files.items()}
        folder = None if fit.root is None else str(Path(fit.root).expanduser().resolve())
        record = {**plan.to_dict(), "data": folder, "map_sha256": hashes}
        by_path = with_new_names(json.loads(json.dumps(record)))
        content = content_of(fit.data())
        if content is None:
            return cls(by_path, by_path)
        return cls({**_without_root(by_path), "data": content}, by_path)

    def check_same(self, other: dict[str, Any], folder: Path) -> None:
        """Check that another record, found in a folder, is this one.

        Raises:
            ValueError: Plan or data differ.
        """
        own = self.record
        differing = sorted(key for key in own.keys() | other.keys() if own.get(key) != other.get(key))
        if differing == ["data"]:
            raise ValueError(
                f"{folder} holds the results of this plan on other data; give another --out, or the same data"
            )
        if differing:
            raise ValueError(
                f"{folder} holds the results of another plan, {other.get('name')!r} "
                f"(what differs: {', '.join(differing)}); give another --out, or remove that folder"
            )


@dataclass(frozen=True)
class ResultsFolder:
    """The results of one plan on the same data, written by one process at a time.

    ``plan.json`` says whose results they are. Each run has a folder below ``runs``.

    >>> ResultsFolder(Path("results")).run("joint-plain-seed0")
    PosixPath('results/runs/joint-plain-seed0')

    Attributes:
        path: The folder.
    """

    path: Path

    def run(self, run_id: str) -> Path:
        """Folder of a run: its configuration, checkpoint, logs, conflict map and result."""
        return self.path / "runs" / run_id

    def conflict_map(self, run_id: str) -> Path:
        """File of the conflict map that a run finds."""
        return self.run(run_id) / "conflict_map.json"

    def error(self, run_id: str) -> Path:
        """File that says why a run failed."""
        return self.run(run_id) / "error.txt"

    def keep(self, result: Mapping[str, Any]) -> None:
        """Write a run's result, whole or not at all, with its checksum."""
        write_json(self._result(result["id"]), sealed(result))

    def finished(self, run: Run, tasks: Sequence[Task]) -> dict[str, Any] | None:
        """The result of a finished run; ``None`` while there is none.

        Args:
            run: The run.
            tasks: The tasks of the plan, whose metrics know their ranges.

        Raises:
            ValueError: The file is damaged, or holds the result of another run.
        """
        path = self._result(run.id)
        if not path.exists():
            return None
        try:
            result = read_object(path)
        except ValueError as error:
            raise ValueError(f"{error}; or remove it to repeat the run") from error
        try:
            return checked_result(result, run, tasks)
        except ValueError as error:
            raise ValueError(f"{path} is not the result of {run.id}: {error}; remove it to repeat the run") from error

    @contextmanager
    def held(self, identity: Identity) -> Iterator[None]:
        """Hold the folder for one plan on its data, and remove half-written files.

        Raises:
            ValueError: Another process holds it, or it has the results of another plan or of other
                data.
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
            self._claim(identity)
            for pattern in ("", "runs/*/"):
                remove_leftovers(self.path, pattern)
            yield
        finally:
            lock.release()

    def _result(self, run_id: str) -> Path:
        return self.run(run_id) / "result.json"

    def _claim(self, identity: Identity) -> None:
        """Write the identity into the folder, or refuse if it holds another."""
        path = self.path / "plan.json"
        if not path.exists():
            if (self.path / "runs").exists():
                raise ValueError(f"{self.path} holds runs but no plan.json; give another --out, or remove that folder")
            write_json(path, identity.record)
            return
        try:
            other = _completed(read_object(path))
        except ValueError as error:
            raise ValueError(f"{error}; or give another --out") from error
        if other == identity.by_path:
            write_json(path, identity.record)  # from here on by content
        else:
            identity.check_same(other, self.path)


def _completed(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity of an earlier version with the defaults of newer keys, and under new names."""
    identity = with_new_names(identity)
    plan = {key: value for key, value in identity.items() if key in {each.name for each in fields(Plan)}}
    try:
        return {**identity, **json.loads(json.dumps(Plan.from_dict(plan).to_dict()))}
    except ValueError:
        return identity


def _without_root(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity without the folder of the data, if the plan itself names it."""
    identity = deepcopy(identity)
    arguments = identity["fit"]["data"].get("init_args")
    if arguments:
        arguments.pop("root", None)
    return identity
