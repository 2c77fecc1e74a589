from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from torch import Tensor

from recon.conflict import MeasuredMap
from recon.experiments.report.figures import conflict_by_layer, cosine_histograms, delta_m_dots, kept_layers, save


def measured(**cosines: list[float]) -> MeasuredMap:
    """A map that observed these cosines in these layers."""
    histogram = torch.zeros(len(cosines), 1, 200, dtype=torch.int64)
    for layer, values in zip(histogram, cosines.values(), strict=True):
        for value in values:
            layer[0, int(value * 100) + 100] += 1
    unknown: Tensor = torch.zeros(len(cosines), 2)
    return MeasuredMap(dict.fromkeys(cosines, 1), ["a", "b"], histogram, unknown[:, :1], unknown, {})


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def dots(figure: Figure) -> dict[str, dict[str, float]]:
    """Of each entry of the legend its dots: row -> value."""
    axes = axes_of(figure)
    rows = [label.get_text() for label in axes.get_yticklabels()]
    found = {}
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        line = container.lines[0]
        places, values = np.asarray(line.get_ydata()).astype(int), np.asarray(line.get_xdata())
        named = [rows[place] for place in places]
        found[str(container.get_label())] = dict(zip(named, values.tolist(), strict=True))
    return found


def intervals(figure: Figure) -> list[list[float]]:
    """The ends of all intervals that are drawn, in the order of the rows."""
    lines = [line for container in axes_of(figure).containers for line in container.lines[2]]  # type: ignore[attr-defined]
    segments = [segment for line in lines for segment in line.get_segments() if len(segment)]
    segments.sort(key=lambda ends: ends[0][1])
    return [[float(end[0]) for end in segment] for segment in segments if np.isfinite(segment).all()]


def test_the_conflict_of_each_layer_is_the_mean_of_its_rates_over_seeds_and_their_range() -> None:
    maps = [measured(one=[-0.5, 0.5], two=[0.5, 0.5]), measured(one=[-0.5, -0.5], two=[-0.05, 0.5])]
    figure = conflict_by_layer(maps, branched=[["one"], ["one"]], severity=-0.1)
    assert dots(figure) == {"shared (1)": {"two": 0.0}, "branched by Recon (1)": {"one": 0.75}}
    assert intervals(figure) == [[0.5, 1.0], [0.0, 0.0]]


def test_layers_that_recon_branches_with_some_seeds_only_are_marked_so() -> None:
    maps = [measured(one=[-0.5], two=[0.5], three=[0.5])] * 2
    figure = conflict_by_layer(maps, branched=[["one", "two"], ["one"]], severity=-0.1)
    assert {label: list(rows) for label, rows in dots(figure).items()} == {
        "shared (1)": ["three"],
        "branched with some seeds (1)": ["two"],
        "branched by Recon (1)": ["one"],
    }


def test_one_seed_has_no_interval_and_without_recon_all_is_shared() -> None:
    figure = conflict_by_layer([measured(one=[-0.5], two=[0.5])], branched=[], severity=-0.1)
    assert dots(figure) == {"shared (2)": {"one": 1.0, "two": 0.0}}
    assert intervals(figure) == []


def test_the_histograms_are_over_the_layers_that_stay_shared() -> None:
    before = measured(branched=[-0.5] * 10, kept=[-0.5, 0.5])
    after = measured(kept=[-0.5, 0.5, 0.5, 0.5])
    figure = cosine_histograms([before], [after])
    labels = [text.get_text() for text in axes_of(figure).get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == ["before Recon: 50.0% conflicting", "after Recon: 25.0% conflicting"]
    for patch in axes_of(figure).patches:
        assert isinstance(patch, StepPatch)
        data = patch.get_data()
        assert (data.values * (data.edges[1:] - data.edges[:-1])).sum() == pytest.approx(1)


def test_the_layers_that_stay_shared_are_told_where_seeds_branch_different_ones() -> None:
    one, other, more = measured(a=[0.5], b=[0.5]), measured(a=[0.5], c=[0.5]), measured(a=[0.5], b=[0.5], c=[0.5])
    assert kept_layers([one, one]) == "the 2 layers that stay shared"
    assert kept_layers([measured(a=[0.5])]) == "the layer that stays shared"
    assert kept_layers([one, other]) == "the layers that stay shared, 2 in each seed, not the same in all"
    assert kept_layers([one, more]) == "the layers that stay shared, 2 to 3 in each seed, not the same in all"


def test_delta_m_is_drawn_for_the_rows_that_have_it() -> None:
    def row(variant: str, delta_m: dict[str, float | None] | None) -> dict[str, object]:
        return {"method": "joint", "variant": variant, "delta_m": delta_m}

    summary = [
        row("single", None),
        row("plain", {"mean": -1.0, "std": None}),
        row("recon", {"mean": 2.0, "std": 0.5}),
    ]
    figure = delta_m_dots(summary)
    assert dots(figure) == {"plain": {"joint": -1.0}, "+ Recon": {"joint + Recon": 2.0}}
    assert intervals(figure) == [[1.5, 2.5]]


def test_a_figure_is_saved_as_png_and_as_pdf(tmp_path: Path) -> None:
    summary = [{"method": "m", "variant": "plain", "delta_m": {"mean": 1, "std": None}}]
    png, pdf = save(delta_m_dots(summary), tmp_path / "a")
    assert (png.name, pdf.name) == ("a.png", "a.pdf")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert {file.name for file in tmp_path.iterdir()} == {"a.png", "a.pdf"}
