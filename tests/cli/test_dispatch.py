"""The command ``recon``, in this process; benchmarks are tested where their runner is."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import recon
from recon.cli.dispatch import COMMANDS, TRAINING, main
from recon.conflict import ConflictMap

CONFIGS = Path(__file__).parents[2] / "configs"
GLYPHS = str(CONFIGS / "glyphs" / "fit.yaml")
TINY = [
    "--model.backbone.width=4",
    "--data.train_size=48",
    "--data.test_size=100",
    "--data.batch_size=16",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def train(command: str, *more: str) -> None:
    main([command, "--config", GLYPHS, *TINY, *more])


def error(*arguments: str) -> str:
    """The message with which a command ends; whatever is no SystemExit would be a traceback."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, str)  # which makes the status 1
    message, hint = end.value.code.rsplit("\n", 1)
    assert message.startswith("recon: ")
    assert hint == "(RECON_TRACEBACK=1 shows where)"
    return message.removeprefix("recon: ")


def logged(version: int = 0) -> list[dict[str, str]]:
    return list(csv.DictReader(Path("logs", "glyphs", f"version_{version}", "metrics.csv").open()))


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    """The glyphs' configuration, changed, as a file."""
    content = yaml.safe_load(Path(GLYPHS).read_text())
    change(content)
    Path("changed.yaml").write_text(yaml.safe_dump(content))
    return "changed.yaml"


# Usage ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_usage_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments)
    usage = capsys.readouterr().out
    for command in (
        "demo",
        "fit",
        "validate",
        "test",
        "search",
        "benchmark",
        "map show|compare",
        "map groups|draw",
        "map select",
        "data prepare",
        "--import",
    ):
        assert command in usage


def test_usage_takes_no_lightning() -> None:
    code = "import sys; from recon.cli import main; main([]); sys.exit('pytorch_lightning' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_help_of_a_command_gives_no_warning() -> None:
    code = "import sys; from recon.cli import main; main([*sys.argv[1:], '--help'])"
    for command in ("toy", "report"):
        process = subprocess.run([sys.executable, "-c", code, command], check=True, capture_output=True, text=True)
        assert process.stderr == ""


