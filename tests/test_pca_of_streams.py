import numpy as np
import pytest

from stacked_autoencoder import pca
from stacked_autoencoder.distribution import Stream
from stacked_autoencoder.pca import LinearFit, fit_linear_code, to_patches
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


def test_a_large_offset_costs_no_digits():
    images = blobs(60).astype(np.float64)
    near, far = fit_linear_code(stream_of(images), 4, 8), fit_linear_code(stream_of(images + 1e6), 4, 8)
    assert far.residual == pytest.approx(near.residual, rel=1e-3)


def test_one_mean_per_channel_costs_less_than_a_percent_on_patches():
    images = blobs(60)
    fit = LinearFit(stream_of(images), 4)
    exact, flat = (fit.code(8, channel_mean=flag) for flag in (False, True))
    assert np.unique(flat.mean.reshape(-1, 3), axis=0).shape == (1, 3)
    assert exact.residual <= flat.residual <= 1.01 * exact.residual


@pytest.mark.parametrize("channel_mean", [False, True])
def test_the_range_finder_comes_within_a_thousandth_of_pca(monkeypatch, channel_mean):
    images = blobs(200, side=16)
    exact = LinearFit(stream_of(images), None).code(12, channel_mean=channel_mean)
    monkeypatch.setattr(pca, "EXACT_UP_TO", 100)
    found = LinearFit(stream_of(images), None).code(12, channel_mean=channel_mean)
    np.testing.assert_allclose(found.mean, exact.mean)
    assert exact.residual * (1 - 1e-9) <= found.residual <= exact.residual * 1.001


class Readers(Stream):
    """Stands for the processes that share a stream, one after the other in this one."""

    readers = 3

    def __init__(self, images):
        self.parts = [list(stream_of(images)())[index :: self.readers] for index in range(self.readers)]

    def __call__(self):
        return [batch for part in self.parts for batch in part]

    def summed(self, make):
        found = []
        for part in self.parts:
            self.own = lambda part=part: part
            found.append(make())
        return sum(found)


@pytest.mark.parametrize("exact_up_to", [4096, 100])
def test_readers_that_share_a_stream_find_what_one_does(monkeypatch, exact_up_to):
    monkeypatch.setattr(pca, "EXACT_UP_TO", exact_up_to)
    images = blobs(60, side=16)
    alone, together = LinearFit(stream_of(images), 8).code(6), LinearFit(Readers(images), 8).code(6)
    np.testing.assert_allclose(together.mean, alone.mean, atol=1e-12)
    np.testing.assert_allclose(together.variances, alone.variances, rtol=1e-6)
    assert together.residual == pytest.approx(alone.residual, rel=1e-6)


def test_more_values_than_a_patch_has_are_left_empty():
    code = fit_linear_code(stream_of(blobs(10)), 1, 5)
    assert code.components.shape == (3, 5)
    assert code.residual == pytest.approx(0, abs=1e-12)
    assert not code.components[:, 3:].any()


def test_constant_images_have_a_start_too():
    code = fit_linear_code(lambda: iter([np.full((3, 4, 4, 1), 0.5)]), 2, 2)
    assert code.residual == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(code.mean, 0.5)
    np.testing.assert_array_equal(code.whitening(), code.components)


def test_an_empty_stream_raises_an_error():
    with pytest.raises(ValueError, match="at least one image"):
        fit_linear_code(lambda: iter([]), 2, 2)


def test_images_are_read_once_for_all_codes_and_no_more_than_needed(monkeypatch):
    read = []

    def stream():
        for batch in stream_of(blobs(60))():
            read.append(len(batch))
            yield batch

    fit = LinearFit(stream, 4)
    fit.code(3), fit.code(8, channel_mean=True)
    assert sum(read) == 60 + 7  # the first batch says how large patches are
    monkeypatch.setattr(pca, "WORK", 1.0)
    monkeypatch.setattr(pca, "FEWEST", 10 * (len(blobs(1)[0]) // 4) ** 2)
    read.clear()
    LinearFit(stream, 4).code(3)
    assert read == [7, 7, 7]
