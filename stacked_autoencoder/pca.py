"""The best linear code of `n` values: principal component analysis (Pearson 1901; Eckart and Young 1936).

`fit_linear_code` fits one to a stream of images; `least_squares` fits a linear map to pairs of samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from stacked_autoencoder.distribution import BatchFunction, Stream
from stacked_autoencoder.utils.checks import SMALLEST

FULL_EIGH_UP_TO = 1024  # above, a few eigenvectors by subspace iteration come much sooner than all of them
OVERSAMPLING = 16
WHITENING_FLOOR = 1e-2  # of the mean variance
KEPT = 1e-2  # of the variance of a component that the prior would rather have collapse


@dataclass(frozen=True)
class LinearCode:
    """The `n` orthonormal directions that lose least of a patch, and the point they start from.

    Args:
        mean: `(patch,)`, what is subtracted before coding.
        components: `(patch, n)`, orthonormal columns, the largest variance first.
        variances: `(n,)`, the mean square of each code value over the data.
        residual: mean squared error per patch value that the code leaves on the data it was fitted to.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    residual: float

    def squared_error(self, patches: np.ndarray) -> float:
        """Sum of squared errors of `patches` `(N, patch)` against their reconstruction from the code."""
        centred = patches - self.mean
        # Pythagoras: what the orthonormal components don't carry is the error.
        return max(float(np.sum(np.square(centred)) - np.sum(np.square(centred @ self.components))), 0.0)

    def restored(self, patches: np.ndarray) -> np.ndarray:
        """The reconstruction of `patches` `(N, patch)` from the code."""
        return (patches - self.mean) @ self.components @ self.components.T + self.mean

    def leading(self, n: int) -> LinearCode:
        """The best code of only `n` values."""
        left_out = float(self.variances[n:].sum()) / len(self.mean)
        return replace(
            self,
            components=self.components[:, :n],
            variances=self.variances[:n],
            residual=self.residual + left_out,
        )

    def whitening(self) -> np.ndarray:
        """`(patch, n)`: the components, divided so that all values of a centred patch's code are about equally strong.

        Components far weaker than the mean of all patch values are mostly noise, and stay weak.
        """
        mean = float(self.variances.sum()) / len(self.mean) + self.residual
        return self.components / np.sqrt(self.variances + WHITENING_FLOOR * mean) if mean > 0 else self.components

    def widened(self, n: int) -> LinearCode:
        """The same code with empty components up to `n`, for codes with more values than a patch has."""
        more = n - self.components.shape[1]
        if more <= 0:
            return self
        return replace(
            self,
            components=np.pad(self.components, ((0, 0), (0, more))),
            variances=np.pad(self.variances, (0, more)),
        )


def variational_gains(variances: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the components are multiplied by on the way down and up in the best linear variational autoencoder.

    A component whose variance is below the noise would have to collapse; it keeps a little, from which training can
    make it useful.

    Args:
        variances: `(n,)` of the components.
        noise: variance of an observed value: half of `kl_weight`, if the loss is the mean squared error.

    Returns:
        Both, and the logarithm of the posterior's variance, `(n,)` each.

    Reference:
        Lucas et al. 2019, "Don't blame the ELBO! A linear VAE perspective on posterior collapse", section 4; Tipping
        and Bishop 1999, "Probabilistic principal component analysis", section 3.2.
    """
    variances = np.maximum(variances, SMALLEST)
    kept = np.sqrt(np.maximum(variances - noise, KEPT * variances))
    return kept / variances, kept, np.log(noise / (np.square(kept) + noise))


def to_patches(images: np.ndarray, factor: int | None) -> np.ndarray:
    """`(N, H, W, C)` → `(N*H/factor*W/factor, factor*factor*C)`, row by row; for `None` a patch is all of an image."""
    if factor is None:
        return images.reshape(len(images), -1)
    n, height, width, channels = images.shape
    grid = images.reshape(n, height // factor, factor, width // factor, factor, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(-1, factor * factor * channels)


def leading_eigenvectors(matrix: np.ndarray, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The `n` largest eigenvalues `(n,)` and their eigenvectors `(size, n)` of a symmetric matrix, largest first."""
    size = len(matrix)
    if size <= FULL_EIGH_UP_TO or 4 * n > size:
        values, vectors = np.linalg.eigh(matrix)
        return np.maximum(values[::-1][:n], 0.0), np.ascontiguousarray(vectors[:, ::-1][:, :n])
    guess = np.random.default_rng(seed).standard_normal((size, n + OVERSAMPLING + n // 2))
    basis, captured = np.linalg.qr(guess)[0], 0.0
    for _ in range(200):
        image = matrix @ basis
        small = basis.T @ image
        energy = float(np.sum(np.linalg.eigvalsh(small)[::-1][:n]))
        if energy - captured <= 1e-9 * energy:
            break
        captured = energy
        basis = np.linalg.qr(image)[0]
    return rotate(small, basis, n)


def rotate(small: np.ndarray, basis: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rayleigh-Ritz: eigenvectors within the span of `basis`."""
    values, vectors = np.linalg.eigh((small + small.T) / 2)
    return np.maximum(values[::-1][:n], 0.0), basis @ vectors[:, ::-1][:, :n]


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

    def __init__(self, stream: BatchFunction, factor: int | None) -> None:
        first = next(iter(stream()), None)
        if first is None:
            raise ValueError("The linear start needs at least one image. Received: an empty stream")
        self.stream = stream if isinstance(stream, Stream) else Stream(lambda _: stream())
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


def fit_linear_code(stream: BatchFunction, factor: int | None, n: int) -> LinearCode:
    """The best linear code of `n` values per patch of a stream of images: see `LinearFit`."""
    return LinearFit(stream, factor).code(n)


def least_squares(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """`(inputs, outputs)`: the best linear map between centred samples, drawn to zero where these are few."""
    centred = inputs - inputs.mean(axis=0)
    square = centred.T @ centred
    ridge = np.trace(square) / len(inputs)  # as if as many samples as there are inputs had been zero
    square[np.diag_indices_from(square)] += max(ridge, SMALLEST)
    return np.linalg.solve(square, centred.T @ (outputs - outputs.mean(axis=0)))
