from dataclasses import replace

from recon.experiments.dry_run.forecast import Forecast, Row
from recon.experiments.dry_run.trial import Trial

TRIAL = Trial(
    layers=4,
    parameters=1000,
    flops=2_000_000,
    batch=0.5,
    batches=100,
    epochs=10,
    test_batch=0.25,
    test_batches=8,
    before=1.0,
    after=2.0,
    saving=0.1,
    checkpoint=5_000_000,
    memory=800_000_000,
)


def test_the_time_of_a_run_is_that_of_all_its_parts() -> None:
    assert TRIAL.seconds == 1 + 100 * 0.5 + 10 * 0.1 + 8 * 0.25 + 2


def test_the_forecast_counts_runs_and_adds_up_what_they_cost() -> None:
    rows = (
        Row("joint", "plain", {0: "finished", 1: "resumed", 2: "new"}, 0, 900, 10**6, trial=TRIAL),
        Row("joint", "recon", {0: "new", 1: "new"}, 4, 1000, 2 * 10**6, is_guess=True, trial=TRIAL),
        Row("digit", "single", {0: "finished"}, 0, 800, 10**6),
    )
    forecast = Forecast(rows, ("copied from there: joint-plain-seed0",), jobs=2, seconds=130.0)
    assert [forecast.number(state) for state in ("finished", "resumed", "new")] == [2, 1, 3]
    assert (forecast.memory, forecast.disk) == (1_600_000_000, 6 * 5_000_000)
    lines = [" ".join(line.split()) for line in str(forecast).splitlines()]
    assert lines[0] == "copied from there: joint-plain-seed0"
    assert lines[2] == "joint plain 0 900 1e+06 500 ms 0:56 800 MB finished: 0, resumed: 1, new: 2"
    assert lines[3] == "joint recon ~4 ~1,000 ~2e+06 500 ms 0:56 800 MB new: 0 1"
    assert lines[4] == "digit single 0 800 1e+06 finished: 0"
    assert lines[6:10] == [
        "runs 6: 2 finished, 1 resumed, 3 new",
        "time about 2:10, 2 runs at a time; 3:44 one after another",
        "memory about 1.6 GB for 2 at a time",
        "disk about 30 MB of checkpoints",
    ]
    assert any("Resumed runs are counted from their beginning" in line for line in lines)
    assert ", 1 run at a time; " in str(replace(forecast, jobs=1))


def test_a_finished_benchmark_costs_nothing() -> None:
    forecast = Forecast((Row("joint", "plain", {0: "finished"}, 0, 900, 10**6),), (), jobs=2, seconds=0.0)
    assert str(forecast).splitlines()[-1] == "runs    1: 1 finished, 0 resumed, 0 new"
