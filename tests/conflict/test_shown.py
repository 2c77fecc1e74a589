import sys

import pytest
from matplotlib.figure import Figure

import recon
from recon.conflict import ConflictMap, MeasuredMap
from recon.plugins import PackageMissingError


def test_a_map_draws_its_layers_on_given_axes_at_the_default_severity(cmap: MeasuredMap) -> None:
    given = Figure().subplots()
    assert cmap.plot(ax=given) is given
    (series,) = given.containers
    assert list(series.lines[0].get_xdata()) == [pytest.approx(3 / 16), 0.0, 0.0]  # type: ignore[attr-defined]
    assert "cosine < -0.1" in given.get_xlabel()


def test_branched_layers_have_a_mark_of_their_own(cmap: MeasuredMap) -> None:
    drawn = cmap.plot(severity=0.0, branched=["bn1"], ax=Figure().subplots())
    assert [series.get_label() for series in drawn.containers] == ["shared (2)", "branched by Recon (1)"]


def test_a_frame_has_a_row_for_each_layer(cmap: MeasuredMap) -> None:
    pytest.importorskip("pandas")
    frame = cmap.to_frame(severity=-0.1)
    assert list(frame.index) == ["conv1", "bn1", "fc"]
    assert frame["score"].to_dict() == cmap.scores(-0.1)
    assert frame["rate"].to_dict() == cmap.rates(-0.1)
    assert frame["observations"].to_dict() == cmap.observations
    assert {f"cosine {a}/{b}" for a, b in cmap.pairs} | {f"norm {task}" for task in cmap.tasks} <= set(frame)
    imported = ConflictMap.load("nyuv2-mtan").to_frame()
    assert list(imported) == ["score"]


def test_without_pandas_the_error_names_the_cure(cmap: MeasuredMap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PackageMissingError, match=r"pip install -e '.\[pandas\]'"):
        cmap.to_frame()


def test_notebooks_show_the_worst_layers_with_their_names_escaped() -> None:
    shown = ConflictMap.load("nyuv2-mtan")._repr_html_()
    assert shown.count("<tr>") == 11
    assert "and 62 layers of lower score" in shown
    hostile = recon.conflict.ImportedMap({"<script>alert(1)</script>": 3}, -0.1, {"source": "<b>"})._repr_html_()
    assert "<script>" not in hostile
    assert "<b>" not in hostile
    assert "&lt;script&gt;" in hostile
