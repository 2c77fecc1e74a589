"""The folder of a benchmark: held by one process at a time, for one plan on the same data."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pytorch_lightning import LightningDataModule

from recon.conflict import map_file
from recon.experiments.contents import content_of
from recon.experiments.plan import Plan
from recon.files.atomic import remove_leftovers, write_json
from recon.files.reading import read_object


@dataclass(frozen=True)
class Identity:
    """What a folder's results are of: the plan, what its data hold, and what its conflict maps say.

    Args:
        record: As ``plan.json`` holds it.
        by_path: As versions wrote it that knew data by their folder; the same as ``record`` where data do not tell
            what they read (:mod:`recon.experiments.contents`).
    """

    record: dict[str, Any]
    by_path: dict[str, Any]

    @classmethod
    def of(cls, plan: Plan, root: str | None, data: LightningDataModule) -> "Identity":
        """The identity of a plan on prepared data.

        Args:
            plan: The plan.
            root: Folder of the data set, for data modules that read one.
            data: The plan's data module.
        """
        maps = {path: hashlib.sha256(map_file(path).read_bytes()).hexdigest() for path in plan.maps}
        folder = None if root is None else str(Path(root).expanduser().resolve())
        by_path = json.loads(json.dumps({**plan.to_dict(), "data": folder, "map_sha256": maps}))
        content = content_of(data)
        if content is None:
            return cls(by_path, by_path)
        return cls({**_without_root(by_path), "data": content}, by_path)


@contextmanager
def held(identity: Identity, out: Path) -> Iterator[None]:
    """Hold the folder, for this plan on these data alone; what killed processes had begun to write is removed.

    Raises:
        ValueError: Another process holds it, or it has the results of another plan or of other data.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"another benchmark is running in {out}; wait for it, or give another --out") from error
    try:
        _claim(identity, out)
        for pattern in ("", "runs/*/"):
            remove_leftovers(out, pattern)
        yield
    finally:
        lock.release()


def _claim(identity: Identity, out: Path) -> None:
    """Note whose results the folder holds, or refuse when they are another plan's."""
    path = out / "plan.json"
    if not path.exists():
        if (out / "runs").exists():
            raise ValueError(f"{out} holds runs but no plan.json; give another --out, or remove that folder")
        write_json(path, identity.record)
        return
    try:
        other = _completed(read_object(path))
    except ValueError as error:
        raise ValueError(f"{error}; or give another --out") from error
    if other == identity.by_path:
        write_json(path, identity.record)  # from here on by content
        return
    own = identity.record
    differing = sorted(key for key in own.keys() | other.keys() if own.get(key) != other.get(key))
    if differing == ["data"]:
        raise ValueError(f"{out} holds the results of this plan on other data; give another --out, or the same data")
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


def _without_root(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity without the folder of the data, if the plan itself names it."""
    identity = deepcopy(identity)
    arguments = identity["fit"]["data"].get("init_args")
    if arguments:
        arguments.pop("root", None)
    return identity
