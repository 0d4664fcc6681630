"""Least squares in closed form: linear maps between samples, and a decoder that reads neighbouring encodings."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from stacked_autoencoder.distribution import Stream
from stacked_autoencoder.pca import leading_eigenvectors, to_patches
from stacked_autoencoder.utils.checks import SMALLEST

SIDE = 3  # of the neighbourhoods, in encodings
WORK = 2e10  # multiplications to spend, a second on a laptop
MAX_INPUTS = 1152  # values of a neighbourhood, those of 128 features; more would take many seconds
MAX_PATCH = 4096  # values of a patch, as for the moment matrix of PCA
CHUNK = 1 << 15  # neighbourhoods that are held in memory at once
MIN_SAMPLES = 10  # neighbourhoods per value of a neighbourhood; with fewer, the result describes the sample only
RIDGE = 1e-2  # penalty, as a share of the mean square of a neighbourhood; small, since fine details vary little
MIN_SHARE = 1e-9  # of a feature's mean square in that of the strongest one; less is a rounding error


def least_squares(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Returns the least-squares linear map between centred samples, `(inputs, outputs)`, with a small ridge penalty."""
    centred = inputs - inputs.mean(axis=0)
    square = centred.T @ centred
    ridge = np.trace(square) / len(inputs)  # the mean square of a sample, so that it matters only for few samples
    return _solve(square, centred.T @ (outputs - outputs.mean(axis=0)), ridge)


def _solve(square: np.ndarray, products: np.ndarray, ridge: float) -> np.ndarray:
    """Solves the normal equations with a ridge penalty."""
    return np.linalg.solve(square + max(ridge, SMALLEST) * np.eye(len(square)), products)


def neighbourhoods(encodings: np.ndarray) -> np.ndarray:
    """Returns the 3x3 neighbourhoods of encodings `(N, h, w, n)`, zero beyond the border: `(N * h * w, 9 * n)`.

    The order of the values is that of a convolution kernel `(3, 3, n, filters)`.
    """
    _, height, width, n = encodings.shape
    border = SIDE // 2
    padded = np.pad(encodings, ((0, 0), (border, border), (border, border), (0, 0)))
    shifted = [padded[:, y : y + height, x : x + width] for y in range(SIDE) for x in range(SIDE)]
    return np.concatenate(shifted, axis=-1).reshape(-1, SIDE**2 * n)


class NeighbourRegression:
    """Predicts the errors of a decoder from neighbouring encodings, with two linear maps of limited rank.

    A patch of an image continues in the patches next to it, but a decoder that is one transposed convolution computes
    each patch from one encoding. Of all linear functions of 3x3 encodings with a given number of features in between,
    `maps` returns the one that reduces the squared error most.

    Args:
        factor: side of a patch in pixels.
        n: number of values per encoding.
        patch: number of values per patch.

    Reference:
        Izenman 1975, "Reduced-rank regression for the multivariate linear model", section 2.
    """

    def __init__(self, factor: int, n: int, patch: int) -> None:
        self.factor, self.inputs, self.patch = factor, SIDE**2 * n, patch
        self.count = 0.0
        self.squares = np.zeros((self.inputs, self.inputs))  # sums of products of neighbourhoods
        self.products = np.zeros((self.inputs, patch))  # sums of products of neighbourhoods and errors

    @staticmethod
    def is_feasible(n: int, patch: int) -> bool:
        """Returns whether the problem can be solved in seconds."""
        return SIDE**2 * n <= MAX_INPUTS and patch <= MAX_PATCH

    def measure(self, samples: Iterable[tuple[np.ndarray, np.ndarray]], stream: Stream) -> None:
        """Computes the sums from as many samples as a second allows. Processes that share the stream add their sums.

        Args:
            samples: pairs of encodings `(N, h, w, n)` and errors `(N, h * factor, w * factor, channels)`.
            stream: the stream that the samples were computed from.
        """
        enough = max(WORK / (self.inputs * (self.inputs + self.patch)), 2 * MIN_SAMPLES * self.inputs) / stream.readers

        def sums() -> np.ndarray:
            squares, products, count = np.zeros_like(self.squares), np.zeros_like(self.products), 0
            for encodings, errors in samples:
                per_image = max(1, math.prod(encodings.shape[1:3]))
                step = max(1, CHUNK // per_image)
                for start in range(0, len(encodings), step):
                    windows = neighbourhoods(encodings[start : start + step])
                    squares += windows.T @ windows
                    products += windows.T @ to_patches(errors[start : start + step], self.factor)
                    count += len(windows)
                if count >= enough:
                    break
            return np.concatenate([squares.ravel(), products.ravel(), [count]])

        summed = stream.summed(sums)
        self.count = summed[-1]
        self.squares = summed[: self.squares.size].reshape(self.squares.shape)
        self.products = summed[self.squares.size : -1].reshape(self.products.shape)

    def maps(self, rank: int, least: float = 0.0) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the maps from neighbourhoods to features and from features to patches.

        Args:
            rank: largest number of features.
            least: mean square that the predicted error of a patch must have, to tell errors from rounding.

        Returns:
            Arrays `(9 * n, features)` and `(features, patch)`. All features have the mean square 1. `None` if there are
            too few samples, or no errors that neighbours predict.
        """
        if self.count < MIN_SAMPLES * self.inputs:
            return None
        coefficients = _solve(self.squares, self.products, RIDGE * np.trace(self.squares) / self.count)
        predicted = coefficients.T @ self.squares @ coefficients / self.count  # second moments
        powers, directions = leading_eigenvectors(predicted, min(rank, self.patch))
        is_strong = (powers > MIN_SHARE * powers[0]) & (powers > least)
        if not is_strong.any():
            return None
        size = np.sqrt(powers[is_strong])
        directions = directions[:, is_strong]
        return coefficients @ directions / size, directions.T * size[:, None]
