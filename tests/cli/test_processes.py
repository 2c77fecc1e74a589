"""Commands that train in several processes, started by themselves and by torchrun."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import recon

CONFIG = Path(__file__).parents[2] / "configs" / "glyphs" / "fit.yaml"
TINY = [
    "--model.backbone.width=4",
    "--data.train_size=50",
    "--data.test_size=31",
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=8"]
LIMIT = 300
"""Seconds after which a command is taken to hang."""

pytestmark = pytest.mark.slow


def command(name: str, *more: str, launcher: list[str] | None = None) -> list[str]:
    return [sys.executable, *(launcher or []), "-m", "recon", name, "--config", str(CONFIG), *TINY, *more]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        check=False,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def weights(folder: Path, version: int = 0) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "logs" / "glyphs" / f"version_{version}" / "last.ckpt")
    return {name: value for name, value in content["state_dict"].items() if name.startswith(("backbone", "heads"))}


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_search_in_two_processes_is_one_and_goes_on(tmp_path: Path) -> None:
    exact = ["--trainer.precision=64-true", "--model.backbone=recon.models.LeNet"]
    without_width = [word for word in TINY if "width" not in word]
    for name, more in (("one", ["--data.batch_size=16"]), ("two", TWO)):
        (tmp_path / name).mkdir()
        words = [sys.executable, "-m", "recon", "search", "--config", str(CONFIG), *without_width, *exact, *more]
        done = run(words, tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("conflict map: conflict_map.json") == 1
        assert done.stdout.count("checkpoint: ") == 1
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-6, atol=1e-9)
    maps = [recon.ConflictMap.load(tmp_path / name / "conflict_map.json") for name in ("one", "two")]
    assert maps[0].scores(-0.1) == maps[1].scores(-0.1)
    rows = list(csv.DictReader((tmp_path / "two" / "logs" / "glyphs" / "version_0" / "metrics.csv").open()))
    assert len([row for row in rows if row["loss/digit"]]) == 4


def test_a_failure_is_told_once_and_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import torch, recon\n"
        "from recon.models import LeNet\n"
        "class Broken(LeNet):\n"
        "    def forward(self, images):\n"
        "        if torch.distributed.get_rank() == 1:\n"
        "            raise ValueError('the second process has had enough')\n"
        "        return super().forward(images)\n"
    )
    words = [word for word in command("fit", *TWO, "--model.backbone=broken.Broken") if "width" not in word]
    done = run(words, tmp_path)
    assert done.returncode == 1
    assert re.findall(r"^recon: .*", done.stderr, flags=re.MULTILINE) == ["recon: the second process has had enough"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_stopped_leaves_no_process_and_resumes(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "noted.py").write_text(
        "import os, pathlib\n"
        "from recon.models import LeNet\n"
        "class Noted(LeNet):\n"
        "    def forward(self, images):\n"
        "        pathlib.Path(f'{os.getpid()}.pid').touch()\n"
        "        return super().forward(images)\n"
    )
    flags = [*TWO, "--model.backbone=noted.Noted", "--trainer.max_epochs=100000"]
    words = [word for word in command("fit", *flags) if "width" not in word]
    checkpoint = tmp_path / "logs" / "glyphs" / "version_0" / "last.ckpt"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: checkpoint.exists() or process.poll() is not None)
        process.send_signal(number)
        _, errors = process.communicate(timeout=LIMIT)
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2, errors
    until(lambda: not any(Path("/proc", str(pid)).exists() for pid in pids))
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "recon: interrupted; --ckpt_path logs/glyphs/version_0/last.ckpt goes on" in errors
    epochs = torch.load(checkpoint)["epoch"] + 2
    more = ["--ckpt_path=last", f"--trainer.max_epochs={epochs}"]
    done = run([*words, *more], tmp_path)
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / "logs" / "glyphs" / "version_1" / "last.ckpt")["epoch"] == epochs - 1


def test_torchrun_starts_the_processes_too(tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = run(command("fit", *TWO, launcher=launcher), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checkpoint: ") == 1
    assert [path.name for path in (tmp_path / "logs" / "glyphs").iterdir()] == ["version_0"]


def test_spawned_processes_are_those_of_the_command(tmp_path: Path) -> None:
    done = run(command("fit", *TWO, "--trainer.strategy=ddp_spawn"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checkpoint: ") == 1
