"""What docs/extending.md shows is run, file by file and command by command."""

import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import recon
from recon.cli.dispatch import main
from recon.methods.base import registry
from recon.models import heads_for

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, flags=re.DOTALL)
FILES = {block.split()[1]: block for language, block in BLOCKS if language in ("python", "yaml")}
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]
MODULES = [Path(name).stem for name in FILES if name.endswith(".py")]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's files in the working folder; what they register is forgotten afterwards."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def test_every_block_of_python_is_a_file() -> None:
    assert len(FILES) == sum(language in ("python", "yaml") for language, _ in BLOCKS)
    for name in MODULES:
        import_module(name)


def test_the_template_passes_its_own_tests() -> None:
    tests = [value for name, value in vars(import_module("test_my_method")).items() if name.startswith("test_")]
    assert len(tests) == 4
    for test in tests:
        test()


def test_state_is_in_the_checkpoint() -> None:
    import_module("my_state")
    method, jacobian = recon.create_method("slow_losses"), torch.eye(2)
    torch.testing.assert_close(method.combine(jacobian, torch.tensor([1.0, 3.0])), torch.tensor([0.5, 1.5]))
    resumed = recon.create_method("slow_losses")
    resumed.load_state_dict(method.state_dict())
    losses = torch.tensor([2.0, 1.0])
    assert torch.equal(resumed.combine(jacobian, losses), method.combine(jacobian, losses))


def test_randomness_is_seeded() -> None:
    import_module("my_randomness")
    draws = [[recon.create_method("one_task", seed=seed).combine(torch.eye(64)) for _ in range(2)] for seed in (0, 1)]
    assert torch.equal(*draws[0])
    assert not torch.equal(draws[0][0], draws[1][0])


def test_commands_train_search_and_branch(files: Path) -> None:
    runs = [shlex.split(command)[1:] for command in COMMANDS if "my_fit.yaml" in command]
    assert [run[2] for run in runs] == ["fit", "search", "fit"]
    tiny = [
        "--trainer.max_epochs=1",
        "--data.train_size=64",
        "--data.test_size=32",
        "--trainer.enable_progress_bar=false",
    ]
    for run in runs:
        main([*run, *tiny])
    found = recon.ConflictMap.load(files / "blobs.json")
    assert found.layers == ("conv1", "conv2", "norm")
    assert found.provenance["dataset"] == "Blobs"


def test_scenes_are_loaded_from_the_layout(files: Path) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder, shape in (("image", (32, 48, 3)), ("label", (32, 48)), ("depth", (32, 48))):
            path = files / "root" / split / folder
            path.mkdir(parents=True)
            for index in range(4):
                np.save(path / f"{index}.npy", generator.integers(1, 5, shape).astype(np.uint8))
    kitchens = import_module("my_scenes").Kitchens(root="root")
    images, targets = next(iter(kitchens.train_dataloader()))
    assert images.shape == (4, 3, 32, 48)
    assert {name: tuple(target.shape) for name, target in targets.items()} == {
        "segmentation": (4, 32, 48),
        "depth": (4, 1, 32, 48),
    }
    network = import_module("my_network").SmallDense()
    heads = heads_for(network, kitchens.tasks)
    branched = recon.branch(network, network.task_specific_layers(), list(targets))
    for task in kitchens.tasks:
        prediction = heads[task.name](branched(images)[task.name])
        assert task.loss(prediction, targets[task.name]).isfinite()
