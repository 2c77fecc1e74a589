import pytest

from recon.training.searching.stopping import Selections, Stable

LAYERS = [f"layer{number}" for number in range(6)]


def scores(*first: int) -> dict[str, int]:
    """Scores by which these layers come first."""
    return {layer: 9 - first.index(number) if number in first else 1 for number, layer in enumerate(LAYERS)}


def test_a_selection_is_stable_after_a_whole_window_without_a_change() -> None:
    selections = Selections(Stable(window=20, top=2, changes=0))
    assert not selections.add(2, scores(0, 1))
    assert not selections.add(10, scores(0, 2))
    assert not any(selections.add(step, scores(2, 0)) for step in range(12, 30, 2))  # order is no change
    assert selections.add(30, scores(0, 2))


def test_a_few_layers_may_change() -> None:
    for changes, stable in ((0, False), (1, True)):
        selections = Selections(Stable(window=10, top=3, changes=changes))
        selections.add(1, scores(0, 1, 2))
        selections.add(6, scores(0, 1, 3))
        assert selections.add(11, scores(0, 1, 2)) is stable


def test_layers_without_conflict_are_no_selection() -> None:
    selections = Selections(Stable(window=10, top=2, changes=0))
    nothing = dict.fromkeys(LAYERS, 0)
    assert not any(selections.add(step, nothing | {"layer0": 3}) for step in range(100))


def test_selections_resume() -> None:
    begun, resumed = (Selections(Stable(window=10, top=2, changes=0)) for _ in range(2))
    for step in (1, 5, 9):
        begun.add(step, scores(0, 1))
    resumed.load_state_dict(begun.state_dict())
    assert resumed.add(11, scores(0, 1))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"window": 9}, "window is 9"),
        ({"top": 0}, "top is 0"),
        ({"changes": 25}, "changes is 25"),
        ({"changes": -1}, "changes is -1"),
        ({"severity": 0.1}, r"severity 0\.1 is not on the 0\.01 grid"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, float], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Stable(**options)  # type: ignore[arg-type]


def test_a_search_that_can_never_be_stable_is_refused() -> None:
    rule = Stable(window=20, top=3)
    rule.check_steps(steps=21, every=10)
    with pytest.raises(ValueError, match="has 20 steps, and the whole training 20; give a shorter window"):
        rule.check_steps(steps=20, every=1)
    with pytest.raises(ValueError, match="every=11 observes fewer than two"):
        rule.check_steps(steps=100, every=11)
    with pytest.raises(ValueError, match="top=3 of 2 layers; give less than 2"):
        rule.check_layers(LAYERS[:2])
    with pytest.raises(ValueError, match="top=3 selects all layers, whatever the steps"):
        rule.check_layers(LAYERS[:3])
