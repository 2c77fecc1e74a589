"""The conflict map that a command is given, and the severity at which it is read."""

import sys
from pathlib import Path

from recon.conflict import DEFAULT_SEVERITY, ConflictMap, ImportedMap, read_map


def load_map(path: Path, severity: float | None) -> ConflictMap:
    """Read a map or a ranking; tell on standard error if its severity is assumed.

    Args:
        path: File of a conflict map or of a {layer: score} ranking, or the name of a published
            ranking.
        severity: Severity S at which a ranking was counted, if it is known.

    Raises:
        ValueError: It cannot be read, or is of another severity.
    """
    conflict_map = read_map(path, severity)
    tell_if_assumed(conflict_map)
    return conflict_map


def tell_if_assumed(conflict_map: ConflictMap) -> None:
    """Say on standard error that an imported map does not know its severity, if so."""
    if isinstance(conflict_map, ImportedMap) and conflict_map.severity_is_assumed:
        print(
            f"{conflict_map.provenance['source']} does not say at which severity its scores were counted: "
            f"{conflict_map.severity} is assumed; --severity=S tells it",
            file=sys.stderr,
        )


def severity_or_default(*candidates: float | None) -> float:
    """The first severity that is given, else the default.

    >>> severity_or_default(None, 0.0), severity_or_default(None)
    (0.0, -0.1)
    """
    return next((severity for severity in candidates if severity is not None), DEFAULT_SEVERITY)
