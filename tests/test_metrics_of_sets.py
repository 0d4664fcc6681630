import numpy as np
import pytest

from stacked_autoencoder import metrics
from stacked_autoencoder.metrics import BLOCK


def with_moments(mean, covariance, count=64, seed=0):
    """Vectors whose mean and covariance are exactly these."""
    drawn = np.random.default_rng(seed).standard_normal((count, len(mean)))
    centred = drawn - drawn.mean(axis=0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False))).T
    return white @ np.linalg.cholesky(np.asarray(covariance, float)).T + mean


def test_frechet_distance_of_variances_that_commute():
    a = with_moments([0, 1, 2], np.diag([1, 4, 9]))
    b = with_moments([3, 1, 2], np.diag([4, 4, 1]), count=50, seed=1)
    assert metrics.frechet_distance(a, b) == pytest.approx(3**2 + (1 - 2) ** 2 + (3 - 1) ** 2)


def test_frechet_distance_of_two_covariances():
    first, second = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.8], [-0.8, 3.0]])
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))  # trace of the root of a 2x2 matrix
    expected = np.trace(first) + np.trace(second) - 2 * root
    found = metrics.frechet_distance(with_moments([0, 0], first), with_moments([0, 0], second, seed=1))
    assert found == pytest.approx(expected)


def test_frechet_distance_of_equal_sets():
    features = np.random.default_rng(0).standard_normal((20, 64))  # a covariance without full rank
    assert metrics.frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_single_features():
    a = np.array([[0.0], [2.0]])
    assert metrics.frechet_distance(a, a + 5) == pytest.approx(25)


def test_kernel_distance_is_its_sum():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 3)), rng.standard_normal((7, 3)) + 0.5

    def kernels(first, second):
        return np.array([[(x @ y / 3 + 1) ** 3 for y in second] for x in first])

    within = [np.mean(kernels(each, each)[~np.eye(len(each), dtype=bool)]) for each in (a, b)]
    expected = sum(within) - 2 * np.mean(kernels(a, b))
    assert metrics.kernel_distance(a, b) == pytest.approx(expected)


def test_kernel_distance_of_shifted_normal_distributions():
    rng, shift = np.random.default_rng(0), 1.0
    a, b = rng.standard_normal((2 * BLOCK + 7, 1)), shift + rng.standard_normal((BLOCK + 5, 1))
    moments = 3 * shift**2 + 3 * (shift**2) ** 2 + (shift**3 + 3 * shift) ** 2
    assert metrics.kernel_distance(a, b) == pytest.approx(moments, rel=0.15)


def test_kernel_distance_is_unbiased():
    rng = np.random.default_rng(0)
    found = [metrics.kernel_distance(*rng.standard_normal((2, 20, 4))) for _ in range(400)]
    assert min(found) < 0
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


@pytest.mark.parametrize("distance", [metrics.frechet_distance, metrics.kernel_distance])
def test_wrong_features(distance):
    good = np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"`features_a` must have shape .*at least 2.*reshape"):
        distance(np.zeros((4, 2, 2)), good)
    with pytest.raises(ValueError, match="`features_b` must have shape"):
        distance(good, good[:1])
    with pytest.raises(ValueError, match="`features_b` must be finite"):
        distance(good, np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="must have the same number of features"):
        distance(good, np.zeros((4, 2)))
