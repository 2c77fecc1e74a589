"""Runs of a plan that train in several processes."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recon.experiments import Plan, benchmark

pytestmark = pytest.mark.slow

LENET = {"class_path": "recon.models.LeNet"}


@pytest.fixture
def plan(tiny: Callable[..., Plan]) -> Callable[..., Plan]:
    """A plan of LeNet, whose output for a sample depends on no other sample."""

    def build(devices: int, batch_size: int, **trainer: Any) -> Plan:
        fit = copy.deepcopy(tiny().fit)
        fit["model"]["backbone"] = LENET
        fit["data"]["init_args"].update(train_size=50, test_size=31, batch_size=batch_size)
        fit["trainer"].update(devices=devices, **trainer)
        methods = ({"method": "joint", "variants": ["plain", "recon"]}, {"method": "pcgrad", "variants": ["plain"]})
        return tiny(fit=fit, methods=list(methods), top=1, single=False)

    return build


def results(report_folder: Path) -> list[dict[str, Any]]:
    return json.loads((report_folder / "results.json").read_text())["runs"]


def test_a_plan_on_two_devices_gives_the_results_of_one(plan: Callable[..., Plan], tmp_path: Path) -> None:
    benchmark(plan(1, 16), tmp_path / "one", jobs=1)
    benchmark(plan(2, 8, strategy="ddp"), tmp_path / "two", jobs=1)
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    for first, second in zip(one, two, strict=True):
        for task, metrics in first["metrics"].items():
            assert second["metrics"][task] == pytest.approx(metrics, rel=1e-6)
        assert second["conflict_by_layer"] == pytest.approx(first["conflict_by_layer"])
    for run in ("joint-plain-seed0", "pcgrad-plain-seed0"):
        files = sorted(path.name for path in (tmp_path / "two" / "runs" / run).iterdir())
        assert files == sorted(path.name for path in (tmp_path / "one" / "runs" / run).iterdir())
        rows = [
            (tmp_path / n / "runs" / run / "logs" / "version_0" / "metrics.csv").read_text() for n in ("one", "two")
        ]
        assert len(rows[0].splitlines()) == len(rows[1].splitlines())


def test_a_run_that_fails_in_one_process_fails_once_and_says_where(
    plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    failing = plan(2, 8, strategy="ddp_spawn", limit_test_batches=1)
    with pytest.raises(RuntimeError, match="1 of 1 run failed"):
        benchmark(_with_broken_backbone(failing, tmp_path), tmp_path / "out", jobs=1)
    error = (tmp_path / "out" / "runs" / "joint-plain-seed0" / "error.txt").read_text()
    assert "ValueError: the second process has had enough" in error


def _with_broken_backbone(plan: Plan, folder: Path) -> Plan:
    (folder / "broken_second.py").write_text(
        "import torch\n"
        "from recon.models import LeNet\n"
        "class Broken(LeNet):\n"
        "    def forward(self, images):\n"
        "        if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:\n"
        "            raise ValueError('the second process has had enough')\n"
        "        return super().forward(images)\n"
    )
    content = plan.to_dict()
    content["fit"]["model"]["backbone"] = {"class_path": "broken_second.Broken"}
    content["methods"] = [{"method": "joint", "variants": ["plain"]}]
    return Plan.from_dict(content)
