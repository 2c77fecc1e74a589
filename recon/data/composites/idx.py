"""The IDX file format of MNIST and Fashion-MNIST.

Layout (LeCun, Cortes & Burges, "The MNIST database"): two zero bytes, a type code (8: unsigned
byte), the number of dimensions, each dimension as a big-endian 32-bit integer, then the data in C
order.
"""

import math
from pathlib import Path

import numpy as np

from recon.files.reading import open_regular

_UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes.

    Args:
        path: The file.
        dimensions: How many dimensions its array must have.

    Returns:
        The array, uint8, not writable.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not of this format, or not as long as its header says.
    """
    with open_regular(path) as file:
        content = file.read()
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise ValueError(
            f"{path} ({len(content)} bytes) does not start with the {start}-byte IDX header of unsigned bytes in "
            f"{dimensions} dimensions; is it still compressed, or another file?"
        )
    shape = [int(extent) for extent in np.frombuffer(content, ">u4", dimensions, offset=4)]
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise ValueError(
            f"{path} has {len(content)} bytes, but its header (shape {'x'.join(map(str, shape))}) says {expected}; "
            "delete it and get it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
