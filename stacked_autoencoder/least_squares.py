"""Least squares in closed form: linear maps between samples, and a decoder that reads neighbouring encodings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stacked_autoencoder.distribution import Stream
from stacked_autoencoder.pca import leading_eigenvectors, to_patches
from stacked_autoencoder.utils.checks import SMALLEST

SIDE = 3  # of the neighbourhoods, in encodings
WORK = 2e10  # multiplications to spend, a second on a laptop
MOST_INPUTS = 2304  # values in a neighbourhood, those of 256 features; more would take a minute
FEWEST = 10  # neighbourhoods per coefficient of one value; with fewer, the result describes the sample only
RIDGE = 1e-2  # penalty, as a share of the mean square of a sample: the details in an encoding vary little
LEAST_POWER = 1e-9  # of a feature, as a share of that of the strongest; weaker ones are rounding errors


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
        self.factor = factor
        inputs = SIDE**2 * n
        self.sums = np.zeros((inputs, inputs + patch))  # products of neighbourhoods with neighbourhoods and with errors
        self.count = 0.0

    def add(self, samples: Iterable[tuple[np.ndarray, np.ndarray]], stream: Stream) -> None:
        """Adds samples until the work is done. All processes that share the stream get the sums of all.

        Args:
            samples: pairs of encodings `(N, h, w, n)` and errors `(N, h * factor, w * factor, channels)`.
            stream: the stream that the samples were computed from.
        """
        most = max(WORK / self.sums.size, 2 * FEWEST * len(self.sums)) / stream.readers

        def totals() -> np.ndarray:
            sums, count = np.zeros_like(self.sums), 0
            for encodings, errors in samples:
                windows = neighbourhoods(encodings)
                sums += windows.T @ np.concatenate([windows, to_patches(errors, self.factor)], axis=1)
                count += len(windows)
                if count >= most:
                    break
            return np.append(sums, count)

        summed = stream.summed(totals)
        self.sums, self.count = summed[:-1].reshape(self.sums.shape), summed[-1]

    def maps(self, rank: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the maps from neighbourhoods to features and from features to patches.

        Args:
            rank: largest number of features.

        Returns:
            Arrays `(9 * n, features)` and `(features, patch)`. All features have the mean square 1. `None` if there are
            too few samples, or no errors that neighbours predict.
        """
        inputs = len(self.sums)
        if self.count < FEWEST * inputs:
            return None
        squares, products = self.sums[:, :inputs], self.sums[:, inputs:]
        coefficients = _solve(squares, products, RIDGE * np.trace(squares) / self.count)
        _, directions = leading_eigenvectors(coefficients.T @ squares @ coefficients, min(rank, products.shape[1]))
        into = coefficients @ directions
        power = np.sum(into * (squares @ into), axis=0) / self.count
        is_there = power > LEAST_POWER * max(power[0], SMALLEST)
        if not is_there.any():
            return None
        size = np.sqrt(power[is_there])
        return into[:, is_there] / size, directions[:, is_there].T * size[:, None]
