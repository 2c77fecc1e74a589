"""What a run takes of a cluster, and how many fit into a machine."""

import pytest

from recon.experiments.resources import Resources

MACHINE = {"CPU": 8.0, "GPU": 2.0, "memory": 16.0 * 2**30, "node:10.0.0.1": 1.0}


@pytest.mark.parametrize(
    ("resources", "runs"),
    [
        (Resources(cpus=1), 8),
        (Resources(cpus=3), 2),
        (Resources(cpus=1, gpus=0.5), 4),
        (Resources(gpus=0.1), 20),
        (Resources(cpus=1, gpus=4), 0),
        (Resources(cpus=1, memory=5), 3),
        (Resources(cpus=1, custom={"accelerator_type:A100": 0.01}), 0),
        (Resources(cpus=0, gpus=0), 1),
    ],
)
def test_the_scarcest_resource_decides_how_many_runs_fit(resources: Resources, runs: int) -> None:
    assert resources.fit_in(MACHINE) == runs


def test_what_is_not_said_is_taken_from_others_and_zero_is_said() -> None:
    others = Resources(cpus=4, gpus=1, memory=2, custom={"a": 1, "b": 1})
    assert Resources(gpus=0, custom={"b": 2}).over(others) == Resources(4, 0, 2, {"a": 1, "b": 2})
    assert Resources(gpus=0, custom={"b": 2}).over(others).amounts() == {"CPU": 4, "memory": 2**31, "a": 1, "b": 2}


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources(cpus=-1), "cpus: -1; give a number from 0"),
        (Resources(memory=float("nan")), "memory: nan; give a number from 0"),
        (Resources(custom={"a": "b"}), "a: 'b'; give a number from 0"),
        (Resources(gpus=1.5), "gpus: 1.5; give a part of one, or a whole number"),
    ],
)
def test_impossible_amounts_are_refused(resources: Resources, message: str) -> None:
    with pytest.raises(ValueError, match=f"^joint has {message}$"):
        resources.check("joint")


def test_resources_are_told_in_words() -> None:
    assert str(Resources(2, 0.5, 8)) == "2 cpus, 0.5 gpus, 8 GiB of memory"
    assert str(Resources(gpus=0)) == "nothing"
