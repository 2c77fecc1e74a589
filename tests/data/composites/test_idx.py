import re
from pathlib import Path

import numpy as np
import pytest

from recon.data.composites.idx import read_idx

HEADER = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4])


def test_reads_the_array_that_the_header_describes(tmp_path: Path) -> None:
    file = tmp_path / "images"
    file.write_bytes(HEADER + bytes(range(24)))
    np.testing.assert_array_equal(read_idx(file, 3), np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize("length", [16, 39, 41])
def test_a_file_of_another_length_than_its_header_says_is_refused(tmp_path: Path, length: int) -> None:
    file = tmp_path / "images"
    file.write_bytes((HEADER + bytes(25))[:length])
    with pytest.raises(ValueError, match=rf"{re.escape(str(file))} has {length} bytes.*2x3x4.*says 40"):
        read_idx(file, 3)


@pytest.mark.parametrize("content", [b"", HEADER[:15], b"\x1f\x8b" + bytes(40), b"<html>" * 10], ids=repr)
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "images"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"\({len(content)} bytes\) does not start with the 16-byte IDX header"):
        read_idx(file, 3)


def test_another_number_of_dimensions_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_bytes(HEADER + bytes(24))
    with pytest.raises(ValueError, match="8-byte IDX header of unsigned bytes in 1 dimensions"):
        read_idx(file, 1)
