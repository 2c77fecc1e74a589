import numpy as np
import pytest
import torch

from recon.data import GlyphAttributes, Glyphs
from recon.data.composites.glyph_attributes import QUESTIONS
from recon.data.composites.glyphs import DIGITS, LETTERS, draw


def small(attributes: int = 40, size: int = 60) -> GlyphAttributes:
    return GlyphAttributes(attributes, train_size=size, test_size=20)


def test_images_are_those_of_glyphs_and_characters_their_labels() -> None:
    glyphs = Glyphs(train_size=60, test_size=20).composites("train")
    attributes = small().composites("train")
    torch.testing.assert_close(attributes.images, glyphs.images)
    for task, characters in (("digit", DIGITS), ("letter", LETTERS)):
        for place, character in enumerate(characters):
            expected = (glyphs.targets[task] == place).long()
            torch.testing.assert_close(attributes.targets[f"{task}_is_{character.lower()}"], expected)
    torch.testing.assert_close(attributes.targets["digit_even"], (glyphs.targets["digit"] % 2 == 0).long())


def test_answers_follow_from_how_a_glyph_was_set() -> None:
    drawn = draw(60, seed=0, split="train")
    targets = {name: labels.bool().numpy() for name, labels in small().composites("train").targets.items()}
    large = drawn.variation[:, :, 0] >= 0.5
    np.testing.assert_array_equal(targets["digit_large"], large[:, 0])
    np.testing.assert_array_equal(targets["letter_large"], large[:, 1])
    np.testing.assert_array_equal(targets["sizes_alike"], large[:, 0] == large[:, 1])
    np.testing.assert_array_equal(targets["letter_down"], drawn.variation[:, 1, 3] >= 0.5)
    np.testing.assert_array_equal(targets["digit_further_right"], drawn.variation[:, 0, 2] > drawn.variation[:, 1, 2])


def test_no_two_tasks_are_the_same_and_each_has_both_answers() -> None:
    targets = small(size=1000).composites("train").targets
    answers = torch.stack(list(targets.values()))
    assert len({tuple(row) for row in answers.tolist()} | {tuple(row) for row in (1 - answers).tolist()}) == 80
    share = answers.double().mean(1)
    assert ((share > 0.05) & (share < 0.75)).all()


@pytest.mark.parametrize("attributes", [8, 20, 40])
def test_fewer_tasks_are_the_first_of_more(attributes: int) -> None:
    data = small(attributes)
    assert [task.name for task in data.tasks] == list(QUESTIONS)[:attributes]
    assert list(data.composites("test").targets) == list(QUESTIONS)[:attributes]
    assert data.dataset_name == f"GlyphAttributes(attributes={attributes}, train_size=60, test_size=20, seed=0)"


@pytest.mark.parametrize("attributes", [7, 41])
def test_another_number_of_tasks_is_refused(attributes: int) -> None:
    with pytest.raises(ValueError, match=f"attributes is {attributes}; give a number from 8 to 40"):
        GlyphAttributes(attributes)
