import keras
import numpy as np
import pytest

from stacked_autoencoder import least_squares
from stacked_autoencoder.distribution import Stream
from stacked_autoencoder.least_squares import NeighbourRegression, neighbourhoods


def regression(encodings, errors):
    factor = errors.shape[1] // encodings.shape[1]
    result = NeighbourRegression(factor, encodings.shape[-1], factor**2 * errors.shape[-1])
    result.measure(iter([(encodings[:100], errors[:100]), (encodings[100:], errors[100:])]), Stream(lambda _: iter([])))
    return result


def samples(count=400, noise=0.1):
    """Errors `(N, 6, 6, 2)` that are a function of 3x3 encodings `(N, 3, 3, 2)`, and noise."""
    rng = np.random.default_rng(0)
    encodings = rng.normal(size=(count, 3, 3, 2)).astype(np.float32)
    patches = neighbourhoods(encodings) @ rng.normal(size=(18, 8))
    patches += noise * rng.normal(size=patches.shape)
    errors = patches.reshape(count, 3, 3, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(count, 6, 6, 2)
    return encodings, errors.astype(np.float32), patches


def test_neighbourhoods_are_in_the_order_of_a_convolution_kernel():
    encodings = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    layer = keras.layers.Conv2D(7, 3, padding="same", use_bias=False)
    expected = layer(encodings).numpy()
    found = neighbourhoods(encodings) @ layer.kernel.numpy().reshape(27, 7)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)


def test_maps_of_full_rank_are_least_squares():
    encodings, errors, patches = samples()
    into, out = regression(encodings, errors).maps(rank=8)
    windows = neighbourhoods(encodings)
    np.testing.assert_allclose(into @ out, np.linalg.lstsq(windows, patches, rcond=None)[0], atol=0.05)
    np.testing.assert_allclose(np.mean(np.square(windows @ into), axis=0), 1.0, rtol=1e-3)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_maps_of_lower_rank_are_the_best_of_their_rank(rank):
    encodings, errors, patches = samples()
    into, out = regression(encodings, errors).maps(rank)
    assert into.shape == (18, rank)
    windows = neighbourhoods(encodings)
    whole = windows @ np.linalg.lstsq(windows, patches, rcond=None)[0]
    left, sizes, right = np.linalg.svd(whole, full_matrices=False)  # the best approximation (Eckart and Young)
    best = (left[:, :rank] * sizes[:rank]) @ right[:rank]
    loss, least = (np.mean(np.square(patches - made)) for made in (windows @ into @ out, best))
    assert loss == pytest.approx(least, rel=1e-3)


def test_features_without_power_are_left_out():
    encodings, errors, _ = samples(noise=0.0)
    errors[..., 1] = errors[..., 0]  # half of the rank
    into, out = regression(encodings, errors).maps(rank=8)
    assert into.shape == (18, 4)
    assert np.isfinite(into).all()
    assert np.isfinite(out).all()
    assert regression(encodings, 0 * errors).maps(rank=8) is None
    assert regression(encodings, errors).maps(rank=8, least=1e6) is None  # as if they were rounding errors


def test_large_batches_are_computed_in_parts(monkeypatch):
    encodings, errors, _ = samples()
    whole = regression(encodings, errors)
    monkeypatch.setattr(least_squares, "CHUNK", 50)
    parts = regression(encodings, errors)
    assert parts.count == whole.count
    np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(parts.products, whole.products, rtol=1e-5, atol=1e-3)


def test_no_more_samples_than_needed_are_read(monkeypatch):
    encodings, errors, _ = samples()
    monkeypatch.setattr(least_squares, "WORK", 1.0)
    result = NeighbourRegression(2, 2, 8)
    read = iter([(encodings[start : start + 10], errors[start : start + 10]) for start in range(0, 400, 10)])
    result.measure(read, Stream(lambda _: iter([])))
    assert result.count == 360  # twice the least number, 10 for each of 18 values
    assert len(list(read)) == 36


def test_few_samples_have_no_maps():
    encodings, errors, _ = samples(count=19)
    assert regression(encodings, errors).maps(rank=4) is None
