"""JSON records that hold their own SHA-256, so that changes show."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "checksum"


def checksum(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object, as its ``checksum`` states it.

    It depends on the values and not on the text: indentation and the order of keys may change. The
    key ``checksum`` itself does not count.

    Example:
        >>> checksum({"a": 1, "b": [0.5]}) == checksum({"b": [0.5], "a": 1, "checksum": "?"})
        True

    Raises:
        ValueError: A value is NaN or infinity, which JSON lacks.
    """
    content = {key: value for key, value in record.items() if key != KEY}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with its checksum as the last key."""
    return {**{key: value for key, value in record.items() if key != KEY}, KEY: checksum(record)}


def check_seal(record: Mapping[str, Any]) -> bool:
    """Return whether a record has a checksum, which must be right.

    Records of earlier versions have none.

    Raises:
        ValueError: The content has changed since the record was sealed.
    """
    if KEY not in record:
        return False
    if record[KEY] != checksum(record):
        raise ValueError("its checksum is not that of what it holds, so it was damaged or edited")
    return True