@pytest.mark.parametrize("command", TRAINING)
def test_the_help_of_training_is_a_page_that_names_what_there_is(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([command, "--help"])
    page = capsys.readouterr().out
    assert page.startswith(f"usage: recon {command} --config FILE")
    assert len(page.splitlines()) < 45
    for name in ("recon.data.Glyphs", "recon.data.NYUv2", "recon.models.ResNet18", "cagrad", "nash_mtl", "--help-all"):
        assert name in page


def test_every_option_that_the_page_names_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    main(["search", "--help"])
    named = re.findall(r"^  --([\w.]+)", capsys.readouterr().out, flags=re.MULTILINE)
    assert {"config", "ckpt_path", "map_path", "model.branch.map", "data"} <= set(named)
    with pytest.raises(SystemExit):
        main(["search", "--help-all"])
    every = capsys.readouterr().out
    for name in named:
        parent = re.sub(
            r"\.map$|\.tree$|\.stages$|\.stable\.window$|\.NAME$|_options$", "", name
        )  # arguments of a class are not listed
        assert f"--{parent} " in every, name


@pytest.mark.parametrize(
    "command",
    COMMANDS,
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    usage = capsys.readouterr().out.splitlines()[0]
    assert usage.startswith("usage: recon ")
    assert command in usage


@pytest.mark.parametrize("help_", [[], ["--help"]])
def test_a_group_of_commands_lists_them(help_: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", *help_])
    listed = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert listed == ["prepare nyuv2", "prepare cityscapes", "prepare celeba", "prepare pascal_context", "verify"]


def test_an_error_ends_the_process_with_status_1_and_no_traceback() -> None:
    process = subprocess.run([sys.executable, "-m", "recon", "fitt"], check=False, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.startswith("recon: unknown command 'fitt'; nearest: 'fit'")
    assert "Traceback" not in process.stderr


def test_the_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECON_TRACEBACK", "1")
    with pytest.raises(ValueError, match="unknown command"):
        main(["fitt"])


# Training -------------------------------------------------------------------------------------------------------------


def test_fit_logs_to_csv_and_resumes_from_its_last_epoch() -> None:
    train("fit")
    assert {"epoch", "step", "loss/digit", "loss/letter", "val/digit/accuracy", "val/letter/accuracy"} <= logged()[
        0
    ].keys()
    assert {row["epoch"] for row in logged()} == {"0"}
    train("fit", "--trainer.max_epochs=3", "--ckpt_path=last")
    assert {row["epoch"] for row in logged(version=1)} == {"1", "2"}
    assert [torch.load(f"logs/glyphs/version_{run}/last.ckpt")["epoch"] for run in (0, 1)] == [0, 2]


@pytest.mark.parametrize(("command", "stage"), [("validate", "val"), ("test", "test")])
def test_validate_and_test_evaluate_a_checkpoint(command: str, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    train("fit")
    expected = logged()[-1]
    capsys.readouterr()
    train(command, "--ckpt_path=logs/glyphs/version_0/last.ckpt")
    evaluated = logged(version=1)[-1]
    for task in ("digit", "letter"):
        assert evaluated[f"{stage}/{task}/accuracy"] == expected[f"val/{task}/accuracy"]
    assert f"{stage}/digit/accuracy" in capsys.readouterr().out


def test_search_writes_a_map_that_fit_branches_by(capsys: pytest.CaptureFixture[str]) -> None:
    train("search", "--map_path=found/map.json", "--every=2")
    assert "conflict map: found/map.json" in capsys.readouterr().out
    found = ConflictMap.load("found/map.json")
    assert (found.provenance["steps"], found.provenance["observed_steps"]) == (3, 2)
    branch = ["--model.branch.map=found/map.json", "--model.branch.top=2"]
    train("fit", *branch)
    names = torch.load("logs/glyphs/version_1/last.ckpt")["state_dict"]
    for layer in found.top(2, -0.1):
        assert any(name.startswith(f"backbone.branches.digit.{layer}.") for name in names)


@pytest.mark.slow
def test_search_by_bmtas_writes_a_tree_that_fit_builds_and_recon_goes_on_top_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = "--model.branch.tree=found/tree.json"
    stages = "--bmtas.stages=[layer1,layer4]"
    train(
        "search",
        "--by=bmtas",
        stages,
        "--bmtas.resource_weight=1",
        "--tree_path=found/tree.json",
        "--trainer.max_epochs=2",
    )
    assert re.search(
        r"layer1  digit .*letter\nlayer4  .*\nprobability of the least certain choice: layer1 0\.\d+, layer4 0\.\d+\n"
        r"task tree: found/tree.json\n$",
        capsys.readouterr().out,
    )
    found = recon.TaskTree.load("found/tree.json")
    assert found.settings["resource_weight"] == 1
    parted = replace(found.stages[1], groups=(("digit",), ("letter",)))
    replace(found, stages=(replace(found.stages[0], groups=(("digit", "letter"),)), parted)).save("found/tree.json")
    train("search", tree, "--map_path=map.json")
    layers = ConflictMap.load("map.json").layers
    assert "layer1.0.conv1" in layers and not any(layer.startswith("layer4.") for layer in layers)
    train("fit", tree, "--model.branch.map=map.json", "--model.branch.top=1")
    names = torch.load("logs/glyphs/version_2/last.ckpt")["state_dict"]
    for layer in ("layer4.1.conv2", *ConflictMap.load("map.json").top(1, -0.1)):
        assert any(name.startswith(f"backbone.branches.letter.{layer}.") for name in names)
    with pytest.raises(
        SystemExit, match=r"tree.json is a damaged task tree: its checksum .*; restore it or search again"
    ):
        Path("found/tree.json").write_text(Path("found/tree.json").read_text().replace('"lr"', '"rl"'))
        train("fit", tree)


def test_a_search_goes_on_from_a_checkpoint() -> None:
    train("search", "--map_path=map.json")
    train("search", "--map_path=map.json", "--trainer.max_epochs=2", "--ckpt_path=last")
    assert ConflictMap.load("map.json").provenance["steps"] == 6


def test_any_method_and_hyperparameter_is_a_flag() -> None:
    train("fit", "--model.method=CAGrad", "--model.method_options.c=0.4", "--model.only=[digit,letter]")
    assert logged()


def test_a_method_of_ones_own_is_imported_first() -> None:
    Path("my_method.py").write_text(
        "import recon\n"
        "@recon.register_method('loudest')\n"
        "class Loudest(recon.GramianMethod):\n"
        "    def weights(self, gramian, losses=None):\n"
        "        norms = gramian.diagonal()\n"
        "        return (norms == norms.max()).to(norms)\n"
    )
    for flag in (["--import", "my_method"], ["--import=my_method"]):
        main([*flag, "fit", "--config", GLYPHS, *TINY, "--model.method=loudest"])
    assert logged(version=1)


def test_a_single_task_is_trained_by_naming_it() -> None:
    train("fit", "--model.only=[letter]")
    assert "val/letter/accuracy" in logged()[0]
    assert "val/digit/accuracy" not in logged()[0]


def test_wandb_logs_offline_by_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for variable in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))

    def use_wandb(content: dict[str, Any]) -> None:
        content["trainer"]["logger"] = {
            "class_path": "pytorch_lightning.loggers.WandbLogger",
            "init_args": {"offline": True, "project": "recon"},
        }

    main(["fit", "--config", changed(use_wandb), *TINY])
    import wandb

    wandb.teardown()  # waits until all is written
    (run,) = tmp_path.rglob("offline-run-*/run-*.wandb")
    assert b"val/digit/accuracy" in run.read_bytes()


# Conflict maps --------------------------------------------------------------------------------------------------------

SCORES = {"layer1": 9, "conv1": 7, "fc": 7, "layer2": 0}


@pytest.fixture
def published() -> str:
    Path("published.json").write_text(json.dumps(SCORES))
    return "published.json"


def test_map_show_ranks_the_layers_of_either_format(published: str, capsys: pytest.CaptureFixture[str]) -> None:
    ConflictMap.import_scores(published, severity=-0.02).save("saved.json")
    for path, severity in ((published, "0"), ("saved.json", "-0.02")):
        main(["map", "show", path, "--severity", severity])
        lines = capsys.readouterr().out.splitlines()
        assert [line.split() for line in lines[1:]] == [
            ["rank", "layer", "score"],
            ["1", "layer1", "9"],
            ["2", "conv1", "7"],
            ["3", "fc", "7"],
            ["4", "layer2", "0"],
        ]


def test_map_groups_tells_which_tasks_may_share_a_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    analyzer = recon.ConflictAnalyzer(
        torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), ["a", "b", "c"]
    )
    gramians = [[[1, c, 0.5], [c, 1, c], [0.5, c, 1]] for c in (0.2, -0.3)]
    analyzer.observe(torch.tensor(gramians, dtype=torch.float64))
    path = str(tmp_path / "map.json")
    analyzer.conflict_map().save(path)
    main(["map", "groups", path])
    assert capsys.readouterr().out.splitlines() == [
        "layer  number  groups",
        "1           2  a, c | b",
        "0           1  a, b, c",
    ]
    main(["map", "groups", path, "--top", "1", "--number", "3"])
    assert capsys.readouterr().out.splitlines()[1:] == ["1           3  a | b | c"]


def test_map_compare_says_how_far_two_maps_agree(published: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.json").write_text(json.dumps({"layer1": 5, "conv1": 4, "layer2": 2, "fc": 1}))
    main(["map", "compare", published, "other.json", "--top", "3"])
    printed = capsys.readouterr().out
    assert "Spearman of scores    0.632" in printed
    assert "common to the top 3   2" in printed
    assert "top 3 of the first only: fc" in printed


def test_maps_are_shown_by_the_names_of_the_published_rankings(capsys: pytest.CaptureFixture[str]) -> None:
    main(["map", "show", "nyuv2-mtan"])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "ImportedMap(nyuv2-mtan: 72 layers, severity -0.02), severity -0.02"
    assert lines[2].split() == ["1", "decoder_block_att.1.bn1", "25646"]
    assert printed.err == ""


def test_published_rankings_of_different_severities_are_compared_each_at_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["map", "compare", "nyuv2-mtan", "cityscapes-segnet", "--top", "10"])
    printed = capsys.readouterr().out
    assert "severity              -0.02 and 0.0" in printed
    assert "common layers         52" in printed


def test_a_severity_that_nobody_told_is_said_to_be_assumed(published: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = "published.json does not say at which severity its scores were counted: -0.1 is assumed; --severity=S"
    main(["map", "show", published])
    printed = capsys.readouterr()
    assert printed.out.startswith("ImportedMap(published.json: 4 layers, severity -0.1 (assumed))")
    assert told in printed.err
    main(["map", "import", published, "imported.json"])
    assert told in capsys.readouterr().err
    main(["map", "show", "imported.json"])
    assert told in capsys.readouterr().err
    main(["map", "show", published, "--severity=-0.1"])
    printed = capsys.readouterr()
    assert "assumed" not in printed.out + printed.err


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.methd=x"], "unknown option 'model.methd'; nearest: 'model.method'"),
        (["--modle.method=mgda"], "unknown option 'modle.method'; nearest: 'model.method'"),
        (["--model.method=pcgrd"], "unknown method 'pcgrd'; nearest: 'pcgrad'"),
        (["--model.method_options.c=1"], "unknown hyperparameter 'c' in method 'joint'"),
        (["--model.only=[digits]"], "unknown task 'digits'; nearest: 'digit'"),
        (
            ["--model.branch.layers=[layer1.0.con1]"],
            "unknown layer 'layer1.0.con1' in ResNet18; nearest: 'layer1.0.conv1'",
        ),
        (["--model.branch.map=nowhere.json"], "there is no conflict map nowhere.json; the path is relative to"),
        (["--data.train_siz=3"], "data: recon.data.Glyphs: unknown option 'train_siz'; nearest: 'train_size'"),
        (["--data=recon.data.Glyphz"], "data: recon.data.Glyphz: module 'recon.data' has no attribute 'Glyphz'"),
        (
            ["--model.backbone.widht=3"],
            "model.backbone: recon.models.ResNet18: unknown option 'widht'; nearest: 'width'",
        ),
        (
            ["--trainer.gradient_clip_val=1", "--model.gradient_clip_val=2"],
            "gradient_clip_val is given twice: 2 to MultiTaskModule, 1 to the Trainer; give",
        ),
        (
            ["--trainer.accumulate_grad_batches=2", "--model.method=famo"],
            "FAMO evaluates the losses of the whole batch again in its step",
        ),
        (["--ckpt_path=nowhere.ckpt"], "--ckpt_path nowhere.ckpt: there is no such file; give"),
        (["--data.train_size=0"], "train_size is 0; it must be at least 1"),
        (["--model.branch.init=rest"], "model.branch.init: recon.training.BranchOptions: Expected a typing.Literal["),
    ],
)
def test_a_bad_flag_is_named_with_what_comes_nearest(flags: list[str], message: str) -> None:
    assert error("fit", "--config", GLYPHS, *TINY, *flags).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(modle=1), "unknown option 'modle'; nearest: 'model'"),
        (
            lambda content: content["model"].update(methd="mgda"),
            "unknown option 'model.methd'; nearest: 'model.method'",
        ),
        (
            lambda content: content["trainer"].update(max_epoch=3),
            "unknown option 'trainer.max_epoch'; nearest: 'trainer.max_epochs'",
        ),
        (lambda content: content["model"].update(method="mgdaa"), "unknown method 'mgdaa'; nearest: 'mgda'"),
        (
            lambda content: content["data"]["init_args"].update(trainsize=3),
            "data: recon.data.Glyphs: unknown option 'trainsize'; nearest: 'train_size'",
        ),
        (lambda content: content["model"].pop("backbone"), "the following arguments are required: fit.model.backbone"),
        (
            lambda content: content["data"].update(class_path="recon.data.MultiFashionMNIST", init_args={}),
            "data: recon.data.MultiFashionMNIST: the following arguments are required: root",
        ),
        (
            lambda content: content.update(
                data={"class_path": "recon.data.MultiFashionMNIST", "init_args": {"root": "/dev/null/nowhere"}}
            ),
            "/dev/null/nowhere/MNIST/raw lacks ",
        ),
        (
            lambda content: content.update(
                data={"class_path": "pytorch_lightning.demos.boring_classes.BoringDataModule"}
            ),
            "BoringDataModule has no tasks",
        ),
    ],
)
def test_a_bad_key_in_yaml_is_named_with_what_comes_nearest(
    change: Callable[[dict[str, Any]], None], message: str
) -> None:
    assert message in error("fit", "--config", changed(change))


