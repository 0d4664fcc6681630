"""Fits the best linear code to a stream of images, in closed form: the start of every level, and the bar to beat.

    images ── patches ──▶ second moments (float64) ──▶ leading eigenvectors        patches up to 4,096 values
                     └──▶ randomised range finder, a few passes                    beyond that

The range finder with power iterations is algorithm 4.4 of Halko, Martinsson and Tropp, "Finding structure with
randomness" (2011), fed by a stream instead of a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stacked_autoencoder.principal import OVERSAMPLING, LinearCode, Stream, leading_eigenvectors, rotate, to_patches

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
        self.stream, self.factor = stream, factor
        self.channels = first.shape[-1]
        self.patch = to_patches(first[:1], factor).shape[1]
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

    def _patches(self) -> Iterator[np.ndarray]:
        most, seen = max(WORK / (self.patch * (self.patch + READING)), FEWEST), 0
        for images in self.stream():
            patches = to_patches(images, self.factor).astype(np.float64)
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
        count, total, second = 0, np.zeros(self.patch), np.zeros((self.patch, self.patch))
        shift = None
        for patches in self._patches():
            # Moments about a value near the mean: subtracting two huge numbers later would cost digits.
            shift = patches.mean(axis=0) if shift is None else shift
            patches -= shift
            count += len(patches)
            total += patches.sum(axis=0)
            second += patches.T @ patches
        mean = total / count
        return mean + shift, second / count - np.outer(mean, mean)

    def _range_finder(self, n: int, channel_mean: bool) -> LinearCode:
        count, mean, square = 0, np.zeros(self.patch), 0.0
        for patches in self._patches():
            count += len(patches)
            mean += patches.sum(axis=0)
            square += float(np.sum(np.square(patches)))
        mean /= count
        centre = self._flat(mean) if channel_mean else mean
        power = square / count - float((2 * mean - centre) @ centre)
        width = min(n + OVERSAMPLING + n // 2, self.patch)
        basis = np.linalg.qr(np.random.default_rng(0).standard_normal((self.patch, width)))[0]
        captured = -1.0
        for _ in range(12):  # passes over the sample; images need about four
            image = np.zeros((self.patch, width))
            for patches in self._patches():
                centred = patches - centre
                image += centred.T @ (centred @ basis)
            small = basis.T @ image / count
            variances, components = rotate(small, basis, n)
            energy = float(variances.sum())
            if energy - captured <= TOLERANCE * max(power - energy, 0.0):
                break
            captured = energy
            basis = np.linalg.qr(image)[0]
        return LinearCode(centre, components, variances, max(power - energy, 0.0) / self.patch)


def fit_linear_code(stream: Stream, factor: int | None, n: int) -> LinearCode:
    """The best linear code of `n` values per patch of a stream of images: see `LinearFit`."""
    return LinearFit(stream, factor).code(n)
