import numpy as np
import pytest

from stacked_autoencoder import metrics
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
        (lambda: metrics.ssim_loss(np.zeros((1, 16)), np.zeros((1, 16))), "SSIM is of images"),
        (lambda: metrics.SSIMWithL1(1.5), "`weight` is a share"),
        (lambda: metrics.SSIMWithL1(low=1.0), "`low` must be less than `high`"),
    ],
)
def test_what_has_no_ssim_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
