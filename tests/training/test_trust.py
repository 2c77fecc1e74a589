"""Commands execute nothing of a checkpoint, and go on from none of another run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from recon.branching.task_tree import TaskTree, TreeStage
from recon.cli.dispatch import main

GLYPHS = Path(__file__).parents[2] / "configs" / "glyphs" / "fit.yaml"
TINY = [
    "--model.backbone.width=2",
    "--data.train_size=16",
    "--data.test_size=20",
    "--data.batch_size=16",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
]
LAST = "logs/glyphs/version_0/last.ckpt"
COMMANDS = ("fit", "search", "validate", "test", "predict")


class Code:
    """Unpickled, it makes a folder."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return Path.mkdir, (Path("executed"),)  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str, *flags: str) -> None:
    main([command, "--config", str(GLYPHS), *TINY, *flags])


def refusal(command: str, *flags: str) -> str:
    with pytest.raises(SystemExit) as end:
        run(command, *flags)
    return str(end.value.code).removeprefix("recon: ").rsplit("\n", 1)[0]


def change(**parts: Any) -> None:
    torch.save({**torch.load(LAST, weights_only=True), **parts}, LAST)


@pytest.mark.parametrize("command", COMMANDS)
def test_hyperparameters_of_a_checkpoint_do_not_reach_the_configuration(command: str) -> None:
    run("fit")
    popen = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "executed"]}}
    change(
        hyper_parameters={"backbone": popen, "optimizer": popen, "method": "nowhere", "_class_path": "subprocess.Popen"}
    )
    run(command, f"--ckpt_path={LAST}")
    assert not Path("executed").exists()
    written = Path("logs/glyphs/version_1/config.yaml")
    assert yaml.safe_load(written.read_text())["model"]["method"] == "joint"


@pytest.mark.parametrize(
    ("command", "path"), [("fit", "last"), ("search", LAST), ("validate", "last"), ("test", LAST), ("predict", "last")]
)
def test_code_in_a_checkpoint_does_not_run(command: str, path: str) -> None:
    Path(LAST).parent.mkdir(parents=True)
    torch.save({"state_dict": {}, "epoch": 0, "global_step": 0, "callbacks": Code()}, LAST)
    assert refusal(command, f"--ckpt_path={path}").startswith(f"{LAST} holds more than data, which is not loaded (")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("fit", "http://localhost:9/last.ckpt"),
        ("search", "file:///tmp/last.ckpt"),
        ("validate", "simplecache::http://localhost:9/x"),
        ("test", "registry:model"),
        ("predict", "https://localhost:9/last.ckpt"),
    ],
)
def test_checkpoints_are_not_loaded_from_elsewhere(command: str, url: str) -> None:
    assert refusal(command, f"--ckpt_path={url}").startswith(f"--ckpt_path {url}: ")


def test_a_local_file_whose_name_looks_remote_is_read_as_a_file() -> None:
    """Lightning takes every name that starts with http for an address, and unpickles what it gets there."""
    run("fit")
    Path("http").mkdir()
    Path(LAST).rename("http/last.ckpt")
    run("test", "--ckpt_path=http/last.ckpt")


@pytest.mark.parametrize("name", ["best", "hpc", "registry"])
def test_a_file_that_is_named_as_lightnings_words_is_a_file(name: str) -> None:
    Path(name).write_text("")
    assert refusal("test", f"--ckpt_path={name}").startswith(f"./{name} is damaged, or no checkpoint")


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_untrained_weights_are_not_evaluated(command: str) -> None:
    assert "give --ckpt_path FILE, or last for the newest" in refusal(command)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.method=mgda"], "its method is Joint(weights=None), this one's MGDA(normalization='none')"),
        (["--model.method_options.weights=[1.0,2.0]"], "its method is Joint(weights=None), this one's Joint(weights=["),
        (["--model.only=[letter,digit]"], "its tasks is ['digit', 'letter'], this one's ['letter', 'digit']"),
    ],
)
def test_a_run_does_not_go_on_from_a_checkpoint_of_another(flags: list[str], message: str) -> None:
    run("fit")
    assert message in refusal("fit", "--ckpt_path=last", *flags)


