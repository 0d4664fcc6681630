"""Gaussian distributions of feature vectors at the places of an image, in closed form from sums over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SHRINKAGE = 0.1  # added to all eigenvalues of a correlation matrix, whose mean is 1
FLOOR = 0.01  # share of the mean variance that is added to the variance of each feature


class Whitening(NamedTuple):
    """A map from feature vectors to vectors that are white under Gaussian distributions.

    Attributes:
        mean: float64 `(places, features)`; one place if all places have the same distribution.
        matrix: float64 `(places, features, features)`; `(vector - mean) @ matrix` is white.
        log_determinant: float64 `(places,)`, of the covariances.
    """

    mean: np.ndarray
    matrix: np.ndarray
    log_determinant: np.ndarray

    def distances(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the squared Mahalanobis distances of vectors, divided by the number of features.

        Args:
            vectors: float32 `(N, places, features)`.

        Returns:
            float32 `(N, places)`.
        """
        mean, matrix = self.mean.astype(np.float32), self.matrix.astype(np.float32)
        by_place = (vectors - mean).transpose(1, 0, 2) @ matrix
        return np.square(by_place).mean(axis=-1).T

    def negative_log_likelihood(self, sums: FeatureSums) -> float:
        """Returns the mean over vectors, without its constant, for vectors of which only sums are known."""
        mean = np.broadcast_to(self.mean, sums.first.shape)
        cross = (sums.first / sums.count)[:, :, None] * mean[:, None]
        scatter = sums.second / sums.count - cross - cross.transpose(0, 2, 1) + mean[:, :, None] * mean[:, None]
        precision = self.matrix @ self.matrix.transpose(0, 2, 1)
        distances = np.sum(np.broadcast_to(precision, scatter.shape) * scatter, axis=(1, 2))
        return 0.5 * float(np.mean(distances + self.log_determinant))


class FeatureSums:
    """Sums of feature vectors and of their products at each place. Images can be added at any time.

    Args:
        places: number of places of an image.
        features: length of the vectors.

    Attributes:
        count: number of images, a float if they are weighted.
        first: float64 `(places, features)`, sums of the vectors.
        second: float64 `(places, features, features)`, sums of their products.
    """

    def __init__(self, places: int, features: int) -> None:
        self.count = 0
        self.first = np.zeros((places, features))
        self.second = np.zeros((places, features, features))

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray], weights: Sequence[float]) -> FeatureSums:
        """Returns the weighted sums of arrays of vectors, each float32 `(N, places, features)`."""
        sums = cls(*arrays[0].shape[1:])
        for vectors, weight in zip(arrays, weights, strict=True):
            sums.add(vectors, weight)
        return sums

    def add(self, vectors: np.ndarray, weight: float = 1) -> None:
        """Adds the vectors of images, float32 `(N, places, features)`, as if each occurred `weight` times."""
        self.count += weight * len(vectors)
        by_place = np.ascontiguousarray(vectors.transpose(1, 0, 2), np.float32)
        self.first += weight * by_place.sum(axis=1, dtype=np.float64)
        self.second += weight * (by_place.transpose(0, 2, 1) @ by_place)

    def copy(self) -> FeatureSums:
        """Returns a copy that can be changed independently."""
        sums = FeatureSums(*self.first.shape)
        sums.count, sums.first, sums.second = self.count, self.first.copy(), self.second.copy()
        return sums

    def without(self, other: FeatureSums) -> FeatureSums:
        """Returns the sums without those of some of the images."""
        sums = FeatureSums(*self.first.shape)
        sums.count = self.count - other.count
        sums.first, sums.second = self.first - other.first, self.second - other.second
        return sums

    def of_all_places(self) -> FeatureSums:
        """Returns the sums over all places, as one place."""
        sums = FeatureSums(1, self.first.shape[1])
        sums.count = self.count * len(self.first)
        sums.first[0], sums.second[0] = self.first.sum(axis=0), self.second.sum(axis=0)
        return sums

    def whitening(self) -> Whitening:
        """Returns the whitening of Gaussians with these sums.

        The covariance is that of standardised features, whose correlation matrix is shrunk towards the identity, so
        that it can be inverted for any number of images.

        Reference:
            Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
        """
        mean = self.first / self.count
        covariance = self.second / self.count - mean[:, :, None] * mean[:, None]
        variances = np.maximum(np.einsum("pii->pi", covariance), 0)
        scale = np.sqrt(variances + max(FLOOR * variances.mean(), np.finfo(np.float32).tiny))
        values, vectors = np.linalg.eigh(covariance / (scale[:, :, None] * scale[:, None]))
        values = np.maximum(values, 0) + SHRINKAGE
        matrix = vectors / np.sqrt(values)[:, None] / scale[:, :, None]
        return Whitening(mean, matrix, np.log(values).sum(axis=1) + 2 * np.log(scale).sum(axis=1))
