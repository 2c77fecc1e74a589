"""The time left, by runs whose times are only played."""

from collections.abc import Callable

import pytest

from recon.experiments import Plan
from recon.experiments.runs import Run
from recon.experiments.time_left import TimeLeft

PlanFactory = Callable[..., Plan]

METHODS = [{"method": "joint", "variants": ["plain", "recon"]}, {"method": "mgda", "variants": ["plain", "recon"]}]


class Played:
    """Two tasks, ten epochs a run; tells how long epochs of each run took."""

    def __init__(self, plan: Plan, places: int = 1) -> None:
        self.runs = {run.id.removesuffix("-seed0"): run for run in plan.runs(["digit", "letter"])}
        self.left = TimeLeft([*self.runs.values()], epochs=10, tasks=2, places=places)
        self.now = 0.0

    def carry_out(self, name: str, start: float, epoch: float, test: float) -> None:
        """Carry out a run alone."""
        self.begin(name, start)
        self.advance(name, 10, 10 * epoch)
        self.now += test
        self.left.finished(self.run(name), self.now)

    def begin(self, name: str, start: float, epochs: int = 0) -> None:
        self.advance(name, epochs, start)

    def advance(self, name: str, epochs: int, seconds: float) -> None:
        self.now += seconds
        self.left.epochs(self.run(name), epochs, self.now)

    def run(self, name: str) -> Run:
        return self.runs[name]

    def seconds(self) -> float | None:
        return self.left.seconds(self.now)


def test_nothing_is_told_before_an_epoch_and_nothing_is_left_at_the_end(tiny: PlanFactory) -> None:
    played = Played(tiny(methods=[METHODS[0]], single=False))
    played.begin("joint-plain", 60)
    assert played.seconds() is None
    played.advance("joint-plain", 10, 10)
    assert played.seconds() == pytest.approx(10 * 1.2)
    played.left.finished(played.run("joint-plain"), played.now)
    played.carry_out("joint-recon", 0, 2, 0)
    assert played.seconds() == 0


def test_epochs_that_were_never_measured_cost_by_tasks_and_branches(tiny: PlanFactory) -> None:
    played = Played(tiny(methods=[METHODS[0]]))
    played.begin("single-digit", 60)  # the start of the first process comes once
    played.advance("single-digit", 10, 30)
    assert played.seconds() == pytest.approx(10 * (3 + 3 * 5 / 3 + 3 * 2))


def test_an_epoch_costs_what_its_kind_has_cost(tiny: PlanFactory) -> None:
    played = Played(tiny(methods=METHODS, single=False))
    played.carry_out("joint-plain", 60, 2, 0)
    played.carry_out("joint-recon", 0, 7, 0)
    assert played.seconds() == pytest.approx(10 * (2 + 7))  # another method's are the nearest
    played.begin("mgda-plain", 0)
    played.advance("mgda-plain", 4, 12)
    assert played.seconds() == pytest.approx(6 * 3 + 10 * 7)
    played.now += 2  # within the epoch
    assert played.seconds() == pytest.approx(6 * 3 - 2 + 10 * 7)
    played.now += 100
    assert played.seconds() == pytest.approx(10 * 7)


def test_each_run_that_is_to_begin_starts_and_is_tested(tiny: PlanFactory) -> None:
    played = Played(tiny(methods=METHODS, single=False))
    played.carry_out("joint-plain", 60, 1, 3)
    played.carry_out("mgda-plain", 5, 1, 3)
    played.carry_out("joint-recon", 5, 2, 3)
    assert played.seconds() == pytest.approx(5 + 10 * 2 + 3)


def test_runs_at_a_time_share_the_time_and_wait_for_what_they_need(tiny: PlanFactory) -> None:
    played = Played(tiny(methods=METHODS, single=False), places=2)
    played.begin("joint-plain", 60)
    played.begin("mgda-plain", 0)
    for name in ("joint-plain", "mgda-plain"):
        played.now = 70
        played.advance(name, 5, 0)
    branched = 10 * 2 * 2 / (5 / 3)
    assert played.seconds() == pytest.approx(10 + branched)  # both branched ones beside each other


def test_epochs_before_a_resume_were_not_measured(tiny: PlanFactory) -> None:
    played = Played(tiny(single=False))
    played.begin("joint-plain", 60, epochs=6)
    assert played.seconds() is None
    played.advance("joint-plain", 8, 10)
    assert played.seconds() == pytest.approx(2 * 5)


def test_a_lost_run_counts_from_where_it_resumes(tiny: PlanFactory) -> None:
    played = Played(tiny(single=False))
    played.begin("joint-plain", 60)
    played.advance("joint-plain", 8, 8)
    played.advance("joint-plain", 6, 100)
    assert played.seconds() == pytest.approx(4)


def test_a_run_that_failed_takes_no_time(tiny: PlanFactory) -> None:
    played = Played(tiny(methods=METHODS, single=False))
    played.carry_out("joint-plain", 60, 1, 0)
    played.carry_out("joint-recon", 0, 2, 0)
    played.left.failed(played.run("mgda-recon"), played.now)
    assert played.seconds() == pytest.approx(10)
    played.left.finished(played.run("mgda-plain"), played.now)  # copied from another
    assert played.seconds() == 0


def test_a_variant_that_ended_early_is_taken_to_end_there(tiny: PlanFactory) -> None:
    stop = {"stable": {"window": 10}}
    played = Played(tiny(methods=[{**METHODS[0], "seeds": [0, 1]}], single=False, stop=stop))
    played.begin("joint-search", 60)
    played.advance("joint-search", 2, 2)
    played.left.finished(played.run("joint-search"), played.now)
    for name in ("joint-plain", "joint-recon", "joint-plain-seed1", "joint-recon-seed1"):
        played.left.failed(played.run(name), played.now)
    assert played.seconds() == pytest.approx(2)
