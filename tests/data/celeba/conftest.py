import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for small_faces

from small_faces import prepare_faces, write_faces


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A folder with the official files of ten images of 8 x 6 pixels."""
    return write_faces(tmp_path / "source", size=(8, 6))


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared CelebA of ten images of 4 x 4 pixels."""
    return prepare_faces(tmp_path, size=4)
