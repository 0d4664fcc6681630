"""The features of images that `AnomalyDetector` compares, against NumPy."""

import numpy as np
import pytest

from stacked_autoencoder.heads.anomaly_features import OFFSET, feature_network
from stacked_autoencoder.pca import fit_linear_code, to_patches
from tests.conftest import blobs

FACTOR, CHANNELS = 2, 3


def window_means(values, pool, stride):
    """Means over windows of values `(N, H, W, C)`, extended by reflection."""
    margins = [((size - 1) // 2, size // 2) for size in pool]
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(values, [(0, 0), *margins, (0, 0)], mode="symmetric"), pool, axis=(1, 2)
    )
    return windows.mean(axis=(-2, -1))[:, ::stride, ::stride]


@pytest.mark.parametrize("kept", [2, 5, 6, 11], ids=lambda kept: f"{kept} of 12 components")
@pytest.mark.parametrize(("side", "pool", "stride"), [(20, 5, 2), (16, 4, 2), (8, 2, 1), (6, 1, 1)])
@pytest.mark.parametrize("is_open", [False, True])
def test_features_are_roots_of_magnitudes_and_of_the_errors_of_pca(kept, side, pool, stride, is_open):
    if is_open:
        pool, stride = 5, 2
    images = blobs(30, side, CHANNELS) + 0.5
    code = fit_linear_code(lambda: [to_patches(images, FACTOR)], None, kept)
    encodings = np.random.default_rng(0).normal(size=(30, side // 2, side // 2, 4)).astype(np.float32)
    shapes = [(None, None, each.shape[-1]) if is_open else each.shape[1:] for each in (encodings, images)]
    features = np.asarray(feature_network(*shapes, code, FACTOR, 2.0)([encodings, images]))
    patches = to_patches(images, FACTOR).astype(np.float64)
    errors = np.square(patches - code.restored(patches)).mean(axis=1).reshape(*encodings.shape[:-1], 1)
    magnitudes = np.concatenate([np.maximum(encodings, 0), np.maximum(-encodings, 0), errors], axis=-1)
    expected = window_means(magnitudes, (pool, pool), stride)
    expected[..., -1] = np.sqrt(expected[..., -1])
    np.testing.assert_allclose(features, (expected + 2.0 * OFFSET) ** 0.25, rtol=1e-2)
