"""Every configuration that comes with the repository, and the demos', parses and trains for a step."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent / "data" / "celeba"))  # for small_faces
sys.path.insert(0, str(Path(__file__).parent / "data" / "dense"))  # for small_pascal
sys.path.insert(0, str(Path(__file__).parent / "data" / "tabular"))  # for small_tables

from small_faces import prepare_faces
from small_pascal import prepare_pascal
from small_tables import write_census_files, write_yeast_file

from recon.experiments import Plan
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job
from recon.experiments.preflight import check_before_training
from recon.experiments.run import execute
from recon.training.command import TrainingCLI

ROOT = Path(__file__).parents[1]
FILES = [*sorted((ROOT / "configs").rglob("*.yaml")), *sorted((ROOT / "recon" / "experiments").glob("*.yaml"))]
SMALL = {
    "recon.data.Glyphs": {"train_size": 8, "test_size": 8, "batch_size": 4},
    "recon.data.GlyphAttributes": {"train_size": 8, "test_size": 8, "batch_size": 4},
    "recon.data.PerTask": {
        f"modules.{task}.{size}": number
        for task in ("digit", "letter")
        for size, number in (("train_size", 8), ("test_size", 8), ("batch_size", 4))
    },
    "recon.data.MultiFashion": {"train_size": 8, "test_size": 8, "batch_size": 4},
    "recon.data.MultiFashionMNIST": {"train_size": 8, "test_size": 8, "batch_size": 4},
    "recon.data.MultiMNIST": {"train_size": 8, "test_size": 8, "batch_size": 4},
    "recon.data.Rooms": {"train_size": 4, "val_size": 2, "batch_size": 4, "height": 32, "width": 32},
    "recon.data.CelebA": {"batch_size": 4, "tasks": ["Smiling", "Young"]},
    "recon.data.CensusIncome": {"batch_size": 8},
    "recon.data.Yeast": {"batch_size": 8},
    "recon.data.NYUv2": {"batch_size": 2, "num_workers": 0, "height": 32, "width": 32},
    "recon.data.PascalContext": {"batch_size": 2, "num_workers": 0, "size": 32},
    "recon.data.CityScapes": {"batch_size": 2, "num_workers": 0, "height": 32, "width": 32},
}
"""Of each data module, arguments with which a step takes no time."""
FULL = {"recon.data.NYUv2": (288, 384), "recon.data.CityScapes": (128, 256)}
"""The published resolutions."""


FULL_PLANS = [
    ROOT / "configs" / plan for plan in ("nyuv2/segnet_mtan.yaml", "cityscapes/segnet.yaml", "cityscapes/resnet50.yaml")
]
"""Every backbone once; ResNet-50 takes minutes at the resolution of NYUv2."""


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


def write_scenes(root: Path, height: int, width: int) -> None:
    """Noise in the place of a prepared NYUv2 or CityScapes: four scenes for training, one for validation."""
    generator = np.random.default_rng(0)
    size = (height, width)
    for folder in (*(f"train/{{}}/{index}.npy" for index in range(4)), "val/{}/0.npy"):
        normals = generator.normal(size=(*size, 3))
        arrays = {
            "image": generator.integers(0, 256, (*size, 3), np.uint8),
            "label": generator.integers(-1, 7, size).astype(np.int8),
            "depth": generator.uniform(0.1, 1, size).astype(np.float32),
            "normal": (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32),
        }
        for name, array in arrays.items():
            file = root / folder.format(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, array)


def root_of(data: dict[str, Any], root: Path) -> str | None:
    """The folder for data that read one; built-in data are kept in a cache."""
    if data["class_path"] == "recon.data.CelebA":
        return str(prepare_faces(root))
    if data["class_path"] == "recon.data.PascalContext":
        return str(prepare_pascal(root))
    if data["class_path"] == "recon.data.CensusIncome":
        write_census_files(root)
    if data["class_path"] == "recon.data.Yeast":
        write_yeast_file(root)
    if data["class_path"] in FULL:
        write_scenes(root, data["init_args"].get("height", 288), data["init_args"].get("width", 384))
    built_in = ("recon.data.Glyphs", "recon.data.GlyphAttributes", "recon.data.PerTask", "recon.data.Rooms")
    return None if data["class_path"] in built_in else str(root)


def test_both_kinds_of_configuration_are_there() -> None:
    fits = {
        "glyphs/fit",
        "multi_fashion_mnist/fit",
        "celeba/fit",
        "census_income/fit",
        "yeast/fit",
        "pascal_context/fit",
    }
    assert {name(path) for path in FITS} >= fits
    assert {name(path) for path in PLANS} >= {
        "multi_fashion_mnist/narrow",
        "multi_fashion_mnist/paper",
        "nyuv2/segnet_mtan",
        "nyuv2/resnet50",
        "cityscapes/segnet",
        "cityscapes/resnet50",
        "celeba/paper",
        "pascal_context/mobilenet_v2",
        "census_income/joint",
        "yeast/joint",
        "yeast/groups",
        "glyphs/attributes",
        "scenes/cpu",
        "experiments/demo",
        "experiments/demo-scenes",
    }


@pytest.mark.parametrize("path", FITS, ids=name)
def test_a_fit_trains_for_a_step(path: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = content(path)["data"]
    given = root_of(data, root)
    sizes = [f"--data.{key}={value}" for key, value in SMALL[data["class_path"]].items()]
    sizes += [] if given is None else [f"--data.root={given}"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    cli = TrainingCLI(
        ["fit", "--config", str(path), *sizes, *quiet, "--trainer.max_steps=1", "--trainer.accelerator=cpu"]
    )
    assert cli.trainer.global_step == 1
    # The checkpoint is where the comments in the file say that it is.
    folder = f"logs/{path.parent.name}/version_0"
    assert Path(folder, "last.ckpt").exists()
    assert folder in path.read_text()


def run_one_step(path: Path, variant: str, root: Path, tmp_path: Path, data: dict[str, Any]) -> dict[str, Any]:
    """Check a plan, and carry out its first run of a variant, cut down to one step."""
    plan = content(path)
    fit = plan["fit"]
    fit["data"]["init_args"].update(data)
    fit["trainer"].update(limit_train_batches=1, accelerator="cpu", max_epochs=1)
    fit["model"]["backbone"].get("init_args", {}).pop("pretrained", None)  # it would be downloaded
    given = root_of(fit["data"], root)
    small = Plan.from_dict(plan)
    small.check()
    section = Fit(fit, given)
    names = {task.name for task in check_before_training(small, section)}
    # No other run has found a map here, which random layers would differ from.
    run = replace(next(run for run in small.runs(names) if run.variant == variant), needs=None)
    result = execute(Job(small, run, section, ResultsFolder(tmp_path / "out")), lambda epoch: None)
    assert result["metrics"].keys() == names
    assert torch.load(tmp_path / "out" / "runs" / run.id / "last.ckpt")["global_step"] == 1
    return result


def in_time(path: Path) -> Any:
    """A plan as a parameter: those of the demos in the fast tests, others in the slow ones."""
    marks = () if path.parent.name == "experiments" else pytest.mark.slow
    return pytest.param(path, marks=marks, id=name(path))


@pytest.mark.parametrize("path", [*map(in_time, PLANS)])
def test_a_plan_is_sound_and_its_first_run_trains_for_a_step(
    path: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run_one_step(path, "plain", root, tmp_path, SMALL[content(path)["fit"]["data"]["class_path"]])


@pytest.mark.slow
@pytest.mark.parametrize("path", FULL_PLANS, ids=name)
def test_a_step_at_the_published_resolution_trains(path: Path, root: Path, tmp_path: Path) -> None:
    height, width = FULL[content(path)["fit"]["data"]["class_path"]]
    # Random layers: the costly kind of branching, and no map is needed. One image suffices but for ASPP, whose norm of
    # pooled features needs two.
    images = 2 if "resnet50" in path.stem else 1
    run_one_step(
        path, "random", root, tmp_path, {"batch_size": images, "num_workers": 0, "height": height, "width": width}
    )
