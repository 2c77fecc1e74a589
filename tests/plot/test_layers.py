import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from some_maps import axes, measured

from recon import ConflictMap, plot


def dots(drawn: plt.Axes) -> dict[str, dict[str, float]]:
    """Of each series its dots: row -> value."""
    rows = [label.get_text() for label in drawn.get_yticklabels()]
    found = {}
    for container in drawn.containers:
        line = container.lines[0]  # type: ignore[attr-defined]
        found[str(container.get_label())] = {
            rows[int(y)]: x for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        }
    return found


def test_a_function_draws_on_the_axes_that_it_is_given_and_returns_them() -> None:
    given = axes()
    assert plot.conflict_by_layer(measured(one=[-0.5, 0.5]), -0.1, ax=given) is given
    assert dots(given) == {"shared (1)": {"one": 0.5}}
    assert given.get_legend() is None


def test_without_axes_it_draws_on_new_ones_of_pyplot_as_tall_as_the_layers_need() -> None:
    few, many = (plot.conflict_by_layer(measured(**{f"l{n}": [0.5] for n in range(k)}), -0.1) for k in (2, 40))
    assert few.figure.get_figheight() < many.figure.get_figheight()
    assert many.figure.number in plt.get_fignums()  # type: ignore[union-attr]
    plt.close("all")


def test_an_imported_map_is_drawn_by_its_scores() -> None:
    published = ConflictMap.load("nyuv2-mtan")
    drawn = plot.conflict_by_layer(published, -0.02, ax=axes())
    (found,) = dots(drawn).values()
    assert found == published.scores(-0.02)
    assert drawn.get_xlabel() == "S-conflict score at S = -0.02"


def test_a_name_with_dollars_is_no_formula() -> None:
    names = [r"$\frac{$", "$a$", "x$"]
    drawn = plot.conflict_by_layer(measured(**{name: [0.5] for name in names}), -0.1, ax=axes())
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        drawn.figure.savefig(stream, format="svg")  # type: ignore[union-attr]
    assert [f">{name}</text>" in stream.getvalue() for name in names] == [True, True, True]


def test_maps_are_compared_as_shares_of_their_own_highest_scores() -> None:
    maps = {"first": measured(one=[-0.5] * 4, two=[-0.5] * 2), "second": measured(two=[-0.5], one=[0.5], three=[0.5])}
    drawn = plot.compare_by_layer(maps, -0.1, ax=axes())
    assert dots(drawn) == {"first": {"one": 1.0, "two": 0.5}, "second": {"one": 0.0, "two": 1.0}}


def test_what_cannot_be_compared_is_refused() -> None:
    one, other = measured(one=[0.5]), measured(two=[0.5])
    with pytest.raises(ValueError, match="the maps a, b have no layer in common"):
        plot.compare_by_layer({"a": one, "b": other}, -0.1)
    with pytest.raises(ValueError, match="no severity given"):
        plot.compare_by_layer({"a": one})
    with pytest.raises(ValueError, match="8 maps do not fit"):
        plot.compare_by_layer({str(n): one for n in range(8)}, -0.1)


def test_several_seeds_have_the_range_of_their_rates() -> None:
    drawn = plot.conflict_by_layer([measured(one=[-0.5, 0.5]), measured(one=[-0.5, -0.5])], -0.1, ax=axes())
    (container,) = drawn.containers
    ((ends,),) = [line.get_segments() for line in container.lines[2]]  # type: ignore[attr-defined]
    assert np.asarray(ends)[:, 0].tolist() == [0.5, 1.0]