def test_the_seed_may_be_another_and_evaluation_asks_for_no_method() -> None:
    run("fit", "--model.method=pcgrad")
    run("fit", "--model.method=pcgrad", "--seed_everything=7", "--trainer.max_epochs=2", f"--ckpt_path={LAST}")
    run("test", "--model.method=pcgrad", "--model.method_options.seed=3", "--ckpt_path=last")


def test_a_search_is_not_gone_on_with_by_a_plain_training() -> None:
    run("search")
    assert f"{LAST} is of a search for conflict layers" in refusal("fit", "--ckpt_path=last")


def test_every_run_has_a_folder_and_the_newest_is_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    run("fit")
    told = capsys.readouterr().out.splitlines()
    assert told[-3:] == [
        f"checkpoint: {LAST}",
        "metrics: logs/glyphs/version_0/metrics.csv",
        "configuration: logs/glyphs/version_0/config.yaml",
    ]
    assert any(line.startswith("val/digit/accuracy ") for line in told)
    first = Path(LAST).read_bytes()
    run("search")
    capsys.readouterr()
    run("search", "--ckpt_path=last", "--trainer.max_epochs=2")
    assert "last checkpoint: logs/glyphs/version_1/last.ckpt" in capsys.readouterr().out
    assert Path(LAST).read_bytes() == first
    epochs = [torch.load(f"logs/glyphs/version_{number}/last.ckpt", weights_only=True)["epoch"] for number in range(3)]
    assert epochs == [0, 0, 1]


def test_runs_without_logs_have_folders_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text("mine")
    for _ in range(2):
        run("fit", "--trainer.logger=false")
    run("test", "--trainer.logger=false", "--ckpt_path=last")
    assert Path("config.yaml").read_text() == "mine"
    told = capsys.readouterr().out
    assert "checkpoint: runs/version_1/last.ckpt\nconfiguration: runs/version_1/config.yaml\n" in told
    assert yaml.safe_load(Path("runs/version_0/config.yaml").read_text())["model"]["method"] == "joint"
    assert sorted(map(str, Path().glob("runs/*/last.ckpt"))) == ["runs/version_0/last.ckpt", "runs/version_1/last.ckpt"]


def test_a_trial_of_a_batch_keeps_nothing_and_names_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text("mine")
    run("fit", "--trainer.fast_dev_run=true")
    assert "configuration: " not in capsys.readouterr().out
    assert [path.name for path in Path().iterdir()] == ["config.yaml"]
    assert "no folder of runs to look in; give the file" in refusal(
        "fit", "--trainer.fast_dev_run=true", "--ckpt_path=last"
    )


def test_a_checkpoint_of_an_earlier_version_goes_on() -> None:
    run("fit")
    content = torch.load(LAST, weights_only=True)
    del content["recon_run"]
    torch.save(content, LAST)
    run("fit", "--ckpt_path=last", "--trainer.max_epochs=2")


def test_a_branched_run_is_evaluated_as_it_was_trained_after_its_map_has_changed() -> None:
    ranking = {"conv1": 3, "conv2": 2, "fc": 1}
    lenet = ["--model.backbone={class_path: recon.models.LeNet}", "--model.branch.map=map.json", "--model.branch.top=1"]
    Path("map.json").write_text(json.dumps(ranking))
    run("fit", *lenet)
    Path("map.json").write_text(json.dumps({**ranking, "fc": 9}))
    written = Path("logs/glyphs/version_0/config.yaml")
    assert written.read_text().startswith("# model.branch: the choice of 'map.json'\n")
    assert yaml.safe_load(written.read_text())["model"]["branch"]["layers"] == ["conv1"]
    main(["test", "--config", str(written), f"--ckpt_path={LAST}"])
    assert "the checkpoint" in refusal("test", *lenet, f"--ckpt_path={LAST}")


def test_a_run_with_a_task_tree_is_evaluated_as_it_was_trained_after_the_tree_has_changed() -> None:
    def write(layer: str) -> None:
        TaskTree(("digit", "letter"), (TreeStage(layer, (("digit",), ("letter",)), (layer,)),)).save("tree.json")

    write("conv2")
    run("fit", "--model.backbone={class_path: recon.models.LeNet}", "--model.branch.tree=tree.json")
    write("fc")
    written = Path("logs/glyphs/version_0/config.yaml")
    assert written.read_text().startswith("# model.branch: the choice of 'tree.json'\n")
    main(["test", "--config", str(written), f"--ckpt_path={LAST}"])
