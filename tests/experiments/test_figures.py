from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from torch import Tensor

from recon.conflict import MeasuredMap
from recon.experiments.figures import conflict_by_layer, cosine_histograms, delta_m_bars, save


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


def bars(figure: Figure) -> dict[str, float]:
    axes = axes_of(figure)
    widths = [patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)]
    return dict(zip([label.get_text() for label in axes.get_yticklabels()], widths, strict=True))


def test_the_conflict_of_each_layer_is_the_mean_of_its_rates_over_seeds() -> None:
    maps = [measured(one=[-0.5, 0.5], two=[0.5, 0.5]), measured(one=[-0.5, -0.5], two=[-0.05, 0.5])]
    figure = conflict_by_layer(maps, branched=["one"], severity=-0.1)
    assert bars(figure) == {"one": 0.75, "two": 0.0}
    branched, shared = [patch.get_facecolor() for patch in axes_of(figure).patches]
    assert branched != shared


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


def test_delta_m_is_drawn_for_the_rows_that_have_it() -> None:
    def row(variant: str, delta_m: dict[str, float | None] | None) -> dict[str, object]:
        return {"method": "joint", "variant": variant, "delta_m": delta_m}

    summary = [
        row("single", None),
        row("plain", {"mean": -1.0, "std": None}),
        row("recon", {"mean": 2.0, "std": 0.5}),
    ]
    assert bars(delta_m_bars(summary)) == {"joint": -1.0, "joint + Recon": 2.0}


def test_a_figure_is_saved_as_png(tmp_path: Path) -> None:
    path = save(
        delta_m_bars([{"method": "m", "variant": "plain", "delta_m": {"mean": 1, "std": None}}]), tmp_path / "a.png"
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
