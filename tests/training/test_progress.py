from collections.abc import Callable

import pytest
import pytorch_lightning as pl

from recon.data import Glyphs
from recon.models import LeNet
from recon.training import MultiTaskModule
from recon.training.progress import EpochLines, without_terminal


def test_a_log_gets_one_line_an_epoch(
    trainer: Callable[..., pl.Trainer], glyphs: Glyphs, capsys: pytest.CaptureFixture[str]
) -> None:
    module = MultiTaskModule(LeNet(), glyphs.tasks)
    trainer(max_epochs=2, callbacks=[EpochLines()]).fit(module, datamodule=glyphs)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("loss/digit " in line and "val/letter/accuracy " in line for line in lines)


def test_lines_are_for_who_has_no_terminal_and_asked_for_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert without_terminal({"enable_progress_bar": None})
    assert not without_terminal({"enable_progress_bar": True})
    assert not without_terminal({"enable_progress_bar": False})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert not without_terminal({})
