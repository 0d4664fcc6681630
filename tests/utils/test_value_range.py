"""The range of images and its scale inside the levels."""

import numpy as np
import pytest

from stacked_autoencoder.utils.value_range import UNKNOWN, UNLIMITED, ValueRange

RANGES = [(0, 65535), (0, 4095), (-1000, 3000), (0, 255), (0, 1), (-1, 1), (0.2, 0.7), (1e6, 1e6 + 10)]


@pytest.mark.parametrize("ends", RANGES)
def test_a_given_range_is_scaled_to_the_range_of_the_levels_and_back(ends):
    values = ValueRange.given(ends)
    images = np.linspace(*ends, 1000, dtype=np.float64).reshape(1, 10, 100, 1)
    scaled = values.to_level(images).numpy()
    start, stop = values.level_ends
    np.testing.assert_allclose(scaled.ravel(), np.linspace(start, stop, 1000), atol=1e-6)
    np.testing.assert_allclose(values.from_level(scaled), images, rtol=3e-7, atol=1e-6 * (ends[1] - ends[0]))
    assert values.level_ends == ((0, 1) if ends == (0, 1) else (-1, 1))


@pytest.mark.parametrize("dtype", ["uint16", "int32", "int64", "float32", "float64"])
def test_sixteen_bits_survive_the_way_there_and_back(dtype):
    counts = np.arange(65536).astype(dtype)
    values = ValueRange.given((0, 65535))
    np.testing.assert_array_equal(np.rint(values.from_level(values.to_level(counts).numpy())), np.arange(65536))


def test_signed_integers_keep_their_sign():
    values = ValueRange.given((-1000, 3000))
    counts = np.array([-1000, -1, 0, 1000, 3000], np.int16)
    np.testing.assert_allclose(values.to_level(counts).numpy(), [-1, -0.5005, -0.5, 0, 1], atol=1e-6)


@pytest.mark.parametrize("values", [UNKNOWN, UNLIMITED, ValueRange.given((-1, 1))])
def test_pixels_become_the_signed_range_by_the_same_numbers_as_ever(values):
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(values.to_level(pixels).numpy(), pixels.astype(np.float32) / 127.5 - 1)


@pytest.mark.parametrize("values", [UNKNOWN.found((0.0, 1.0)), ValueRange.given((0, 1))])
def test_pixels_become_the_unit_range_where_the_levels_see_it(values):
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(values.to_level(pixels).numpy(), pixels / 255, atol=1e-7)


def test_pixels_stand_for_the_full_scale_of_other_bit_depths():
    values = ValueRange.given((0, 65535))
    np.testing.assert_allclose(values.to_user(np.array([0, 1, 255], np.uint8)).numpy(), [0, 257, 65535], rtol=1e-6)
    assert values.takes_pixels
    assert not ValueRange.given((-1000, 3000)).takes_pixels


def test_what_the_user_gave_stays_and_what_was_found_stays_while_images_are_held_to_it():
    assert ValueRange.given((0, 9)).found((-1.0, 1.0)).ends == (0, 9)
    assert UNKNOWN.found((-1.0, 1.0)).found((0.0, 1.0)).ends == (-1, 1)
    assert UNLIMITED.found((-3.0, 2.0)).found((-5.0, 5.0)).ends == (-5, 5)


@pytest.mark.parametrize(
    "wrong", [(1, 0), (0, 0), (0, np.nan), (0, np.inf), (0,), (0, 1, 2), 5, "01", (False, True), None]
)
def test_a_range_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`value_range` must be two finite numbers.*Received: value_range="):
        ValueRange.given(wrong)


@pytest.mark.parametrize("given", [[0, 9], np.array([0, 9]), (np.uint16(0), np.float32(9))])
def test_a_range_may_be_any_pair(given):
    assert ValueRange.given(given).ends == (0.0, 9.0)
