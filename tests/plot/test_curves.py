from some_maps import axes

from recon import plot


def test_a_run_has_the_same_look_beside_one_without_values() -> None:
    whole = plot.training_curves({"a": ([0, 1], [1, 2]), "b": ([0, 1], [2, 3])}, "loss", ax=axes())
    without = plot.training_curves({"a": ([], []), "b": ([0, 1], [2, 3])}, "conflict", ax=axes())
    assert whole.lines[0].get_color() != whole.lines[1].get_color() == without.lines[1].get_color()
    assert [text.get_text() for text in without.get_legend().get_texts()] == ["a", "b"]  # type: ignore[union-attr]
