"""Training with all settings of the Trainer at once, killed in an epoch and resumed by the command line."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

CONFIG = Path(__file__).parents[2] / "configs" / "multi_fashion_mnist" / "fit.yaml"
FLAGS = [
    *("--data.root=raw", "--data.train_size=60", "--data.test_size=20", "--data.batch_size=8", "--data.shuffle_seed=3"),
    *("--model.backbone=killed.Killed", "--model.method=pcgrad"),
    *("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"),
    *("--trainer.accumulate_grad_batches=2", "--trainer.max_epochs=3"),
]
# On a CPU Lightning takes 16-mixed for bfloat16; its plugin gives what a GPU computes with.
SCALER = "{class_path: torch.amp.GradScaler, init_args: {device: cpu, growth_interval: 3}}"
FLOAT16 = (
    "--trainer.plugins={class_path: pytorch_lightning.plugins.MixedPrecision, "
    f"init_args: {{precision: 16-mixed, device: cpu, scaler: {SCALER}}}}}"
)
KILLED = """\
import os, pathlib, signal, time
import torch
from recon.models import LeNet

class Killed(LeNet):
    batches = 0

    def forward(self, images):
        self.batches += self.training
        pathlib.Path(f"{os.getpid()}.pid").touch()
        # Four batches an epoch: the second window of the second epoch has one of its two.
        if self.batches == 8 and torch.distributed.get_rank() == 0 and pathlib.Path("kill").exists():
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(300)
        return super().forward(images)
"""

pytestmark = pytest.mark.slow


def write_idx(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with raw files of MNIST and Fashion-MNIST, as torchvision lays them out, and the backbone."""
    generator = np.random.default_rng(0)
    for name in ("MNIST", "FashionMNIST"):
        for prefix, count in (("train", 60), ("t10k", 20)):
            raw = tmp_path / "raw" / name / "raw"
            write_idx(raw / f"{prefix}-images-idx3-ubyte", generator.integers(0, 256, (count, 28, 28), np.uint8))
            write_idx(raw / f"{prefix}-labels-idx1-ubyte", generator.integers(0, 10, count, np.uint8))
    (tmp_path / "killed.py").write_text(KILLED)
    return tmp_path


def fit(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recon", "fit", "--config", str(CONFIG), *FLAGS, *more],
        check=False,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def checkpoint(folder: Path, version: int) -> dict[str, Any]:
    return torch.load(folder / "logs" / "multi_fashion_mnist" / f"version_{version}" / "last.ckpt")


def test_a_run_of_two_processes_killed_within_a_window_resumes_bit_for_bit(folder: Path) -> None:
    whole = fit(folder, FLOAT16)
    assert whole.returncode == 0, whole.stderr
    (folder / "kill").touch()
    killed = fit(folder, FLOAT16)
    assert killed.returncode == -signal.SIGKILL
    assert checkpoint(folder, 1)["epoch"] == 0
    (folder / "kill").unlink()
    # Another seed: weights and randomness have to come from the checkpoint.
    resumed = fit(folder, FLOAT16, "--ckpt_path=last", "--seed_everything=7")
    assert resumed.returncode == 0, resumed.stderr

    expected, result = checkpoint(folder, 0), checkpoint(folder, 2)
    assert result["epoch"] == expected["epoch"] == 2
    assert result["global_step"] == expected["global_step"] == 6
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "MixedPrecision"):
        torch.testing.assert_close(result.get(part), expected.get(part), rtol=0, atol=0)
    assert "MixedPrecision" in expected
    pids = [int(path.stem) for path in folder.glob("*.pid")]
    assert len(pids) == 6
    assert not [pid for pid in pids if Path("/proc", str(pid)).exists()]