def test_a_checkpoint_of_another_network_is_refused_in_one_line() -> None:
    train("fit")
    for other in ("--model.branch.layers=[fc]", "--model.method=pcgrad"):
        message = error("test", "--config", GLYPHS, *TINY, "--ckpt_path=logs/glyphs/version_0/last.ckpt", other)
        assert message.startswith("the checkpoint is of another network or method: it lacks ")
        assert len(message) < 400


def plan_of_the_glyphs() -> dict[str, Any]:
    fit = yaml.safe_load(Path(GLYPHS).read_text())
    del fit["seed_everything"], fit["trainer"]["logger"], fit["model"]["method"]
    return {"name": "p", "severity": -0.1, "top": 1, "methods": [{"method": "joint"}], "fit": fit}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fitt"], "unknown command 'fitt'; nearest: 'fit'"),
        (["--import", "nowhere", "fit"], "cannot import 'nowhere' (No module named 'nowhere')"),
        (["--import"], "cannot import ''; give a module's name"),
        (["--import", "needy", "fit"], "cannot import 'needy': it imports 'absent_module', which is not installed"),
        (["--import", "failing", "fit"], "cannot import 'failing': ZeroDivisionError: division by zero"),
        (["benchmark", "importing.yaml"], "cannot import 'nope' (No module named 'nope')"),
        (
            ["fit", "--config", GLYPHS, "--ckpt_path=last"],
            "--ckpt_path last: there is no last.ckpt of a run in logs/glyphs; begin",
        ),
        (
            ["test", "--config", GLYPHS, "--ckpt_path=last"],
            "--ckpt_path last: there is no last.ckpt of a run in logs/glyphs; begin",
        ),
        (["fit", "--config", "nowhere.yaml"], 'Parser key "config": File does not exist'),
        (["map", "show", "nowhere.json"], "there is no conflict map nowhere.json; the path is relative to"),
        (["map", "show", "nyuv2-segnet"], "there is no conflict map nyuv2-segnet; the path is relative to"),
        (["map", "shw", "x"], "unknown command 'map shw'; nearest: 'map show'"),
        (["data", "prepare", "nyu", "x"], "unknown command 'data prepare nyu'; nearest: 'data prepare nyuv2'"),
        (["benchmark"], "the following arguments are required: plan"),
        (["data", "prepare", "nyuv2", "x"], "the following arguments are required: out"),
        (["benchmark", "nowhere.yaml"], "cannot read the plan nowhere.yaml"),
        (["benchmark", "plan.yaml", "--jbs", "2"], "unknown option 'jbs'; nearest: 'jobs'"),
        (["benchmark", GLYPHS], f"plan {GLYPHS}: unknown key 'seed_everything'"),
    ],
)
def test_a_bad_command_line_is_named(arguments: list[str], message: str) -> None:
    Path("needy.py").write_text("import absent_module")
    Path("failing.py").write_text("1 / 0")
    Path("importing.yaml").write_text(yaml.safe_dump({**plan_of_the_glyphs(), "imports": ["nope"]}))
    assert error(*arguments).startswith(message)


