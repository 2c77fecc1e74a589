"""JSON records that know when they were altered: a SHA-256 of what they hold stands in them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "checksum"


def checksum(record: Mapping[str, Any]) -> str:
    """The SHA-256 of a JSON object, as its ``checksum`` states it.

    It is of the values and not of the text: indentation, and the order of keys, may change. The key ``checksum``
    itself does not count.

    >>> checksum({"a": 1, "b": [0.5]}) == checksum({"b": [0.5], "a": 1, "checksum": "?"})
    True

    Raises:
        ValueError: A value that JSON has no number for (NaN, infinity).
    """
    content = {key: value for key, value in record.items() if key != KEY}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its checksum, as the last key."""
    return {**{key: value for key, value in record.items() if key != KEY}, KEY: checksum(record)}


def check_seal(record: Mapping[str, Any]) -> bool:
    """Whether a record has a checksum, which must be that of what it holds; records of earlier versions have none.

    Raises:
        ValueError: It holds something else than when it was sealed.
    """
    if KEY not in record:
        return False
    if record[KEY] != checksum(record):
        raise ValueError("its checksum is not that of what it holds, so it was damaged or edited")
    return True
