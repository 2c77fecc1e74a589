import re
from collections.abc import Callable

import pytest
import pytorch_lightning as pl

from recon.data import Glyphs
from recon.models import LeNet
from recon.training import MultiTaskModule
from recon.training.progress import ProgressLines, without_terminal


def test_a_log_gets_a_line_of_the_first_and_of_the_last_epoch(
    trainer: Callable[..., pl.Trainer], glyphs: Glyphs, capsys: pytest.CaptureFixture[str]
) -> None:
    module = MultiTaskModule(LeNet(), glyphs.tasks)
    trainer(max_epochs=4, callbacks=[ProgressLines()]).fit(module, datamodule=glyphs)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/4", "epoch 4/4"]
    assert all("loss/digit " in line and "val/letter/accuracy " in line for line in lines)
    assert re.search(r"\(0:\d\d(, about 0:\d\d left)?\)$", lines[0])


def test_after_a_silent_minute_batches_are_lines(
    trainer: Callable[..., pl.Trainer],
    glyphs: Glyphs,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recon.training.progress.SILENCE", -1.0)
    module = MultiTaskModule(LeNet(), glyphs.tasks)
    fits = trainer(max_epochs=2, callbacks=[ProgressLines()])
    fits.fit(module, datamodule=glyphs)
    fits.test(module, datamodule=glyphs, verbose=False)
    lines = [re.split(r", (?!batch)|: (?!batch)", line)[0] for line in capsys.readouterr().out.splitlines()]
    of_epoch = [f"epoch 1/2, batch {n}/3" for n in (1, 2, 3)] + [f"validation: batch {n}/3" for n in (1, 2, 3)]
    assert lines[:7] == [*of_epoch, "epoch 1/2"]
    assert lines[14:17] == [f"test: batch {n}/3" for n in (1, 2, 3)]


def test_lines_are_for_who_has_no_terminal_and_asked_for_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert without_terminal({"enable_progress_bar": None})
    assert not without_terminal({"enable_progress_bar": True})
    assert not without_terminal({"enable_progress_bar": False})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert not without_terminal({})
