"""What runs when, with processes that are only played."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Self

from recon.experiments import Plan
from recon.experiments.executors.executor import Died, Epochs, Executor, Failed, Finished, Lost, Message
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job
from recon.experiments.scheduler import Scheduler

PlanFactory = Callable[..., Plan]


class Played:
    """Two processes of which it is written how each try of a run ends; by default well."""

    def __init__(self, endings: dict[str, list[Message]]) -> None:
        self.endings = endings
        self.going: list[Job] = []
        self.tries: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    @property
    def free(self) -> int:
        return 2 - len(self.going)

    @property
    def busy(self) -> bool:
        return bool(self.going)

    def begin(self, job: Job) -> None:
        self.going.append(job)

    def messages(self) -> Iterator[tuple[Job, Message]]:
        job = self.going[0]
        beside = len(self.going) - 1
        self.going.remove(job)
        self.tries.append((job.run.id, beside))
        endings = self.endings.get(job.run.id, [])
        yield job, endings.pop(0) if endings else Finished({})


def unknown(job: Job) -> None: ...


def method_of(job: Job) -> str:
    """An identity by which entries of one method are the same."""
    return f"{job.run.entry.method} {job.run.variant} {job.run.task}"


def scheduler_of(
    plan: Plan,
    tasks: list[str],
    finished: Collection[str] = (),
    identity: Callable[[Job], str | None] = unknown,
) -> Scheduler:
    jobs = [Job(plan, run, Fit(plan.fit), ResultsFolder(Path())) for run in plan.runs(tasks)]
    return Scheduler(jobs, finished, lambda job: None, identity)


def carried_out(plan: Plan, executor: Executor, finished: Collection[str] = ()) -> tuple[Scheduler, dict[str, Any]]:
    scheduler = scheduler_of(plan, ["digit", "letter"], finished)
    return scheduler, {run.id: told for run, told in scheduler.carry_out(executor)}


KILLED = Died("killed by SIGKILL")
PLAIN_AND_RECON = [{"method": "joint", "variants": ["plain", "recon"]}, {"method": "mgda", "variants": ["plain"]}]


def test_what_others_need_comes_first_and_what_is_finished_does_not_come(tiny: PlanFactory) -> None:
    executor = Played({})
    _, told = carried_out(tiny(methods=PLAIN_AND_RECON), executor, ["single-digit-seed0"])
    assert next(run for run, _ in executor.tries) == "joint-plain-seed0"
    assert told.keys() == {"joint-plain-seed0", "joint-recon-seed0", "mgda-plain-seed0", "single-letter-seed0"}


def test_a_lost_run_begins_again_as_the_next_one_beside_others(tiny: PlanFactory) -> None:
    executor = Played({"joint-plain-seed0": [Lost("its machine is gone")]})
    scheduler = scheduler_of(tiny(methods=PLAIN_AND_RECON), ["digit", "letter"])
    told = [(run.id, message) for run, message in scheduler.carry_out(executor)]
    assert told[0] == ("joint-plain-seed0", Lost("its machine is gone"))
    assert executor.tries.count(("joint-plain-seed0", 1)) == 2
    assert {name for name, message in told if isinstance(message, Finished)} == {name for name, _ in told}
    assert not scheduler.deaths


def test_a_run_that_is_lost_again_and_again_fails(tiny: PlanFactory) -> None:
    _, told = carried_out(tiny(methods=PLAIN_AND_RECON), Played({"mgda-plain-seed0": [Lost("its worker died")] * 9}))
    reason = "it was lost 5 times, at last because its worker died"
    assert told["mgda-plain-seed0"] == Failed(reason, died=True)
    assert isinstance(told["joint-recon-seed0"], Finished)


def test_a_suspect_is_tried_last_and_alone_and_what_waits_for_it_after_it(tiny: PlanFactory) -> None:
    executor = Played({"joint-plain-seed0": [KILLED]})
    scheduler, told = carried_out(tiny(methods=PLAIN_AND_RECON), executor)
    names = [run for run, _ in executor.tries]
    assert names[0] == "joint-plain-seed0"
    assert executor.tries[-2:] == [("joint-plain-seed0", 0), ("joint-recon-seed0", 0)]
    assert all(isinstance(message, Finished) for message in told.values())
    assert scheduler.deaths == {"joint-plain-seed0": "its process died once (killed by SIGKILL)"}


def test_a_run_that_dies_alone_has_failed_and_what_needs_it_with_it(tiny: PlanFactory) -> None:
    executor = Played({"joint-plain-seed0": [KILLED, KILLED]})
    scheduler, told = carried_out(tiny(methods=PLAIN_AND_RECON), executor)
    assert scheduler.deaths == {"joint-plain-seed0": "its process died 2 times (killed by SIGKILL)"}
    assert isinstance(told["joint-plain-seed0"], Failed)
    assert told["joint-recon-seed0"] == Failed("joint-plain-seed0, whose conflict map it needs, failed")
    assert isinstance(told["mgda-plain-seed0"], Finished)
    assert [run for run, _ in executor.tries].count("joint-plain-seed0") == 2


def test_a_run_that_raises_is_not_tried_again(tiny: PlanFactory) -> None:
    executor = Played({"mgda-plain-seed0": [Failed("no")]})
    _, told = carried_out(tiny(methods=PLAIN_AND_RECON), executor)
    assert told["mgda-plain-seed0"] == Failed("no")
    assert len(executor.tries) == 5


def test_epochs_are_passed_on(tiny: PlanFactory) -> None:
    class Telling(Played):
        def messages(self) -> Iterator[tuple[Job, Message]]:
            yield self.going[0], Epochs(1)
            yield from super().messages()

    scheduler = scheduler_of(tiny(single=False), [])
    assert [told for _, told in scheduler.carry_out(Telling({}))] == [Epochs(1), Finished({})]


def twins(tiny: PlanFactory, executor: Played) -> tuple[list[str], dict[str, Message]]:
    """The tries, and the ends, of the joint runs of two names, with another run."""
    methods = [{"method": "joint", "name": name, "variants": ["plain"]} for name in ("one", "other")]
    plan = tiny(methods=[*methods, {"method": "mgda", "variants": ["plain"]}], single=False)
    told = {run.id: message for run, message in scheduler_of(plan, [], (), method_of).carry_out(executor)}
    return [run for run, _ in executor.tries], told


def test_of_runs_that_are_the_same_the_second_waits(tiny: PlanFactory) -> None:
    tries, told = twins(tiny, Played({}))
    assert tries == ["one-plain-seed0", "mgda-plain-seed0", "other-plain-seed0"]
    assert all(isinstance(message, Finished) for message in told.values())


def test_a_run_fails_with_the_one_that_is_the_same(tiny: PlanFactory) -> None:
    tries, told = twins(tiny, Played({"one-plain-seed0": [Failed("no")]}))
    assert tries == ["one-plain-seed0", "mgda-plain-seed0"]
    assert told["other-plain-seed0"] == Failed("one-plain-seed0, which is the same run, failed")


def test_a_run_waits_for_the_second_try_of_one_that_is_the_same(tiny: PlanFactory) -> None:
    tries, told = twins(tiny, Played({"one-plain-seed0": [KILLED]}))
    assert tries == ["one-plain-seed0", "mgda-plain-seed0", "one-plain-seed0", "other-plain-seed0"]
    assert all(isinstance(message, Finished) for message in told.values())


def test_a_run_waits_for_a_lost_one_that_is_the_same(tiny: PlanFactory) -> None:
    tries, _ = twins(tiny, Played({"one-plain-seed0": [Lost("its machine is gone")]}))
    assert tries == ["one-plain-seed0", "mgda-plain-seed0", "one-plain-seed0", "other-plain-seed0"]
