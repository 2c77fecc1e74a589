import numpy as np
import pytest

from recon.data.preparation.resizing import averaged, sampled

generator = np.random.default_rng(0)


def test_an_average_over_whole_pixels_is_the_mean_of_their_block() -> None:
    image = generator.integers(0, 256, (16, 32, 3), dtype=np.uint8)
    expected = np.rint(image.reshape(4, 4, 8, 4, 3).mean(axis=(1, 3)))
    np.testing.assert_array_equal(averaged(image, (4, 8)), expected.astype(np.uint8))


@pytest.mark.parametrize("size", [(5, 6), (7, 4), (10, 9)])
def test_an_average_counts_parts_of_pixels(size: tuple[int, int]) -> None:
    image = generator.integers(0, 256, (10, 9, 3), dtype=np.uint8)
    fine = image.repeat(size[0], axis=0).repeat(size[1], axis=1)  # now each new pixel is a block of 10 x 9
    expected = fine.reshape(size[0], 10, size[1], 9, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(averaged(image, size), np.rint(expected))


@pytest.mark.parametrize(("old", "new"), [(1024, 128), (427, 288), (561, 384), (20, 9), (7, 7)])
def test_a_sample_is_the_source_pixel_at_the_centre(old: int, new: int) -> None:
    expected = [int((index + 0.5) * old / new) for index in range(new)]
    values = np.arange(old)
    np.testing.assert_array_equal(sampled(np.stack([values] * 2, axis=1), (new, 2))[:, 0], expected)
    np.testing.assert_array_equal(sampled(np.stack([values] * 2), (2, new))[1], expected)


def test_samples_of_vectors_keep_their_components_together() -> None:
    vectors = generator.normal(size=(6, 6, 3))
    np.testing.assert_array_equal(sampled(vectors, (2, 3)), vectors[[1, 4]][:, [1, 3, 5]])
