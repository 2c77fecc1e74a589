import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from recon.data.preparation.thinning import edges_of, thinned

AROUND = np.ones((3, 3))


def regions(seed: int) -> np.ndarray:
    """A map of a few labels with smooth borders."""
    generator = np.random.default_rng(seed)
    size = generator.integers(20, 80, 2)
    return np.digitize(gaussian_filter(generator.normal(size=size), 4), [-0.03, 0.0, 0.02])


def drawn(rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows.split()])


@pytest.mark.parametrize(
    ("thick", "thin"),
    [
        ("...... .####. .####. ......", "...... ...... .###.. ......"),
        ("##### ##### #####", "..... .###. ....."),
        (".#. .#. .#.", ".#. .#. .#."),
        ("### #.# ###", ".#. #.# .#."),
        ("#.. .#. ..#", "#.. .#. ..#"),
        ("###### ###### ..##.. ..##..", "...... #####. ..#... ..#..."),
        ("####. ####. ####. ...##", "..... .#... ..#.. ...##"),
    ],
)
def test_a_small_mask_is_thinned_as_scikit_image_does(thick: str, thin: str) -> None:
    np.testing.assert_array_equal(thinned(drawn(thick)), drawn(thin))


@pytest.mark.parametrize("seed", range(5))
def test_thinning_keeps_what_is_connected_and_is_done_once(seed: int) -> None:
    thick = np.random.default_rng(seed).random((30, 40)) < 0.6 if seed == 0 else np.diff(regions(seed)) != 0
    thin = thinned(thick)
    assert not (thin & ~thick).any()
    assert label(thin, AROUND)[1] == label(thick, AROUND)[1]
    # So do the regions between the lines; a hole counts as one through its sides.
    assert label(~np.pad(thin, 1))[1] == label(~np.pad(thick, 1))[1]
    np.testing.assert_array_equal(thinned(thin), thin)


@pytest.mark.parametrize("seed", range(5))
def test_edges_lie_where_labels_change_and_are_thin(seed: int) -> None:
    labels = regions(seed)
    edges = edges_of(labels)
    padded = np.pad(labels, 1, mode="reflect")
    height, width = labels.shape
    changes = np.zeros_like(edges)
    total = -4 * labels.astype(int)
    for top, left in ((0, 1), (2, 1), (1, 0), (1, 2)):
        total += padded[top : top + height, left : left + width]
    changes = total != 0
    assert not (edges & ~changes).any()
    assert 0.3 < edges.sum() / changes.sum() < 0.7  # both sides of a border change
    assert label(edges, AROUND)[1] == label(changes, AROUND)[1]


def test_one_label_has_no_edge() -> None:
    assert not edges_of(np.full((5, 6), 3, np.uint16)).any()
