"""The identity of a run: its configuration, branched layers, seed and content of the data.

The plan is no part of it: a plan may gain methods and seeds, and still has its finished runs.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recon.conflict import map_file
from recon.experiments.fit import Fit
from recon.experiments.job import Job
from recon.experiments.reuse.canonical import canonical, canonical_data, canonical_trainer
from recon.experiments.reuse.contents import content_of
from recon.experiments.search import stop_options
from recon.files.checksum import check_seal, checksum, sealed
from recon.files.reading import read_object, require
from recon.version import __version__

_FORMAT = 1

_OF_OTHER_RUNS = ("name", "methods", "single", "imports", "seeds", "variants", "trials", "resources")
"""Keys of plans and entries that a run by itself does not depend on."""


@dataclass(frozen=True)
class RunIdentity:
    """Everything that makes a run the run that it is.

    Two runs are the same if their hashes are equal. Neither the name of an entry counts, nor its
    place in the plan, nor how its layers were chosen, nor how many processes read its data, nor
    what is logged. The accelerator counts if the plan names one; ``auto`` is the same everywhere.

    >>> fit = {"trainer": {"max_epochs": 2}, "model": {"backbone": "recon.models.LeNet"}}
    >>> fit |= {"data": {"class_path": "recon.data.Glyphs"}, "seed_everything": 0}
    >>> run = RunIdentity.of_configuration(fit, data=None, every=1)
    >>> fit |= {"trainer": {"max_epochs": 3}}
    >>> longer = RunIdentity.of_configuration(fit, data=None, every=1)
    >>> run.differences(longer)
    ['trainer.max_epochs']

    Attributes:
        record: The canonical configuration (:mod:`recon.experiments.reuse.canonical`) with the keys
            ``trainer``, ``model``, ``data`` and ``seed_everything``; and beside it ``content``, of
            the data, ``every``, ``tree``, the checksum of a task tree's file, ``base``, the
            backbone that another stands for, ``tested``, of a grid's runs, and ``search``, of a run
            that only finds a map.
    """

    record: dict[str, Any]

    @classmethod
    def of(cls, job: Job, content: str | None) -> "RunIdentity":
        """The identity of a job, whose layers must be known.

        Args:
            job: The job; if it takes its layers from another run, that run is finished.
            content: The identity of its data (:func:`data_identity`).

        Raises:
            ValueError: Its layers cannot be chosen.
        """
        tree = job.run.entry.tree
        sha = None if tree is None else file_sha256(Path(tree))
        run = cls.of_configuration(job.own_fit().configuration, content, job.plan.every, sha)
        base = canonical(job.network().configuration)["model"]["backbone"]
        own = {} if base == run.record["model"]["backbone"] else {"base": base}
        if job.run.variant == "grid":  # it observes no conflicts
            del run.record["every"]
            own["tested"] = "held-out training data"
        if job.run.variant == "search":
            stop = stop_options(job.plan.stop, job.plan.top, job.plan.severity)
            own["search"] = {} if stop is None else asdict(stop)
        return cls({**run.record, **own})

    @classmethod
    def of_configuration(
        cls, configuration: Mapping[str, Any], data: str | None, every: int, tree: str | None = None
    ) -> "RunIdentity":
        """The identity of a run by its ``config.yaml``.

        Args:
            configuration: The configuration; its branched layers are named.
            data: The identity of its data.
            every: Conflicts are observed in each n-th step; without branches by one task there are
                none.
            tree: The SHA-256 of the file of its task tree.
        """
        form = canonical(configuration)
        observed = {} if "only" in form["model"] else {"every": every}
        return cls({**form, "content": data, **observed, **({} if tree is None else {"tree": tree})})

    @classmethod
    def load(cls, path: Path) -> "RunIdentity":
        """Read an identity.

        Raises:
            ValueError: The file is damaged.
        """
        record = read_object(path)
        try:
            check_seal(record)
            run = require(record, "run", (dict,), "it")
            trainer, data = (require(run, key, (dict,), "its run") for key in ("trainer", "data"))
            return cls({**run, "trainer": canonical_trainer(trainer), "data": canonical_data(data)})
        except ValueError as error:
            raise ValueError(f"{path}: {error}; remove the folder {path.parent} to repeat the run") from error

    def sealed(self, request: str | None = None) -> dict[str, Any]:
        """The identity as its file holds it, beside its request (:func:`request_of`)."""
        return sealed({"format": _FORMAT, "sha256": self.hash, "request": request, "run": self.record})

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of the record, as hexadecimal digits."""
        return checksum(self.record).removeprefix("sha256:")

    def differences(self, other: "RunIdentity") -> list[str]:
        """The keys whose values differ, nested ones with dots between."""
        return _differences(self.record, other.record)


def request_of(job: Job, content: str | None) -> str:
    """A checksum of everything that a job's identity follows from, without choosing its layers.

    Layers within a budget take a while to choose. The same request has the same identity; two
    requests may have one identity too.

    Args:
        job: The job; if it takes its layers from another run, that run is finished.
        content: The identity of its data.
    """
    run, entry = job.run, job.run.entry
    found = job.plan.map_of(entry)
    map_path = None if found is None else map_file(found)
    if map_path is None and run.needs is not None:
        map_path = job.folder.conflict_map(run.needs)
    request = {
        "recon": __version__,
        "plan": {key: value for key, value in job.plan.to_dict().items() if key not in _OF_OTHER_RUNS},
        "entry": {key: value for key, value in asdict(entry).items() if key not in _OF_OTHER_RUNS},
        "run": [run.variant, run.seed, run.task],
        "setting": job.setting(),
        "map": None if map_path is None else file_sha256(map_path),
        "tree": None if entry.tree is None else file_sha256(Path(entry.tree)),
        "data": [content, root_of(job.fit)],
    }
    return checksum(request)


def data_identity(fit: Fit) -> str | None:
    """The content of the data that a fit reads, which must have been prepared.

    It is the folder instead, if the data do not list their files; ``None`` without a folder.
    """
    return content_of(fit.data()) or root_of(fit)


def root_of(fit: Fit) -> str | None:
    """The folder of a fit's data as an absolute path, if it has one."""
    root = (fit.configuration["data"].get("init_args") or {}).get("root")
    return None if root is None else str(Path(root).expanduser().resolve())


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _differences(first: Any, second: Any, prefix: str = "") -> list[str]:
    if not (isinstance(first, dict) and isinstance(second, dict)):
        same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
        return [] if same else [prefix.removesuffix(".")]
    keys = [*first, *(key for key in second if key not in first)]
    return [path for key in keys for path in _differences(first.get(key), second.get(key), f"{prefix}{key}.")]
