import pytest

from recon.experiments.makespan import makespan


@pytest.mark.parametrize(
    ("places", "seconds"),
    [(1, 13.0), (2, 7.0), (3, 7.0)],
)
def test_runs_wait_for_those_that_they_need(places: int, seconds: float) -> None:
    times = {"joint": 3.0, "single": 5.0, "recon": 4.0, "late": 1.0}
    needs = {"single": [], "joint": [], "recon": ["joint"], "late": ["finished before"]}
    assert makespan(times, needs, places) == seconds


def test_nothing_takes_no_time() -> None:
    assert makespan({}, {}, 2) == 0
