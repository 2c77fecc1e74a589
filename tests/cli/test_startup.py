"""What lies in the folder that a command is run in is not executed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import recon
from recon.cli.dispatch import main
from recon.cli.startup import _module
from recon.cli.working_folder import append_working_folder_for

PACKAGE = Path(recon.__file__).parents[1]
CONSOLE = "import sys; sys.argv[0] = '/bin/recon'; from recon.cli import main; main()"
STRANGERS = (
    *("torch", "numpy", "yaml", "pytorch_lightning", "rich", "litmodels", "h5py", "scipy", "tqdm", "signal"),
    *("filelock", "matplotlib", "multiprocessing", "resource", "uuid", "tensorboard"),
)


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; every module that may be looked for there makes a file when it is imported."""
    for name in STRANGERS:
        (tmp_path / f"{name}.py").write_text(f"open('executed-{name}', 'w')\nraise SystemExit('executed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return tmp_path


def executed() -> list[str]:
    return [path.name for path in Path().glob("executed-*")]


@pytest.mark.parametrize("python", [["-m", "recon"], ["-P", "-c", CONSOLE]], ids=["module", "console"])
def test_modules_of_the_working_folder_are_not_executed(strange: Path, python: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, *python, "data", "verify", "."],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert executed() == []
    assert process.returncode == 1
    assert process.stderr.startswith("recon: there is no folder train")


def test_a_fit_executes_none_either(strange: Path) -> None:
    glyphs = PACKAGE / "configs" / "glyphs" / "fit.yaml"
    tiny = ["--model.backbone.width=2", "--data.train_size=16", "--data.test_size=20", "--trainer.max_epochs=1"]
    main(["fit", "--config", str(glyphs), *tiny, "--trainer.enable_progress_bar=false"])
    assert executed() == []
    assert str(strange) not in sys.path


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--data", "my_own.Data"],
        ["fit", "--data.class_path=my_own.Data"],
        ["fit", "--model.backbone={class_path: my_own.Net, init_args: {width: 3}}"],
        ["fit", "--config", "fit.yaml"],
        ["fit", "--config=outer.yaml"],
        ["benchmark", "folder/plan.yaml"],
    ],
)
def test_the_working_folder_comes_last_where_a_class_path_needs_it(strange: Path, words: list[str]) -> None:
    Path("my_own.py").write_text("")
    Path("fit.yaml").write_text("data: {class_path: my_own.Data}")
    Path("outer.yaml").write_text("data: fit.yaml")
    Path("folder").mkdir()
    Path("folder/plan.yaml").write_text("fit: {trainer: {callbacks: [{class_path: my_own.Callback}]}}")
    append_working_folder_for(words)
    assert sys.path[-1] == str(strange)
    assert sys.path.count(str(strange)) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--data", "recon.data.Glyphs", "--model.backbone=torch.nn.Linear"],
        ["fit", "--config", "fit.yaml", "--ckpt_path", "logs/rich.ckpt", "--trainer.max_epochs=0.5"],
        ["fit", "--config", "absent.yaml"],
        ["test", "--ckpt_path", "rich.ckpt", "--data.root=tensorboard.d"],
        ["search", "--map_path=rich.json"],
        ["fit", "--config", "damaged.yaml"],
    ],
)
def test_it_does_not_come_where_none_does(strange: Path, words: list[str]) -> None:
    Path("fit.yaml").write_text("data: {class_path: recon.data.Glyphs}\ntrainer: {max_epochs: 3}")
    Path("tensorboard.d").mkdir()
    Path("damaged.yaml").write_text("data: {class_path: [")
    append_working_folder_for(words)
    assert str(strange) not in sys.path


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("python -m recon fit", "recon"),
        ("python -X dev -m recon.methods.catalogue.page -m x", "recon.methods.catalogue.page"),
        ("python -mrecon", "recon"),
        ("python fit.py", ""),
        ("python -m", ""),
    ],
)
def test_the_module_that_python_runs_is_known(line: str, module: str) -> None:
    assert _module(line.split()) == module


def test_another_program_keeps_its_path_and_its_interrupts(tmp_path: Path) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__init__.py").write_text("import recon")
    (tmp_path / "program" / "train.py").write_text(
        "import os, signal, sys\n"
        "assert os.path.realpath(sys.path[0]) == os.path.realpath(os.getcwd()), sys.path\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    subprocess.run([sys.executable, "-m", "program.train"], cwd=tmp_path, env=environment, check=True)


@pytest.mark.parametrize("python", [["-m", "recon"], ["-P", "-c", CONSOLE]], ids=["module", "console"])
def test_an_interrupt_of_the_imports_ends_the_command_quietly(tmp_path: Path, python: list[str]) -> None:
    (tmp_path / "torch.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)")
    with subprocess.Popen(
        [sys.executable, *python, "map", "show", "x"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["benchmark", "plan.yaml"], "recon: interrupted; the same command goes on from what is finished\n"),
        (["map", "show", "map.json"], "recon: interrupted\n"),
    ],
)
def test_a_later_interrupt_is_told_with_what_goes_on(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recon.cli.dispatch._run", interrupt)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 130
    assert capsys.readouterr().err == told
