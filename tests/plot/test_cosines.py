import pytest
from some_maps import axes, measured

from recon import plot


def test_cosines_are_drawn_of_one_map_alone_and_of_chosen_layers() -> None:
    found = measured(one=[-0.5, 0.5], two=[-0.5, -0.5])
    drawn = [plot.cosine_histograms(found, ax=axes()), plot.cosine_histograms(found, layers=["two"], ax=axes())]
    shown = [one.get_legend().get_texts()[0].get_text() for one in drawn]  # type: ignore[union-attr]
    assert shown == ["75.0% conflicting", "100.0% conflicting"]


def test_maps_before_and_after_are_of_the_same_seeds_and_have_cosines() -> None:
    found = measured(one=[-0.5, 0.5])
    with pytest.raises(ValueError, match="1 map before and 2 after"):
        plot.cosine_histograms(found, [found, found], ax=axes())
    found.histogram.zero_()
    with pytest.raises(ValueError, match="no cosine was observed"):
        plot.cosine_histograms(found, ax=axes())
