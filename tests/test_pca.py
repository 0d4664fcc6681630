import numpy as np
import pytest

from stacked_autoencoder import pca
from stacked_autoencoder.pca import LinearFit, fit_linear_code, leading_eigenvectors, to_patches
from tests.conftest import blobs


def test_patches_are_cut_row_by_row():
    images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = to_patches(images, 2)
    assert patches.shape == (12, 12)
    np.testing.assert_array_equal(patches[1], images[0, :2, 2:4].ravel())
    np.testing.assert_array_equal(patches[6], images[1, :2, :2].ravel())


def test_few_eigenvectors_of_a_large_matrix_equal_those_of_the_full_decomposition():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((1200, 1200)) * np.geomspace(1, 1e-4, 1200)
    matrix = factors @ factors.T
    values, vectors = leading_eigenvectors(matrix, 20)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1][:20], rtol=1e-4)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(20), atol=1e-10)


def test_the_leading_part_of_a_code_is_the_code_of_fewer_values():
    images = blobs(60)
    few, some = (fit_linear_code(lambda: iter([images]), 4, n) for n in (5, 12))
    part = some.leading(5)
    np.testing.assert_allclose(np.abs(np.sum(part.components * few.components, axis=0)), 1, rtol=1e-9)
    np.testing.assert_allclose(part.variances, few.variances)
    assert part.residual == pytest.approx(few.residual)


def test_whitened_values_are_about_equally_strong_and_noise_stays_weak():
    images = blobs(60)
    code = fit_linear_code(lambda: iter([images]), 4, 48)
    patches = to_patches(images, 4) - code.mean
    stds = (patches @ code.whitening()).std(axis=0)
    assert code.variances[0] > 5 * code.variances[8]
    np.testing.assert_allclose(stds[:9], 1, atol=0.05)
    assert np.all(np.diff(stds) < 1e-6)
    assert stds[-1] < 0.2


@pytest.mark.parametrize("channel_mean", [False, True])
def test_few_large_images_have_the_pca_of_their_covariance(monkeypatch, channel_mean):
    images = blobs(24, 16) + np.linspace(0, 1, 16)[:, None, None]
    expected = LinearFit(lambda: iter([images]), None).code(6, channel_mean=channel_mean)
    monkeypatch.setattr(pca, "EXACT_UP_TO", 100)
    fit = LinearFit(lambda: iter([images[:10], images[10:]]), None)
    code = fit.code(6, channel_mean=channel_mean)
    assert fit._kept is not None
    np.testing.assert_allclose(code.mean, expected.mean, atol=1e-7)
    np.testing.assert_allclose(code.variances, expected.variances, rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(code.components * expected.components, axis=0)), 1, rtol=1e-5)
    assert code.residual == pytest.approx(expected.residual, rel=1e-5)
    monkeypatch.setattr(pca, "DUAL_VALUES", 20 * 768)
    other = LinearFit(lambda: iter([images[:10], images[10:]]), None)
    assert other.code(6, channel_mean=channel_mean).residual == pytest.approx(expected.residual, rel=1e-3)
    assert other._kept is None


def test_few_images_have_no_more_components_than_their_differences(monkeypatch):
    monkeypatch.setattr(pca, "EXACT_UP_TO", 100)
    images = blobs(4, 16)
    code = LinearFit(lambda: iter([images]), None).code(8)
    strengths = np.square(code.components).sum(axis=0)
    np.testing.assert_allclose(strengths, [1, 1, 1, 0, 0, 0, 0, 0], atol=1e-5)
    assert code.residual == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(code.restored(to_patches(images, None)), to_patches(images, None), atol=1e-5)
