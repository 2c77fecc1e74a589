"""Every configuration that comes with the repository, and the demo's, parses and trains for a step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from recon.experiments import Plan
from recon.experiments.execution import execute, prepare
from recon.training.configuration import TrainingCLI

ROOT = Path(__file__).parents[1]
FILES = [*sorted((ROOT / "configs").rglob("*.yaml")), ROOT / "recon" / "experiments" / "demo.yaml"]
SMALL = {"train_size": 8, "test_size": 8, "batch_size": 4}


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


PLANS = [path for path in FILES if "methods" in content(path)]
FITS = [path for path in FILES if path not in PLANS]


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Noise in the place of MNIST and Fashion-MNIST."""
    generator = np.random.default_rng(0)
    for folder in ("MNIST", "FashionMNIST"):
        for prefix in ("train", "t10k"):
            for kind, shape, largest in (("images-idx3", (12, 28, 28), 256), ("labels-idx1", (12,), 10)):
                header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
                file = tmp_path / folder / "raw" / f"{prefix}-{kind}-ubyte"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(header + generator.integers(0, largest, shape, np.uint8).tobytes())
    return tmp_path


def root_of(data: dict[str, Any], root: Path) -> str | None:
    """The folder for data that read one; built-in data read none."""
    return str(root) if data["class_path"] == "recon.data.MultiFashionMNIST" else None


def test_both_kinds_of_configuration_are_there() -> None:
    assert {name(path) for path in FITS} >= {"glyphs/fit", "multi_fashion_mnist/fit"}
    assert {name(path) for path in PLANS} >= {
        "multi_fashion_mnist/narrow",
        "multi_fashion_mnist/paper",
        "experiments/demo",
    }


@pytest.mark.parametrize("path", FITS, ids=name)
def test_a_fit_trains_for_a_step(path: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = root_of(content(path)["data"], root)
    sizes = [f"--data.{key}={value}" for key, value in SMALL.items()] + (
        [] if given is None else [f"--data.root={given}"]
    )
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    cli = TrainingCLI(
        ["fit", "--config", str(path), *sizes, *quiet, "--trainer.max_steps=1", "--trainer.accelerator=cpu"]
    )
    assert cli.trainer.global_step == 1
    # The checkpoint is where the comments in the file say that it is.
    (checkpoint,) = Path("logs", path.parent.name).iterdir()
    assert f"logs/{path.parent.name}/last.ckpt" in path.read_text()
    assert checkpoint.name == "last.ckpt"


@pytest.mark.parametrize("path", PLANS, ids=name)
def test_a_plan_is_sound_and_its_first_run_trains_for_a_step(path: Path, root: Path, tmp_path: Path) -> None:
    plan = content(path)
    given = root_of(plan["fit"]["data"], root)
    plan["fit"]["data"]["init_args"].update(SMALL)
    plan["fit"]["trainer"].update(limit_train_batches=1, accelerator="cpu", max_epochs=1)
    small = Plan.from_dict(plan)
    small.check()
    tasks = prepare(small, given)
    joint = next(run for run in small.runs([task.name for task in tasks]) if run.variant == "plain")
    result = execute(small, joint, tmp_path / "out", given, lambda run, epoch: None)
    assert result["metrics"].keys() == {task.name for task in tasks}
    state = torch.load(tmp_path / "out" / "runs" / joint.id / "last.ckpt")
    assert state["global_step"] == 1
