from itertools import combinations
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Annotation
from some_maps import axes

from recon import plot


def row(variant: str, delta_m: float | None, growth: float | None) -> dict[str, Any]:
    spread = None if delta_m is None else {"mean": delta_m, "std": 0.2}
    return {"method": "joint", "variant": variant, "seeds": [0, 1, 2], "delta_m": spread, "flops_growth": growth}


def test_rows_without_delta_m_or_price_are_left_out() -> None:
    rows = [row("single", None, 0.0), row("plain", -1.0, 0.0), row("wide_flops", 0.5, None), row("recon", 1.0, 0.9)]
    drawn = plot.delta_m_against(rows, "flops", ax=axes())
    assert [container.get_label() for container in drawn.containers] == ["1 joint", "2 joint + Recon"]
    assert [text.get_text() for text in drawn.texts] == ["1", "2"]


def test_the_numbers_of_rows_at_one_place_stand_apart() -> None:
    figure = Figure(figsize=(7, 4), layout="constrained", dpi=150)
    near = [row("recon", -0.4 - 0.01 * place, 0.99 + 0.002 * place) for place in range(9)]
    drawn = plot.delta_m_against([row("plain", -3.0, 0.0), *near], "flops", ax=figure.subplots())
    figure.draw_without_rendering()
    boxes = [super(Annotation, text).get_window_extent() for text in drawn.texts if isinstance(text, Annotation)]
    assert len(boxes) == 10
    overlaps = [(one, other) for one, other in combinations(boxes, 2) if min(_shared(one, other)) > 1]
    assert overlaps == []
    assert all(drawn.bbox.x0 < box.x0 and box.x1 < drawn.bbox.x1 for box in boxes)


def _shared(one: Any, other: Any) -> tuple[float, float]:
    """Width and height that two boxes have in common, in pixels."""
    return min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
