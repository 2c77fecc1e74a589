import numpy as np
import pytest
from some_maps import axes

from recon import plot


def test_each_layer_and_stretch_of_steps_has_a_square() -> None:
    drawn = plot.conflict_over_steps([[0.1, 0.5], [0.2, 0.4], [np.nan, 0.3]], [10, 20, 25], ["a", "b"], ax=axes())
    (picture,) = drawn.collections
    np.testing.assert_allclose(np.ma.filled(picture.get_array(), 9), [[0.1, 0.2, 9], [0.5, 0.4, 0.3]])  # type: ignore[arg-type]
    assert drawn.get_xlim() == (0, 25)


def test_of_many_layers_not_all_are_named() -> None:
    drawn = plot.conflict_over_steps(np.zeros((1, 200)), [1], [str(n) for n in range(200)], ax=axes())
    assert len(drawn.get_yticks()) == 67


def test_rates_of_other_layers_and_steps_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2\), not \(1, 3\)"):
        plot.conflict_over_steps([[0.1, 0.5]], [10], ["a", "b", "c"])
    with pytest.raises(ValueError, match="do not grow"):
        plot.conflict_over_steps([[0.1], [0.5]], [10, 10], ["a"])
