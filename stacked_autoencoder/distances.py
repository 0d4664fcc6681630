"""How far the distributions of two sets of features are apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 2048  # rows of a kernel matrix that are in memory at once


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians that have the means and covariances of two sets of features.

    `|mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))`. With the features of Inception that is known
    as FID; with others it is comparable only to itself. It is biased upwards, more for fewer samples, so compare sets
    of equal size, of many more samples than features.

    Args:
        features_a: `(N, features)`, such as a classifier's last hidden layer for `N` images.
        features_b: `(M, features)`.

    Returns:
        0 for equal means and covariances; in squared units of the features.

    Raises:
        ValueError: these aren't two sets of finite vectors of one length, or one has fewer than two of them.

    Reference:
        Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions"; Heusel et al. 2017,
        "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", equation 6.
    """
    a, b = _checked(features_a, features_b)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (a, b))
    # The trace of the root of a product is that of a symmetric matrix, whose eigenvalues aren't complex by rounding.
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_b @ root), 0.0)).sum()
    difference = np.square(mean_a - mean_b).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared
    return max(float(difference), 0.0)


def kernel_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared maximum mean discrepancy of two sets of features, with the kernel `(x·y / features + 1)^3`.

    Unlike the Fréchet distance it is unbiased, so sets of different size can be compared, and sees moments up to the
    third. With the features of Inception it is known as KID.

    Args:
        features_a: `(N, features)`.
        features_b: `(M, features)`.

    Returns:
        0 on average for sets of one distribution, and so sometimes less than 0.

    Raises:
        ValueError: these aren't two sets of finite vectors of one length, or one has fewer than two of them.

    Reference:
        Gretton et al. 2012, "A kernel two-sample test", lemma 6; Bińkowski et al. 2018, "Demystifying MMD GANs"
        (arXiv:1801.01401).
    """
    a, b = _checked(features_a, features_b)
    between = _sum_of_kernel(a, b) / (len(a) * len(b))
    within = [(_sum_of_kernel(each, each) - _kernel_of_pairs(each)) / (len(each) * (len(each) - 1)) for each in (a, b)]
    return sum(within) - 2 * between


def _sum_of_kernel(a: np.ndarray, b: np.ndarray) -> float:
    return sum(float(np.sum((block @ b.T / a.shape[1] + 1) ** 3)) for block in _blocks(a))


def _kernel_of_pairs(a: np.ndarray) -> float:
    """Sum of the kernel of each vector and itself."""
    return float(np.sum((np.sum(np.square(a), axis=1) / a.shape[1] + 1) ** 3))


def _blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    yield from (features[first : first + BLOCK] for first in range(0, len(features), BLOCK))


def _checked(*features: np.ndarray) -> list[np.ndarray]:
    checked = [np.asarray(each, np.float64) for each in features]
    for name, each in zip(("features_a", "features_b"), checked, strict=True):
        if each.ndim != 2 or len(each) < 2:
            raise ValueError(
                f"`{name}` must be at least two vectors, (N, features); flatten what has more axes with "
                f"`features.reshape(len(features), -1)`. Received: shape={each.shape}"
            )
        if not np.isfinite(each).all():
            raise ValueError(f"`{name}` must be finite. Received: NaN or infinity")
    if checked[0].shape[1] != checked[1].shape[1]:
        raise ValueError(
            "`features_a` and `features_b` must have as many features, from the same model. Received: shapes "
            f"{checked[0].shape} and {checked[1].shape}"
        )
    return checked
