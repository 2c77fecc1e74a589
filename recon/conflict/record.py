"""The JSON file of a conflict map: one layer per line, with a checksum.

    {"format": "recon-conflict-map", "version": 2,
     "provenance": {"network", "steps", "observed_steps", "every", "recon", "torch", ...},
     "kind": "measured",
     "tasks": [K names],
     "checksum": see ``recon.files.checksum``,
     "layers": [{"name", "parameters",
                 "gradient_norms": [K means; null where the task had no gradient],
                 "pairs": see ``recon.conflict.pairs``}]}

    {"format": "recon-conflict-map", "version": 2, "provenance": {"source", ...},
     "kind": "imported", "severity": S, "checksum", "layers": [{"name", "score"}]}

Measured layers stand in forward order, imported layers in the order of the file they came from.
Pairs stand in the order of ``itertools.combinations(tasks, 2)``. The outermost bins include the
cosines that rounding puts beyond -1 and 1. Version 1 had no checksum and no packed pairs; its files
are still read.
"""

import json
from pathlib import Path
from typing import Any

from recon.errors import number_of
from recon.files.atomic import write_atomically
from recon.files.checksum import KEY, check_seal, checksum
from recon.files.reading import read_object, require, require_count

FORMAT = "recon-conflict-map"
VERSION = 2


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a map's record atomically, with format, version and checksum, one layer per line."""
    head = {"format": FORMAT, "version": VERSION, **record}
    head[KEY] = checksum(head)
    layers = head.pop("layers")
    lines = ",\n  ".join(json.dumps(layer, allow_nan=False) for layer in layers)
    fields = "".join(f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)},\n" for key, value in head.items())
    write_atomically(path, f'{{\n{fields} "layers": [\n  {lines}\n ]\n}}\n')


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a saved map.

    Raises:
        ValueError: The file is no conflict map, or is of a version that this recon does not know.
    """
    record = read_object(path)
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no conflict map: its 'format' is {record.get('format')!r}, not {FORMAT!r}; "
            "read a published file of {layer: score} with ConflictMap.import_scores"
        )
    version = record.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(
            f"{path} is a conflict map of version {version!r}, and this recon reads versions 1 to "
            f"{VERSION}; read it with the recon that wrote it, or search again"
        )
    return record


def check_sealed(record: dict[str, Any]) -> None:
    """Raise a ValueError if the checksum is wrong, or if version 2 or later has none."""
    if not check_seal(record) and record["version"] > 1:
        raise ValueError(f"the map has no {KEY!r}")


def named_layers(record: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the layers of a map's record with their names, which must differ."""
    layers = require(record, "layers", (list,), "the map")
    names = [require(layer, "name", (str,), f"layer number {number}") for number, layer in enumerate(layers)]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"it has {len(names)} layers with {number_of(len(set(names)), 'different name')}")
    return list(zip(names, layers, strict=True))


def read_ranking(path: Path) -> dict[str, int]:
    """Return a published ranking, the JSON object ``{layer: score}``.

    Raises:
        ValueError: The file is a saved map, or is not such an object.
    """
    ranking = read_object(path)
    if ranking.get("format") == FORMAT:
        raise ValueError(f"{path} is a saved conflict map, not a published one; read it with ConflictMap.load")
    try:
        scores = {layer: require_count(score, f"the score of layer {layer!r}") for layer, score in ranking.items()}
        if not scores:
            raise ValueError("it has no layers")
    except ValueError as error:
        raise ValueError(f"cannot import {path}: {error}; give a JSON object {{layer: score}}") from error
    return scores
