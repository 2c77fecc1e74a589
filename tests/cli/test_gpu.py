"""Commands that train on a GPU, in float16 too, interrupted and resumed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import recon

CONFIG = Path(__file__).parents[2] / "configs" / "glyphs" / "fit.yaml"
TINY = [
    "--model.backbone.width=4",
    "--data.train_size=200",
    "--data.test_size=50",
    "--data.batch_size=16",
    "--trainer.accelerator=gpu",
    "--trainer.devices=1",
    "--trainer.log_every_n_steps=1",
]
HALF = ["--trainer.precision=16-mixed", "--trainer.accumulate_grad_batches=2", "--model.method=cagrad"]
PLAN = """\
name: on_a_gpu
fit:
  trainer: {max_epochs: 1, accelerator: gpu, devices: 1, precision: PRECISION}
  model:
    backbone: {class_path: recon.models.ResNet18, init_args: {width: 4}}
  data: {class_path: recon.data.Glyphs, init_args: {train_size: 100, test_size: 50, batch_size: 20}}
methods:
  - {method: joint, variants: [plain, recon], seeds: [0]}
  - {method: pcgrad, variants: [plain, recon], seeds: [0]}
top: 3
"""

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def run(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "recon", *words]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def newest_weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = max((folder / "logs" / "glyphs").glob("version_*"))
    content = torch.load(newest / "last.ckpt", map_location="cpu")
    return {name: value for name, value in content["state_dict"].items() if name.startswith(("backbone", "heads"))}


def test_a_fit_in_float16_resumes_on_a_gpu(tmp_path: Path) -> None:
    for name, epochs in (("whole", ["2"]), ("resumed", ["1", "2"])):
        (tmp_path / name).mkdir()
        for index, number in enumerate(epochs):
            more = ["--ckpt_path=last"] if index else []
            run(tmp_path / name, "fit", "--config", str(CONFIG), *TINY, *HALF, f"--trainer.max_epochs={number}", *more)
    whole, resumed = (newest_weights(tmp_path / name) for name in ("whole", "resumed"))
    torch.testing.assert_close(resumed, whole, rtol=0.05, atol=0.02)


def test_a_search_on_a_gpu_finds_a_map(tmp_path: Path) -> None:
    run(tmp_path, "search", "--config", str(CONFIG), *TINY, "--trainer.max_epochs=1")
    conflict_map = recon.ConflictMap.load(tmp_path / "conflict_map.json")
    assert conflict_map.provenance["steps"] == 13
    assert sum(conflict_map.scores(0.0).values()) > 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_plan_on_a_gpu(precision: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.replace("PRECISION", precision))
    run(tmp_path, "benchmark", "plan.yaml", "--out", "out", "--jobs", "2")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["runs"]) == 6
    assert all(run["delta_m"] is not None for run in results["runs"] if run["variant"] != "single")
