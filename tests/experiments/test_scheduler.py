"""What runs when, with processes that are only played."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recon.experiments import Plan
from recon.experiments.executors.local import Died, Epochs, Failed, Finished, Message
from recon.experiments.plan import Run
from recon.experiments.scheduler import Schedule

PlanFactory = Callable[..., Plan]


class Played:
    """Two processes of which it is written how each try of a run ends; by default well."""

    def __init__(self, endings: dict[str, list[Message]]) -> None:
        self.endings = endings
        self.going: list[Run] = []
        self.tries: list[tuple[str, int]] = []

    @property
    def free(self) -> int:
        return 2 - len(self.going)

    @property
    def busy(self) -> bool:
        return bool(self.going)

    def begin(self, plan: Plan, run: Run, out: Path, root: str | None) -> None:
        self.going.append(run)

    def messages(self) -> Iterator[tuple[Run, Message]]:
        run = self.going[0]
        beside = len(self.going) - 1
        self.going.remove(run)
        self.tries.append((run.id, beside))
        endings = self.endings.get(run.id, [])
        yield run, endings.pop(0) if endings else Finished({})


def carried_out(plan: Plan, workers: Any, finished: dict[str, Any] | None = None) -> tuple[Schedule, dict[str, Any]]:
    schedule = Schedule(plan.runs(["digit", "letter"]), finished or {})
    return schedule, {run.id: told for run, told in schedule.carry_out(workers, plan, Path(), None)}


KILLED = Died("killed by SIGKILL")
PLAIN_AND_RECON = [{"method": "joint", "variants": ["plain", "recon"]}, {"method": "mgda", "variants": ["plain"]}]


def test_what_others_need_comes_first_and_what_is_finished_does_not_come(tiny: PlanFactory) -> None:
    workers = Played({})
    _, told = carried_out(tiny(methods=PLAIN_AND_RECON), workers, {"single-digit-seed0": {}})
    assert next(run for run, _ in workers.tries) == "joint-plain-seed0"
    assert told.keys() == {"joint-plain-seed0", "joint-recon-seed0", "mgda-plain-seed0", "single-letter-seed0"}


def test_a_suspect_is_tried_last_and_alone_and_what_waits_for_it_after_it(tiny: PlanFactory) -> None:
    workers = Played({"joint-plain-seed0": [KILLED]})
    schedule, told = carried_out(tiny(methods=PLAIN_AND_RECON), workers)
    names = [run for run, _ in workers.tries]
    assert names[0] == "joint-plain-seed0"
    assert workers.tries[-2:] == [("joint-plain-seed0", 0), ("joint-recon-seed0", 0)]
    assert all(isinstance(message, Finished) for message in told.values())
    assert schedule.deaths == {"joint-plain-seed0": "its process died once (killed by SIGKILL)"}


def test_a_run_that_dies_alone_has_failed_and_what_needs_it_with_it(tiny: PlanFactory) -> None:
    workers = Played({"joint-plain-seed0": [KILLED, KILLED]})
    schedule, told = carried_out(tiny(methods=PLAIN_AND_RECON), workers)
    assert schedule.deaths == {"joint-plain-seed0": "its process died 2 times (killed by SIGKILL)"}
    assert isinstance(told["joint-plain-seed0"], Failed)
    assert told["joint-recon-seed0"] == Failed("joint-plain-seed0, whose conflict map it needs, failed")
    assert isinstance(told["mgda-plain-seed0"], Finished)
    assert [run for run, _ in workers.tries].count("joint-plain-seed0") == 2


def test_a_run_that_raises_is_not_tried_again(tiny: PlanFactory) -> None:
    workers = Played({"mgda-plain-seed0": [Failed("no")]})
    _, told = carried_out(tiny(methods=PLAIN_AND_RECON), workers)
    assert told["mgda-plain-seed0"] == Failed("no")
    assert len(workers.tries) == 5


def test_epochs_are_passed_on(tiny: PlanFactory) -> None:
    class Telling(Played):
        def messages(self) -> Iterator[tuple[Run, Message]]:
            yield self.going[0], Epochs(1)
            yield from super().messages()

    workers: Any = Telling({})
    schedule = Schedule(tiny(single=False).runs([]), {})
    assert [told for _, told in schedule.carry_out(workers, tiny(), Path(), None)] == [Epochs(1), Finished({})]
