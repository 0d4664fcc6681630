import numpy as np
import pytest

from stacked_autoencoder import principal
from stacked_autoencoder.principal import fit_linear_code, leading_eigenvectors, to_patches
from tests.conftest import blobs


def pca_loss(patches, n, held_out):
    """The oracle: singular values of everything at once, in float64."""
    mean = patches.mean(axis=0)
    components = np.linalg.svd(patches - mean, full_matrices=False)[2][:n]
    centred = held_out - mean
    return np.mean(np.square(centred - centred @ components.T @ components))


def stream_of(images, batch=7):
    return lambda: (images[start : start + batch] for start in range(0, len(images), batch))


@pytest.mark.parametrize(("factor", "n"), [(2, 3), (4, 8), (8, 20), (None, 10)])
def test_the_code_is_pca_whatever_the_batches(factor, n):
    images, held_out = blobs(60), blobs(20, seed=1)
    code = fit_linear_code(stream_of(images), factor, n)
    patches, others = to_patches(images, factor).astype(float), to_patches(held_out, factor).astype(float)
    assert code.squared_error(others) / others.size == pytest.approx(pca_loss(patches, n, others), rel=1e-6)
    assert code.residual == pytest.approx(pca_loss(patches, n, patches), rel=1e-6)
    np.testing.assert_allclose(code.components.T @ code.components, np.eye(n), atol=1e-10)
    np.testing.assert_allclose(code.variances, np.mean(np.square((patches - code.mean) @ code.components), axis=0))


def test_patches_are_cut_row_by_row():
    images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = to_patches(images, 2)
    assert patches.shape == (12, 12)
    np.testing.assert_array_equal(patches[1], images[0, :2, 2:4].ravel())
    np.testing.assert_array_equal(patches[6], images[1, :2, :2].ravel())


def test_a_large_offset_costs_no_digits():
    images = blobs(60).astype(np.float64)
    near, far = fit_linear_code(stream_of(images), 4, 8), fit_linear_code(stream_of(images + 1e6), 4, 8)
    assert far.residual == pytest.approx(near.residual, rel=1e-3)


def test_one_mean_per_channel_costs_less_than_a_percent_on_patches():
    images = blobs(60)
    exact, flat = (fit_linear_code(stream_of(images), 4, 8, channel_mean=flag) for flag in (False, True))
    assert np.unique(flat.mean.reshape(-1, 3), axis=0).shape == (1, 3)
    assert exact.residual <= flat.residual <= 1.01 * exact.residual


def test_few_eigenvectors_of_a_large_matrix_equal_those_of_the_full_decomposition():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((1200, 1200)) * np.geomspace(1, 1e-4, 1200)
    matrix = factors @ factors.T
    values, vectors = leading_eigenvectors(matrix, 20)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1][:20], rtol=1e-4)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(20), atol=1e-10)


def test_the_range_finder_comes_within_a_thousandth_of_pca(monkeypatch):
    images = blobs(200, side=16)
    exact = fit_linear_code(stream_of(images), None, 12)
    monkeypatch.setattr(principal, "EXACT_UP_TO", 100)
    found = fit_linear_code(stream_of(images), None, 12)
    assert exact.residual * (1 - 1e-9) <= found.residual <= exact.residual * 1.001


def test_more_values_than_a_patch_has_are_left_empty():
    code = fit_linear_code(stream_of(blobs(10)), 1, 5)
    assert code.components.shape == (3, 5)
    assert code.residual == pytest.approx(0, abs=1e-12)
    assert not code.components[:, 3:].any()


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


def test_constant_images_have_a_start_too():
    code = fit_linear_code(lambda: iter([np.full((3, 4, 4, 1), 0.5)]), 2, 2)
    assert code.residual == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(code.mean, 0.5)
    np.testing.assert_array_equal(code.whitening(), code.components)


def test_an_empty_stream_is_told():
    with pytest.raises(ValueError, match="at least one image"):
        fit_linear_code(lambda: iter([]), 2, 2)
