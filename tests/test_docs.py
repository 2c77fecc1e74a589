"""The programs of the pages under docs/ are run, file by file and command by command."""

import math
import re
import shlex
import sys
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

import recon
from recon.cli.dispatch import main
from recon.models import heads_for

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCKS = [block for page in PAGES for block in re.findall(r"```(\w*)\n(.*?)```", page.read_text(), flags=re.DOTALL)]
PROGRAMS = [block for language, block in BLOCKS if language == "python"]
NAMED = re.compile(r"# (\S+\.(?:py|yaml))\n")
FILES = {name[1]: block for language, block in BLOCKS if language != "text" and (name := NAMED.match(block))}
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]
MODULES = [Path(name).stem for name in FILES if name.endswith(".py")]

TINY = [
    "--trainer.max_epochs=1",
    "--data.train_size=64",
    "--data.test_size=32",
    "--trainer.enable_progress_bar=false",
]
"""Settings of a run that takes seconds."""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's files in the working folder."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def test_every_block_of_python_is_a_file() -> None:
    assert len(MODULES) == len(PROGRAMS)
    for name in MODULES:
        import_module(name)


def test_a_method_of_ten_lines_combines() -> None:
    assert len([line for line in FILES["mine.py"].splitlines()[1:] if line.strip()]) <= 10
    import_module("mine")
    update = recon.create_method("normalised").combine(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    torch.testing.assert_close(update, torch.tensor([0.5, 0.5]))


def test_a_budget_selects_layers_of_a_published_ranking() -> None:
    selection = import_module("my_selection")
    assert 0 < len(selection.layers) < 25
    assert set(selection.layers) <= set(selection.cmap.layers)


def test_the_loop_trains_and_finds_the_map() -> None:
    tasks = ["seg", "depth"]
    backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    before = backbone[0].weight.detach().clone()
    found = import_module("my_loop").train(
        backbone,
        heads=nn.ModuleDict({task: nn.Linear(3, 1) for task in tasks}),
        loss=dict.fromkeys(tasks, nn.functional.mse_loss),
        loader=[(torch.randn(6, 4), {task: torch.randn(6, 1) for task in tasks}) for _ in range(3)],
        optimizer_of=partial(torch.optim.SGD, lr=0.1),
    )
    assert found.provenance["steps"] == 3
    assert not torch.equal(backbone[0].weight, before)


def test_a_plain_loop_is_watched() -> None:
    found = import_module("my_watch").train()
    assert found.layers == ("0", "2")
    assert found.provenance["observed_steps"] == 10
    assert max(found.scores(severity=-0.1).values()) > 0  # the page prints a table with a conflict


def test_a_module_of_a_users_own_is_watched(files: Path) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    import_module("my_lightning").train(enable_model_summary=False, **quiet)
    found = recon.ConflictMap.load(files / "conflict_map.json")
    assert found.layers == ("0", "1", "3")
    assert found.provenance["observed_steps"] == 4


class TwoTasks(nn.Module):
    """A network of two tasks, as the snippets of a loop take it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 3)
        self.heads = nn.ModuleDict({task: nn.Linear(3, 1) for task in ("a", "b")})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {task: head(self.backbone(x)) for task, head in self.heads.items()}

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        return {task: prediction.square().mean() for task, prediction in self(x).items()}


def test_a_group_of_layers_has_weights_of_its_own() -> None:
    backbone = nn.Sequential(OrderedDict(conv1=nn.Linear(2, 3), bn1=nn.BatchNorm1d(3), fc=nn.Linear(3, 1)))
    engine = import_module("my_groups").engine(backbone, ["a", "b"])
    loss = backbone(torch.randn(3, 2)).square().sum()
    info = engine.backward({"a": loss, "b": (loss - 1).square()})
    assert engine.groups == ("stem", "others")
    assert info.weights is not None
    assert info.weights.shape == (2, 2)


def test_a_step_takes_the_tasks_that_have_labels() -> None:
    network = TwoTasks()
    engine = recon.Engine(network.backbone, ["a", "b"], "cagrad")
    targets = {"a": torch.tensor([[1.0], [math.nan]]), "b": torch.full((2, 1), math.nan)}
    info = import_module("my_labels").step(engine, network, SimpleNamespace(inputs=torch.randn(2, 4), targets=targets))
    assert info.losses.keys() == {"a"}
    grads = {task: head.weight.grad for task, head in network.heads.items()}
    assert grads["b"] is None
    assert grads["a"].isfinite().all()


def test_a_step_over_parts_is_that_of_the_whole() -> None:
    network, x = TwoTasks(), torch.randn(6, 4)
    engine = recon.Engine(network.backbone, ["a", "b"], "pcgrad")
    engine.backward(network.losses(x))
    assert network.backbone.weight.grad is not None
    whole = network.backbone.weight.grad.clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    import_module("my_micro_batches").step(engine, network.losses, x.split(2), optimizer)
    torch.testing.assert_close(network.backbone.weight.grad, whole)


def test_training_in_float16() -> None:
    network = TwoTasks()
    before = network.backbone.weight.detach().clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    loader = [torch.randn(6, 4) for _ in range(2)]
    import_module("my_float16").train(network.backbone, ["a", "b"], network.losses, loader, optimizer, device="cpu")
    assert not torch.equal(network.backbone.weight, before)


def test_training_in_a_process_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = TwoTasks()
    before = network.backbone.weight.detach().clone()
    begin = partial(
        torch.distributed.init_process_group, "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    monkeypatch.setattr(torch.distributed, "init_process_group", begin)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    try:
        import_module("my_processes").train(
            network,
            ["a", "b"],
            lambda x: (network.losses(x), {"a": len(x), "b": len(x)}),
            [torch.randn(6, 4)],
            optimizer,
        )
    finally:
        torch.distributed.destroy_process_group()
    assert not torch.equal(network.backbone.weight, before)


def test_branches_have_a_path_per_task() -> None:
    branches = import_module("my_branches")
    assert {task: tuple(value.shape) for task, value in branches.features.items()} == {"seg": (6, 3), "depth": (6, 3)}
    assert branches.depth.shape == (6, 3)
    assert isinstance(branches.plain, nn.Sequential)


def test_a_copy_may_be_shared_by_a_group() -> None:
    network = import_module("my_shared_copies").network
    assert network.groups["0"] == (("seg", "normals"), ("depth",)) and len(network.groups["2"]) == 3


def test_a_map_of_several_backbones_branches_the_network_that_holds_them() -> None:
    parts = import_module("my_parts")
    assert parts.analyzer.layers == ("image.0", "sound.0", "neck")
    assert parts.branched.layers == tuple(parts.layers)
    assert set(parts.sound(torch.ones(2, 3))) == set(parts.TASKS)


def test_a_method_around_a_method_is_made_from_its_options() -> None:
    model = yaml.safe_load(FILES["my_wrapper.yaml"])["model"]
    assert "cagrad" in repr(recon.create_method(model["method"], **model["method_options"]))


def test_a_step_of_torchjd_with_our_method() -> None:
    module = import_module("my_torchjd")
    backbone, heads = nn.Linear(4, 3), {task: nn.Linear(3, 1) for task in ("a", "b")}
    features = backbone(torch.randn(6, 4))
    module.backward({task: head(features).square().mean() for task, head in heads.items()}, features, backbone)
    assert backbone.weight.grad.isfinite().all()
    module.method.combine(torch.eye(2))


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
    runs = [shlex.split(command)[1:] for command in COMMANDS if re.match("recon .*my_fit.yaml", command)]
    assert [run[2] for run in runs] == ["fit", "search", "fit"]
    for run in runs:
        main([*run, *TINY])
    found = recon.ConflictMap.load(files / "blobs.json")
    assert found.layers == ("conv1", "conv2", "norm")
    assert found.provenance["dataset"] == "Blobs"


def test_domains_are_joined_and_trained(files: Path) -> None:
    data = import_module("my_domains").data
    assert [task.name for task in data.tasks] == ["photos", "sketches"]
    main(["fit", "--config", "my_domains.yaml", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"])
    (log,) = (files / "logs").rglob("metrics.csv")
    assert "val/sketches/accuracy" in log.read_text()


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


@pytest.mark.slow
def test_the_first_fit_goes_from_a_map_to_its_branches(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "configs").symlink_to(ROOT / "configs")
    text = (ROOT / "docs" / "start.md").read_text().partition("## The first fit")[2]
    shown = [line for line in text.partition("```\n")[2].partition("```")[0].splitlines() if line]
    assert len(shown) == 5
    assert {line for line in (ROOT / "README.md").read_text().splitlines() if "--config" in line} <= {
        " ".join(line.split()) for line in shown
    }
    for words in (shlex.split(line)[1:] for line in shown):
        trains = words[0] in ("fit", "search")
        main([*words, *(TINY if trains else [])])
    printed = capsys.readouterr().out
    assert "MeasuredMap(ResNet18: 41 layers" in printed
    assert recon.ConflictMap.load(files / "map.json").provenance["dataset"].startswith("Glyphs(")
    assert len(list((files / "logs" / "glyphs").glob("version_*/last.ckpt"))) == 3
