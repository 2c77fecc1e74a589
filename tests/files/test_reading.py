import os
from collections.abc import Callable
from pathlib import Path

import pytest

from recon.configuration import read_yaml
from recon.conflict import ConflictMap
from recon.data.cache import _read
from recon.data.composites.idx import read_idx
from recon.data.preparation.manifest import file_record
from recon.files.reading import open_regular, read_object


@pytest.mark.parametrize(
    "read",
    [
        open_regular,
        read_object,
        file_record,
        ConflictMap.load,
        lambda path: read_yaml(path, "plan"),
        lambda path: read_idx(path, 1),
        lambda path: _read(path, "header"),
    ],
)
def test_a_pipe_is_refused_where_a_file_is_read(read: Callable[[Path], object], tmp_path: Path) -> None:
    """It would be waited for until somebody writes."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((OSError, ValueError), match="it is no regular file"):
        read(tmp_path / "pipe")


def test_a_device_is_refused() -> None:
    with pytest.raises(OSError, match="it is no regular file"):
        open_regular("/dev/zero")
