import pytest
from matplotlib.axes import Axes
from some_maps import axes

import recon
from recon import plot

LAYERS = ["0", "1", "2", "3"]


def squares(drawn: Axes) -> dict[int, list[float]]:
    """Row -> the places of its copies."""
    found: dict[int, list[float]] = {}
    for line in drawn.lines:
        if line.get_marker() == "s":
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):  # type: ignore[arg-type]
                found.setdefault(int(y), []).append(float(x))
    return {row: sorted(places) for row, places in found.items()}


def test_each_task_has_a_copy_of_a_branched_layer_behind_the_trunk() -> None:
    drawn = plot.branches(LAYERS, ["1", "3"], ["a", "b", "c"], ax=axes())
    assert squares(drawn) == {1: [0, 1, 2], 3: [0, 1, 2]}
    assert drawn.get_title() == "2 of 4 layers branched; the trunk is 1 layer"
    assert [label.get_text() for label in drawn.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in drawn.get_yticklabels()] == [*LAYERS, "heads"]


def test_groups_stand_beside_each_other_and_share_a_lane_until_they_part() -> None:
    groups = {"1": [["a", "c"], ["b"]], "2": [["a"], ["b"], ["c"]]}
    drawn = plot.branches(LAYERS, groups, ["a", "b", "c"], ax=axes())
    assert [label.get_text() for label in drawn.get_xticklabels()] == ["a", "c", "b"]
    assert squares(drawn) == {1: [0.5, 2], 2: [0, 1, 2]}


def test_a_branched_network_is_drawn_by_its_groups() -> None:
    from torch import nn

    network = recon.branch(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), ["1"], ["a", "b"])
    assert squares(plot.branches(["0", "1"], network.groups, network.tasks, ax=axes())) == {1: [0, 1]}
    with pytest.raises(ValueError, match="the branched layer '7' is none of the 4 layers"):
        plot.branches(LAYERS, ["7"], ["a", "b"])
