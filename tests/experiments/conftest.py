import json
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from recon.experiments import Plan
from recon.gradients.layers import shared_layers
from recon.models import LeNet

sys.path.insert(0, str(Path(__file__).parent))  # for some_jobs

TINY: dict[str, Any] = {
    "name": "tiny",
    "fit": {
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "model": {"backbone": {"class_path": "recon.models.ResNet18", "init_args": {"width": 4}}},
        "data": {
            "class_path": "recon.data.Glyphs",
            "init_args": {"train_size": 48, "test_size": 200, "batch_size": 16},
        },
    },
    "methods": [{"method": "joint", "variants": ["plain"]}],
    "top": 4,
}


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Plan]:
    """A plan of a second a run: joint plain, unless told otherwise."""
    return lambda **changes: Plan.from_dict({**deepcopy(TINY), **changes})


@pytest.fixture(scope="session")
def tiny_file() -> Callable[..., Path]:
    """The same, written as YAML into a folder."""

    def write(folder: Path, **changes: Any) -> Path:
        path = folder / "plan.yaml"
        path.write_text(yaml.safe_dump({**TINY, **changes}))
        return path

    return write


@pytest.fixture
def lenet_map(tmp_path: Path) -> Path:
    """A published map, of a network that the tiny plan does not train."""
    path = tmp_path / "lenet.json"
    path.write_text(json.dumps({layer: rank for rank, layer in enumerate(shared_layers(LeNet()))}))
    return path


@pytest.fixture(scope="session")
def searched(tiny: Callable[..., Plan], tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, dict[str, Any]]:
    """A folder in which the plain joint run is finished."""
    from some_jobs import ALL, carry_out

    plan, out = tiny(methods=ALL), tmp_path_factory.mktemp("searched")
    return plan, out, carry_out(plan, "joint-plain-seed0", out)
