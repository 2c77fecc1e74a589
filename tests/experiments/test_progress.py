import io
import sys
from collections.abc import Callable

import pytest

from recon.experiments import Plan
from recon.experiments.progress import Progress

PlanFactory = Callable[..., Plan]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def carry_out(plan: Plan) -> None:
    first, second, third = plan.runs(["digit", "letter"])
    with Progress(plan, [first, second, third], [first.id], tasks=2, places=1) as progress:
        progress.epochs(second, 1)
        progress.epochs(second, 2)
        progress.finished(second)
        progress.say("a word")


def test_without_a_terminal_a_run_that_ends_is_a_line(tiny: PlanFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    carry_out(tiny())
    assert log.getvalue() == "2/3 runs, 4/6 epochs, 0:00: single-letter-seed0 finished\na word\n"


def test_without_a_terminal_an_epoch_after_a_silent_minute_is_a_line(
    tiny: PlanFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    clock = iter([0.0, 30.0, 61.5, 90.0, 130.0])
    monkeypatch.setattr("recon.experiments.progress.time.monotonic", lambda: next(clock))
    run, *others = tiny().runs(["digit", "letter"])
    with Progress(tiny(), [run, *others], [], tasks=2, places=1) as progress:
        progress.epochs(run, 0)
        progress.epochs(run, 1)
        progress.epochs(run, 2)
        progress.epochs(run, 2)
    assert log.getvalue() == (
        "0/3 runs, 1/6 epochs, 1:01, about 3:19 left: single-digit-seed0 in epoch 2\n"
        "0/3 runs, 2/6 epochs, 2:10, about 2:40 left: single-digit-seed0 is tested\n"
    )


def test_a_terminal_shows_a_bar(tiny: PlanFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0, 20.0])
    monkeypatch.setattr("recon.experiments.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    carry_out(tiny())
    assert "2/3 runs, single-letter-seed0" in terminal.getvalue()
    assert "| 4/6 epochs [00:0" in terminal.getvalue()
    assert ", about 0:33 left]" in terminal.getvalue()  # the third is joint: 5/3 of the price of a single task
    assert "a word" in terminal.getvalue()


def test_a_run_that_diverged_does_not_shorten_the_others(tiny: PlanFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    clock = iter([0.0, 0.0, 10.0, 10.0])
    monkeypatch.setattr("recon.experiments.progress.time.monotonic", lambda: next(clock))
    plan = tiny(methods=[{"method": "joint", "seeds": [0, 1], "variants": ["plain"]}], single=False)
    first, second = plan.runs(["digit", "letter"])
    with Progress(plan, [first, second], [], tasks=2, places=1) as progress:
        progress.epochs(first, 0)
        progress.epochs(first, 1)
        progress.diverged(first, "a loss is not finite")
    assert log.getvalue() == (
        "joint-plain-seed0 diverged: a loss is not finite\n"
        "1/2 runs, 2/4 epochs, 0:10, about 0:20 left: joint-plain-seed0 finished\n"
    )
