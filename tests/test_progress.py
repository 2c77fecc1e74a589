import io
import sys

import pytest

from recon.progress import Advance, counted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_is_a_line_after_a_silent_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    clock = iter([0.0, 30.0, 61.5, 90.0, 130.0])
    monkeypatch.setattr("recon.progress.time.monotonic", lambda: next(clock))
    with Advance("checksums", "file", done=3) as advance:
        for done in range(4, 8):
            advance.reach(done, 10)
    assert log.getvalue() == (
        "checksums: 5/10 files, 1:01, about 2:33 left\nchecksums: 7/10 files, 2:10, about 1:37 left\n"
    )


def test_short_work_leaves_no_line_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    assert list(counted("abc", "letters", "letter")) == ["a", "b", "c"]
    assert log.getvalue() == ""


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr("recon.progress.DELAY", 0)
    with Advance("checksums", "file", done=3) as advance:
        advance.reach(7, 10)
    assert "checksums: " in terminal.getvalue()
    assert "7/10" in terminal.getvalue()
