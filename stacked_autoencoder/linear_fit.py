"""Fits the best linear code to a stream of images, in closed form: the start of every level, and the bar to beat.

    images ── patches ──▶ second moments (float64) ──▶ leading eigenvectors        patches up to 4,096 values
                     └──▶ randomised range finder, a few passes                    beyond that

The range finder with power iterations is algorithm 4.4 of Halko, Martinsson and Tropp, "Finding structure with
randomness" (2011), fed by a stream instead of a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from stacked_autoencoder.principal import OVERSAMPLING, LinearCode, Stream, leading_eigenvectors, rotate, to_patches
from stacked_autoencoder.shared_stream import Alone

EXACT_UP_TO = 4096  # values per patch: the moment matrix takes 8 * 4096**2 bytes = 134 MB
WORK = 1e11  # multiplications spent on second moments: a few seconds on a laptop
READING = 500  # multiplications that take as long as reading a value does
FEWEST = 20_000  # patches, however large they are
TOLERANCE = 1e-4  # the range finder ends when the loss no longer falls by so much of it


class LinearFit:
    """Patches of a stream of images, from which codes of any number of values are fitted: they are read once.

    Args:
        stream: a function that returns a fresh iterator over float images `(N, H, W, C)`, in random order: only as
            much is read as a few seconds of work allow.
        factor: side of a patch in pixels, or `None` for whole images.

    Raises:
        ValueError: the stream is empty.
    """

    def __init__(self, stream: Stream, factor: int | None) -> None:
        first = next(iter(stream()), None)
        if first is None:
            raise ValueError("The linear start needs at least one image. Received: an empty stream")
        self.stream = stream if isinstance(stream, Alone) else Alone(stream)
        self.factor, self.channels = factor, first.shape[-1]
        patches = to_patches(first, factor)
        self.patch = patches.shape[1]
        # A value near the mean: moments about it keep the digits that those about 0 lose.
        self.near = patches.mean(axis=0, dtype=np.float64)
        self._moments: tuple[np.ndarray, np.ndarray] | None = None

    def code(self, n: int, *, channel_mean: bool = False) -> LinearCode:
        """The best linear code of `n` values per patch.

        Args:
            n: values per code; those beyond a patch's own number stay empty.
            channel_mean: subtract one mean per channel instead of one per patch value. This is the best code whose
                decoder is a single transposed convolution, which has only one bias per channel.
        """
        kept = min(n, self.patch)
        fit = self._exact if self.patch <= EXACT_UP_TO else self._range_finder
        return fit(kept, channel_mean).widened(n)

    def _centred(self) -> Iterator[np.ndarray]:
        """This process's patches, about `near`."""
        most, seen = max(WORK / (self.patch * (self.patch + READING)), FEWEST) / self.stream.readers, 0
        for images in self.stream.own():
            patches = to_patches(images, self.factor) - self.near
            yield patches
            seen += len(patches)
            if seen >= most:
                return

    def _flat(self, mean: np.ndarray) -> np.ndarray:
        """One mean per channel."""
        return np.tile(mean.reshape(-1, self.channels).mean(axis=0), self.patch // self.channels)

    def _exact(self, n: int, channel_mean: bool) -> LinearCode:
        if self._moments is None:
            self._moments = self._read_moments()
        mean, scatter = self._moments
        if channel_mean:
            flat = self._flat(mean)
            mean, scatter = flat, scatter + np.outer(mean - flat, mean - flat)
        variances, components = leading_eigenvectors(scatter, n)
        return LinearCode(
            mean, components, variances, max(float(np.trace(scatter) - variances.sum()), 0.0) / self.patch
        )

    def _read_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(patch,)` and covariance `(patch, patch)`."""

        def moments() -> np.ndarray:
            """`(patch + 1, patch + 1)`: of products of patch values; in its last row those of the values, and of 1."""
            summed = np.zeros((self.patch + 1, self.patch + 1))
            for patches in self._centred():
                summed[:-1, :-1] += patches.T @ patches
                summed[-1, :-1] += patches.sum(axis=0)
                summed[-1, -1] += len(patches)
            return summed

        second = self.stream.summed(moments)
        second /= second[-1, -1]
        mean = second[-1, :-1]
        return mean + self.near, second[:-1, :-1] - np.outer(mean, mean)

    def _range_finder(self, n: int, channel_mean: bool) -> LinearCode:
        def sums() -> np.ndarray:
            """`(patch + 2,)`: of patch values, of all their squares, of the patches."""
            summed = np.zeros(self.patch + 2)
            for patches in self._centred():
                summed[:-2] += patches.sum(axis=0)
                summed[-2] += np.sum(np.square(patches))
                summed[-1] += len(patches)
            return summed

        summed = self.stream.summed(sums)
        mean, square, count = summed[:-2] / summed[-1], summed[-2], summed[-1]
        centre = self._flat(mean + self.near) - self.near if channel_mean else mean
        power = square / count - float((2 * mean - centre) @ centre)
        width = min(n + OVERSAMPLING + n // 2, self.patch)
        basis = np.linalg.qr(np.random.default_rng(0).standard_normal((self.patch, width)))[0]
        captured = -1.0
        for _ in range(12):  # passes over the sample; images need about four
            image = self.stream.summed(partial(self._image, centre, basis))
            small = basis.T @ image / count
            variances, components = rotate(small, basis, n)
            energy = float(variances.sum())
            is_over = energy - captured <= TOLERANCE * max(power - energy, 0.0)
            # All readers, or none: what they compute of the same sums may differ by its last digit.
            if self.stream.summed(lambda is_over=is_over: np.array([float(is_over)]))[0] > 0:
                break
            captured = energy
            basis = np.linalg.qr(image)[0]
        return LinearCode(centre + self.near, components, variances, max(power - energy, 0.0) / self.patch)

    def _image(self, centre: np.ndarray, basis: np.ndarray) -> np.ndarray:
        """`(patch, width)`: the scatter of the patches times a basis."""
        image = np.zeros_like(basis)
        for patches in self._centred():
            patches -= centre
            image += patches.T @ (patches @ basis)
        return image


def fit_linear_code(stream: Stream, factor: int | None, n: int) -> LinearCode:
    """The best linear code of `n` values per patch of a stream of images: see `LinearFit`."""
    return LinearFit(stream, factor).code(n)
