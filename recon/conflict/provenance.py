"""Provenance: the origin of a conflict map, as JSON can hold it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

ASSUMED = "assumed"
"""The ``severity`` of scores whose severity neither a ranking nor the user stated."""


def now() -> str:
    """Return the time as provenance states it: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def as_json(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return provenance as it will be read back; raise now rather than when the map is saved."""
    read_back = {}
    for key, value in provenance.items():
        try:
            read_back[key] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise TypeError(f"provenance {key}={value!r} is not JSON ({error}); give text or numbers") from error
    return read_back
