"""What the README shows is run, not only read."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import recon

README = Path(__file__).parents[1] / "README.md"


def python_block(containing: str) -> str:
    """The README's only Python example that contains a text."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if containing in block]
    return block


def test_method_of_ten_lines_registers_and_combines() -> None:
    block = python_block("register_method")
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    exec(block, {"__name__": "readme_method"})
    update = recon.create_method("normalised").combine(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    torch.testing.assert_close(update, torch.tensor([0.5, 0.5]))


def test_training_loop_runs_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    block = python_block("engine.backward").replace("backbone, heads = ...", "").replace("cmap.top(25,", "cmap.top(2,")
    tasks = ["seg", "depth"]
    backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    heads = nn.ModuleDict({task: nn.Linear(3, 1) for task in tasks})
    batches = [(torch.randn(6, 4), {task: torch.randn(6, 1) for task in tasks}) for _ in range(3)]
    scope = {
        "backbone": backbone,
        "heads": heads,
        "loader": batches,
        "loss": dict.fromkeys(tasks, nn.functional.mse_loss),
        "optimizer": torch.optim.SGD([*backbone.parameters(), *heads.parameters()], lr=0.1),
    }
    exec(block, scope)
    assert set(scope["features"]) == set(tasks)  # type: ignore[call-overload]
    assert recon.ConflictMap.load("conflict_map.json").provenance["steps"] == 3
    assert isinstance(scope["plain"], nn.Sequential)


@pytest.mark.parametrize("page", [README, *sorted((README.parent / "docs").rglob("*.md"))], ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
        assert (page.parent / link).exists(), link
