"""The record of a plan in the folder of its results, and runs that it tells the identity of.

Earlier versions kept no identity beside a run. Its ``config.yaml`` has the configuration, and
``plan.json`` what else belongs to it.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from recon.conflict import map_file
from recon.experiments.fit import Fit
from recon.experiments.plan import Plan
from recon.experiments.reuse.identity import RunIdentity, file_sha256, root_of
from recon.files.reading import read_object
from recon.moved import with_new_names

PLAN = "plan.json"
IDENTITY = "identity.json"


def plan_record(plan: Plan, fit: Fit, data: str | None) -> dict[str, Any]:
    """The content of ``plan.json``: the plan, the identity of its data, its maps and its trees.

    Args:
        plan: The plan.
        fit: Its ``fit`` with the folder of the data.
        data: The identity of the data.
    """
    files = {path: map_file(path) for path in plan.maps} | {path: Path(path) for path in plan.trees}
    record = {
        **with_new_names(json.loads(json.dumps(plan.to_dict()))),
        "data": data,
        "map_sha256": {path: file_sha256(file) for path, file in files.items()},
    }
    if data is None or data == root_of(fit):
        return record
    record = deepcopy(record)
    (record["fit"]["data"].get("init_args") or {}).pop("root", None)
    return record


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record in a folder of results, under new names; ``None`` for a folder without runs.

    Raises:
        ValueError: It is damaged, or there are runs without it.
    """
    path = folder / PLAN
    if not path.exists():
        if (folder / "runs").exists():
            raise ValueError(f"{folder} holds runs but no plan.json; give another --out, or remove that folder")
        return None
    try:
        record: dict[str, Any] = with_new_names(read_object(path))
    except ValueError as error:
        raise ValueError(f"{error}; or give another --out") from error
    if not isinstance(record.get("fit"), dict):
        raise ValueError(f"{path} holds no plan; restore it from a copy, or give another --out")
    return record


def identity_in(directory: Path, record: Mapping[str, Any], root: str | None, data: str | None) -> RunIdentity | None:
    """The identity of the run in a folder; ``None`` if nothing was begun there.

    Args:
        directory: The run's folder.
        record: The record of the folder of results that it is in.
        root: The folder of the data now. Earlier versions knew data by it.
        data: The identity of the data there.

    Raises:
        ValueError: A file is damaged.
    """
    if (directory / IDENTITY).exists():
        return RunIdentity.load(directory / IDENTITY)
    configuration = directory / "config.yaml"
    if not configuration.exists():
        return None
    told = _data_of(record)
    content = data if told == root and root is not None else told
    try:
        content_of_yaml = yaml.safe_load(configuration.read_text(encoding="utf-8"))
        every, tree = record.get("every", 1), _tree_of(record, directory.name)
        return RunIdentity.of_configuration(content_of_yaml, content, every, tree)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{configuration} is damaged; remove the folder {directory} to repeat the run") from error


def _data_of(record: Mapping[str, Any]) -> str | None:
    """The identity of the data by a record: their content, or their folder."""
    data: str | None = record.get("data")
    if data is not None:
        return data
    section = record["fit"].get("data") or {}
    root = (section.get("init_args") or {}).get("root")
    return None if root is None else str(Path(root).expanduser().resolve())


def _tree_of(record: Mapping[str, Any], run_id: str) -> str | None:
    """The SHA-256 of the file of a run's task tree."""
    for entry in record.get("methods", ()):
        ids = [
            f"{entry.get('name') or entry['method']}-{variant}-seed{seed}"
            for variant in entry.get("variants", ())
            for seed in entry.get("seeds", ())
        ]
        if entry.get("tree") is not None and run_id in ids:
            sha: str | None = record.get("map_sha256", {}).get(entry["tree"])
            return sha
    return None
