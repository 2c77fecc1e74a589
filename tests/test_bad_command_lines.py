"""Whatever is wrong with a command line is told in a line or two, with a status that is not 0 and no traceback."""

import os
import sys
from pathlib import Path

import pytest

from recon.cli.dispatch import main

GLYPHS = str(Path(__file__).parents[1] / "configs" / "glyphs" / "fit.yaml")
FIT = ["fit", "--config", GLYPHS, "--trainer.logger=false"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder, with what should not be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("RECON_TRACEBACK", raising=False)
    files = {
        "needy.py": "import absent_module\n",
        "failing.py": "1 / 0\n",
        "wrong.py": "def (",
        "raising.py": (
            "import pytorch_lightning as pl\n"
            "class Data(pl.LightningDataModule):\n"
            "    def __init__(self):\n"
            "        raise KeyError('labels')\n"
            "class Setting(pl.LightningDataModule):\n"
            "    def __init__(self):\n"
            "        raise AttributeError('cannot assign to it')\n"
            "class NoTasks(pl.LightningDataModule):\n"
            "    pass\n"
        ),
        "list.yaml": "[1, 2]",
        "empty.yaml": "",
        "bad.yaml": "a: [1",
        "null.yaml": "data: null\nmodel: null\ntrainer: null\n",
        "list.json": "[]",
        "empty.json": "",
        "object.json": "{}",
        "strings.json": '{"a": "b"}',
        "file": "",
    }
    for name, content in files.items():
        Path(name).write_text(content)
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    Path("folder").mkdir()
    os.mkfifo("pipe")


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code not in (0, None)
    captured = capsys.readouterr()
    text = f"{end.value.code}\n{captured.err}" if isinstance(end.value.code, str) else captured.err
    assert "Traceback" not in text
    message = str(end.value.code)
    assert 1 <= len(message.splitlines()) <= 3, message
    assert message.startswith("recon: ")
    return message


LINES = """
--bogus | - | -- fit | ft
map sho | map show | map show folder | map show pipe | map show empty.json | map show list.json | map show object.json
map show strings.json | map show object.json --severity x | map show object.json --severity | map show absent.json
map show object.json --severity=nan | map show object.json --sev=0 | map show object.json extra
map compare object.json | map compare object.json strings.json | map import object.json | map import strings.json o.json
map apply object.json | map apply object.json --config list.yaml | map apply object.json --config pipe --top 2
map apply strings.json --config null.yaml --top x | map apply object.json --config absent.yaml --top 1
benchmark | benchmark folder | benchmark pipe | benchmark list.yaml | benchmark empty.yaml | benchmark bad.yaml
benchmark binary.yaml | benchmark null.yaml | benchmark x.yaml --jobs x | benchmark x.yaml --jobs | benchmark a b
benchmark x.yaml --out= | benchmark /dev/zero
demo --jobs x | demo --sc | demo extra | demo --out=
toy --methods nope | toy --out file/x --methods joint | toy --out file --methods joint | toy --out=
toy --methods joint,,
data verify | data verify nowhere | data verify file | data verify folder
data prepare nyuv2 | data prepare nyuv2 nowhere --out o | data prepare nyuv2 folder --out o
data prepare nyuv2 pipe --out o | data prepare cityscapes file --out o | data prepare cityscapes folder --out=
--import | --import failing map | --import wrong map | --import needy map | --import= map
"""


@pytest.mark.parametrize("line", [line.strip() for row in LINES.strip().splitlines() for line in row.split("|")])
def test_bad_arguments_are_told_in_a_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    told(line.split(), capsys)


@pytest.mark.parametrize("arguments", [[""], ["map", "show", ""], ["benchmark", ""], ["map", "show", "x" * 5000]])
def test_what_is_empty_or_too_long_is_told_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    told(arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data=failing.Data"], "data: division by zero"),
        (["--data=needy.Data"], "data: needy.Data: No module named 'absent_module'"),
        (["--data=wrong.Data"], "data: invalid syntax (wrong.py, line 1)"),
        (["--data=raising.Data"], "KeyError: 'labels'"),
        (["--data=raising.Setting"], "given class_path 'raising.Setting': cannot assign to it"),
        (["--data=torch.nn.Linear"], "data: Import path does not correspond to a subclass of LightningDataModule"),
        (["--data=raising.NoTasks"], "recon: NoTasks has no tasks; give data whose attribute `tasks` lists what is"),
        (["--data=recon.data.Glyps"], "module 'recon.data' has no attribute 'Glyps'; nearest: 'recon.data.Glyphs'\n"),
        (["--data=Glyps"], "data: Glyps is no path of a class, such as package.module.Glyps"),
        (["--model.backbone=torch.nn.Lineal"], "module 'torch.nn' has no attribute 'Lineal'; nearest: 'torch.nn.Line"),
        (["--model.method=nope"], "; if it is your own, import its module first (recon --import MODULE)"),
        (["--trainer.max_ep=1"], "unknown option 'trainer.max_ep'; nearest: "),
        (["--trainer.devices=9999"], "devices=9999 asks for as many processes on the CPU, which has "),
        (["--trainer.max_epochs=x"], "trainer.max_epochs: Expected a <class 'int'>; got x"),
        (["--config=bad.yaml"], "while parsing a flow sequence"),
        (["--weights_only=false"], "unknown option 'weights_only'"),
    ],
)
def test_what_is_wrong_with_a_fit_is_told_with_its_cause(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in told([*FIT, *arguments], capsys)


MORE = """
--data=3 | --data=torch.nn.Linear | --data=[1] | --data=recon.nowhere.Data | --data.batch_size=x
--model.backbone={class_path: x} | --model.backbone=torch.nn.Linear | --model.backbone.width=0
--trainer.accelerator=gpu9 | --trainer.devices=9999 | --trainer.precision=7 | --trainer.logger=Nope
--trainer.callbacks=Nope | --trainer.strategy=nope | --trainer.profiler=zzz | --trainer.plugins=zzz
--trainer.limit_train_batches=-1 | --trainer.max_time=abc
--model.method=3 | --model.method_options=[1] | --model.only=[] | --model.branch={} | --model.branch.layers=[0]
--model.branch.map=empty.json | --model.branch.map=pipe | --model.branch.map=folder | --model.optimizer=Nope
--model.optimizer.lr=x | --model.scheduler=Nope | --model.update_scale=x | --model.gradient_clip_val=-1
--seed_everything=-1 | --seed_everything=99999999999 | --ckpt_path=folder | --ckpt_path=pipe | --ckpt_path=file
--ckpt_path=best | --ckpt_path=hpc | extra | --extra | -z
"""


@pytest.mark.slow
@pytest.mark.parametrize("flag", [flag.strip() for row in MORE.strip().splitlines() for flag in row.split("|")])
def test_a_bad_flag_of_a_fit_is_told_in_a_line(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    told([*FIT, "--data.train_size=16", "--data.test_size=16", "--trainer.max_epochs=1", flag], capsys)


@pytest.mark.parametrize("path", ["", "folder", "file/map.json"])
def test_a_map_that_cannot_be_written_is_known_before_the_search(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--map_path" in told(["search", "--config", GLYPHS, f"--map_path={path}"], capsys)
    assert not Path("logs/glyphs/version_0/metrics.csv").exists()
