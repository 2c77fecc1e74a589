from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import recon
from recon.cli.maps import draw_map
from recon.conflict import MeasuredMap
from recon.experiments.report.task_pairs import task_pairs

TASKS = ["a", "b", "c", "d"]
FRIENDS = [[1.0, -0.5, 0.5, -0.5], [-0.5, 1.0, -0.5, 0.5], [0.5, -0.5, 1.0, -0.5], [-0.5, 0.5, -0.5, 1.0]]
"""Cosines of a layer where a and c are friends, and b and d."""


def measured(*steps: list[list[list[float]]]) -> MeasuredMap:
    """The map of a network of two layers, whose Gramians were these."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    analyzer = recon.ConflictAnalyzer(network, tasks=TASKS)
    for gramians in steps:
        analyzer.observe(torch.tensor(gramians))
    found = analyzer.conflict_map()
    assert isinstance(found, MeasuredMap)
    return found


def matrix(figure: Figure, panel: int = 0) -> np.ndarray:
    (picture,) = figure.axes[panel].images
    found: np.ndarray = np.ma.filled(picture.get_array(), np.nan)  # type: ignore[arg-type]
    return found


def names(figure: Figure, panel: int = 0) -> list[str]:
    return [label.get_text() for label in figure.axes[panel].get_yticklabels()]


def test_friends_stand_beside_each_other_and_each_square_is_the_mean_of_a_pair() -> None:
    figure = task_pairs([measured([FRIENDS, FRIENDS])])
    order = names(figure)
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == order
    same = np.array([[first + second in ("ac", "ca", "bd", "db") for second in order] for first in order])
    expected = np.where(same, 0.5, -0.5)
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_array_equal(matrix(figure), expected)
    assert {text.get_text() for text in figure.axes[0].texts} == {"50", "-50"}


def test_cosines_are_means_over_all_observations_of_layers_and_seeds() -> None:
    foes = [[1.0 if row == column else -0.75 for column in range(4)] for row in range(4)]
    figure = task_pairs([measured([FRIENDS, FRIENDS]), measured([foes, FRIENDS], [foes, FRIENDS])])
    order = names(figure)
    assert matrix(figure)[order.index("a"), order.index("c")] == pytest.approx((4 * 0.5 - 2 * 0.75) / 6)
    assert matrix(figure)[order.index("a"), order.index("b")] == pytest.approx((4 * -0.5 - 2 * 0.75) / 6)


def test_each_layer_has_a_panel_in_the_same_order_and_colours() -> None:
    foes = [[1.0 if row == column else -0.75 for column in range(4)] for row in range(4)]
    figure = task_pairs([measured([FRIENDS, foes])], ["1", "0"])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["1", "0"]
    assert names(figure, 0) == names(figure, 1)
    assert np.nanmax(matrix(figure, 0)) == np.nanmin(matrix(figure, 0)) == -0.75
    assert {axes.images[0].get_clim() for axes in figure.axes[:2]} == {(-0.75, 0.75)}


def test_a_pair_that_was_never_observed_stays_empty() -> None:
    without = [[value if 3 not in (row, column) else 0.0 for column, value in enumerate(values)]
               for row, values in enumerate(FRIENDS)]  # fmt: skip
    figure = task_pairs([measured([without, without])])
    place = names(figure).index("d")
    assert np.isnan(matrix(figure)[place]).all()
    assert np.isfinite(matrix(figure)).sum() == 6


def test_a_layer_that_is_not_there_and_a_map_without_cosines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layer '2'"):
        task_pairs([measured([FRIENDS, FRIENDS])], ["2"])
    with pytest.raises(ValueError, match="is an imported ranking; give the map of a search"):
        draw_map(Path("nyuv2-mtan"), out=tmp_path / "pairs.png")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured([FRIENDS, FRIENDS]).save(tmp_path / "map.json")
    draw_map(tmp_path / "map.json", out=tmp_path / "pairs.png", layers="0,1")
    assert capsys.readouterr().out.split() == [str(tmp_path / "pairs.png"), str(tmp_path / "pairs.pdf")]
    assert (tmp_path / "pairs.png").read_bytes().startswith(b"\x89PNG")