def test_map_apply_reports_matches_and_growth_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    Path("narrower.json").write_text(json.dumps({"bn1": 5, "layer1.0.bn1": 4, "another": 3, "conv1": 2}))
    arguments = ["map", "apply", "narrower.json", "--config", GLYPHS, "--top", "2"]
    main(arguments)
    assert "matched    3 of the map's 4 layers, 3 of the network's 41" in capsys.readouterr().out
    main([*arguments, "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record["branched"] == ["bn1", "layer1.0.bn1"]
    assert (record["unmatched"], len(record["extra"])) == (["another"], 38)
    assert record["parameters"]["growth"] > 0
    assert "give --top" in error("map", "apply", "narrower.json", "--config", GLYPHS)


def test_map_select_prints_layers_score_and_price(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["map", "select", "multi-fashion-mnist-resnet18", "--config", GLYPHS]
    main([*arguments, "--parameters", "0.01", "--top", "3"])
    printed = capsys.readouterr().out
    assert "selected   3 layers: bn1, layer1.0.bn1, layer1.1.bn1" in printed and "step time" in printed
    assert "flops=-0.5 is no budget" in error(*arguments, "--flops=-0.5")


@pytest.mark.slow
def test_map_select_without_a_rule_prints_a_row_of_budgets_and_draws_them(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["map", "select", "multi-fashion-mnist-resnet18", "--config", GLYPHS]
    main([*arguments, "--json", "--figure", "curve"])
    record = json.loads(capsys.readouterr().out)
    assert {"rule", "layers", "captured", "parameters", "flops"} == set(record[0])
    assert Path("curve.png").exists() and Path("curve.pdf").exists()
    assert "no layer that conflicts fits into flops=0.0001" in error(*arguments, "--flops", "0.0001")


def test_map_apply_takes_a_published_ranking_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    main(["map", "apply", "multi-fashion-mnist-resnet18", "--config", GLYPHS, "--top", "2"])
    printed = capsys.readouterr().out
    assert "matched    41 of the map's 41 layers, 41 of the network's 41" in printed
    assert "branched   2 layers: bn1, layer1.0.bn1" in printed


def test_map_apply_asks_an_imported_map_at_its_own_severity(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ranking.json").write_text(json.dumps({"bn1": 5, "conv1": 2}))
    main(["map", "import", "ranking.json", "imported.json", "--severity=-0.02"])
    Path("plan.yaml").write_text(yaml.safe_dump(plan_of_the_glyphs()))
    main(["map", "apply", "imported.json", "--config", "plan.yaml"])
    assert "severity -0.02" in capsys.readouterr().out


def test_map_import_makes_a_map_of_a_published_ranking(published: str) -> None:
    main(["map", "import", published, "imported.json", "--severity=-0.02"])
    assert ConflictMap.load("imported.json").severity == -0.02


def test_a_map_is_asked_only_what_it_knows(published: str) -> None:
    assert "not on the 0.01 grid" in error("map", "show", published, "--severity", "-0.123")
    ConflictMap.import_scores(published, severity=-0.02).save("saved.json")
    assert "imported at severity -0.02" in error("map", "show", "saved.json", "--severity", "-0.1")
    Path("damaged.json").write_text('{"layer1": ')
    assert "truncated or not JSON" in error("map", "show", "damaged.json")


# The demo -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_ends_with_a_table_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    main(["demo"])
    printed = capsys.readouterr().out
    for row in ("single-task", "joint ", "joint + Recon", "joint + random layers"):
        assert f"| {row}" in printed
    for figure in ("conflict_by_layer.png", "cosine_histograms.png", "delta_m.png"):
        assert f"recon-demo/{figure}" in printed
        assert Path("recon-demo", figure).exists()


def test_the_entry_point_takes_the_words_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    recon.cli.main(["map", "--help"])
    assert capsys.readouterr().out.startswith("usage: recon map COMMAND ...")
