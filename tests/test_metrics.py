import re
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import metrics
from stacked_autoencoder.utils.images import as_bytes
from tests.conftest import blobs


def test_psnr_in_closed_form():
    images = np.zeros((2, 4, 4, 1), np.float32)
    restored = images + np.array([0.2, 0.02], np.float32)[:, None, None, None]
    np.testing.assert_allclose(metrics.psnr(images, restored), [20, 40], rtol=1e-5)
    np.testing.assert_allclose(metrics.psnr(images, restored, (0, 1)), [13.9794, 33.9794], rtol=1e-4)
    assert np.isinf(metrics.psnr(images, images)).all()


def test_ssim_knows_equal_pictures_and_small_ones():
    images = blobs(3, side=16)
    np.testing.assert_allclose(metrics.ssim(images, images), 1, rtol=1e-5)
    assert (metrics.ssim(images, images[::-1]) < 0.9).any()
    assert np.isnan(metrics.ssim(images[:, :8], images[:, :8])).all()


def test_ssim_does_not_depend_on_the_range():
    images, restored = blobs(3, side=16), 0.9 * blobs(3, side=16)
    unit = metrics.ssim((images + 1) / 2, (restored + 1) / 2, (0, 1))
    np.testing.assert_allclose(metrics.ssim(images, restored), unit, rtol=1e-4)


def test_ssim_as_a_loss():
    images, noisy = blobs(4), np.clip(blobs(4) + 0.1 * np.random.default_rng(0).normal(size=(4, 16, 16, 3)), -1, 1)
    noisy = noisy.astype(np.float32)
    np.testing.assert_allclose(metrics.ssim_loss(images, noisy), 1 - metrics.ssim(images, noisy), atol=1e-5)
    np.testing.assert_allclose(metrics.ssim_loss(images, images), 0, atol=1e-5)
    both = metrics.SSIMWithL1(0.75)(images, noisy)
    expected = 0.75 * np.mean(metrics.ssim_loss(images, noisy)) + 0.25 * np.abs(images - noisy).mean()
    assert float(both) == pytest.approx(expected, rel=1e-5)
    halves = metrics.SSIMWithL1(1.0, low=0.0)((images + 1) / 2, (noisy + 1) / 2)
    assert float(halves) == pytest.approx(np.mean(metrics.ssim_loss(images, noisy)), rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.ssim_loss(np.zeros((1, 8, 16, 3)), np.zeros((1, 8, 16, 3))), "at least 11 pixels"),
        (lambda: metrics.ssim_loss(np.zeros((1, 16)), np.zeros((1, 16))), "SSIM needs images"),
        (lambda: metrics.SSIMWithL1(1.5), "`weight` must be a number from 0 to 1"),
        (lambda: metrics.SSIMWithL1(low=1.0), "`low` must be less than `high`"),
    ],
)
def test_what_has_no_ssim_raises_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


CLEAN = blobs(3, side=16)
NOISY = np.clip(CLEAN + 0.1 * np.random.default_rng(0).normal(size=CLEAN.shape), -1, 1)
MEASURES = {
    "psnr": metrics.psnr,
    "ssim": metrics.ssim,
    "ssim_loss": metrics.ssim_loss,
    "SSIMWithL1": lambda images, restored: metrics.SSIMWithL1(0.5)(images, restored),
}


def in_unit_interval(images):
    return (images + 1) / 2


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.uint8, np.uint8),
        (np.uint8, np.float32),
        (np.float64, np.uint8),
        (np.float64, np.float32),
        (np.float32, np.float16),
        (np.float32, np.float64),
    ],
)
def test_floats_of_any_precision_and_bytes_can_be_compared(name, first, second):
    def of(kind, images):
        return as_bytes(images, (-1, 1)) if kind is np.uint8 else images.astype(kind)

    measure = MEASURES[name]
    expected = np.asarray(measure(CLEAN, NOISY.astype(np.float32)))
    given = np.asarray(measure(of(first, CLEAN), of(second, NOISY)))
    np.testing.assert_allclose(given, expected, rtol=0.02)  # bytes are rounded
    tensors = np.asarray(measure(tf.constant(of(first, CLEAN)), tf.constant(of(second, NOISY))))
    np.testing.assert_allclose(tensors, given, rtol=1e-5)


def test_bytes_are_scaled_to_the_range():
    images, noisy = as_bytes(CLEAN, (-1, 1)), as_bytes(NOISY, (-1, 1))
    for measure in (metrics.psnr, metrics.ssim):
        expected = measure(images.astype(np.float64), noisy.astype(np.float64), (0, 255))
        for value_range in ((-1, 1), (0, 1), (0, 255), (-1000.0, 3000.0)):
            np.testing.assert_allclose(measure(images, noisy, value_range), expected, rtol=1e-5)
            np.testing.assert_allclose(
                measure(images, value_range[0] + np.ptp(value_range) / 255 * noisy, value_range), expected, rtol=1e-5
            )
    whole = metrics.SSIMWithL1(0.5, low=0.0)(images, in_unit_interval(NOISY))
    assert float(whole) == pytest.approx(float(metrics.SSIMWithL1(0.5, low=0.0)(images / 255, noisy / 255)), rel=0.02)


@pytest.mark.parametrize(
    ("measure", "value_range"),
    [
        *[(measure, (-1, 1)) for measure in MEASURES.values()],
        *[(partial(measure, value_range=(0, 1)), (0, 1)) for measure in (metrics.psnr, metrics.ssim)],
    ],
)
@pytest.mark.parametrize(("kind", "peak"), [(np.int64, 255), (np.uint16, 65535), (np.int32, 4095), (np.bool_, 1)])
def test_other_integers_are_refused_with_advice_that_works(measure, value_range, kind, peak):
    images = np.round(in_unit_interval(CLEAN) * peak).astype(kind)
    with pytest.raises(ValueError, match=f"must be floats from .* or uint8.* of dtype {np.dtype(kind).name}") as error:
        measure(images, CLEAN)
    (advice,) = re.findall("`([^`]*astype.*?)`", str(error.value))
    name = advice.partition(".")[0]
    assert name in ("images", "y_true")
    scaled = eval(advice.replace("65535", str(peak)), {name: images})
    low, high = value_range
    expected = (low + (high - low) * (images.astype(np.float64) / peak)).astype(np.float32)
    np.testing.assert_allclose(scaled, expected, atol=1e-6)
    assert np.isfinite(measure(scaled, expected + np.float32(0.01))).all()


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim])
def test_shapes_that_differ_raise_an_error(measure):
    images = blobs(3)
    for other in (images[:1], images[..., :1], images[0], images[:, :15]):
        with pytest.raises(ValueError, match="`images` and `reconstructions` must have the same shape") as error:
            measure(images, other)
        assert str(images.shape) in str(error.value)
        assert str(other.shape) in str(error.value)
    sizes = [*blobs(1), *blobs(1, side=20)]
    with pytest.raises(ValueError, match=r"`images` must be images of one size\. Compare .* one by one"):
        measure(sizes, sizes)
    for image in sizes:
        assert measure(image[None], 0.9 * image[None]).shape == (1,)
    np.testing.assert_array_equal(measure(list(images), list(0.9 * images)), measure(images, 0.9 * images))
