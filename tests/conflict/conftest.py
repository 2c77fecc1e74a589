import json
import sys
from pathlib import Path

import pytest

from recon.conflict import MeasuredMap

sys.path.insert(0, str(Path(__file__).parent))  # for small_maps

from small_maps import PUBLISHED, measured_map


@pytest.fixture
def cmap() -> MeasuredMap:
    return measured_map(conv1={-100: 1, -11: 2, -10: 4, 0: 8, 99: 1}, bn1={-1: 3}, fc={})


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "published.json"
    path.write_text(json.dumps(PUBLISHED))
    return path
