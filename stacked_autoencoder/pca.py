"""Principal component analysis (PCA) of streams of images (Pearson 1901; Eckart and Young 1936).

`fit_linear_code` computes PCA of a stream of images or of their patches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from stacked_autoencoder.distribution import BatchFunction, Stream
from stacked_autoencoder.utils.checks import SMALLEST

FULL_EIGH_UP_TO = 1024  # for larger matrices, subspace iteration finds a few eigenvectors much faster
OVERSAMPLING = 16  # additional vectors of the subspace
WHITENING_FLOOR = 1e-2  # as a share of the mean variance
LEAST_SHARE = 1e-2  # of its variance, which a component keeps though its optimal variance would be 0


@dataclass(frozen=True)
class LinearCode:
    """PCA of patches with `n` components: the linear code with the least mean squared error.

    Args:
        mean: `(patch,)`, subtracted from a patch before it is encoded.
        components: `(patch, n)`, orthonormal columns, sorted by falling variance.
        variances: `(n,)`, the mean square of each code value over the data.
        residual: mean squared error per value of a patch, on the data that the code was fitted to.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    residual: float

    def squared_error(self, patches: np.ndarray) -> float:
        """Returns the sum of squared errors of the reconstructions of `patches`, `(N, patch)`."""
        centred = patches - self.mean
        # By Pythagoras, since the components are orthonormal.
        return max(float(np.sum(np.square(centred)) - np.sum(np.square(centred @ self.components))), 0.0)

    def restored(self, patches: np.ndarray) -> np.ndarray:
        """Returns the reconstructions of `patches`, `(N, patch)`."""
        return (patches - self.mean) @ self.components @ self.components.T + self.mean

    def leading(self, n: int) -> LinearCode:
        """Returns PCA with only the first `n` components."""
        left_out = float(self.variances[n:].sum()) / len(self.mean)
        return replace(
            self,
            components=self.components[:, :n],
            variances=self.variances[:n],
            residual=self.residual + left_out,
        )

    def whitening(self) -> np.ndarray:
        """Returns the components, `(patch, n)`, scaled so that all code values have about the same variance.

        Components whose variance is far below the mean variance of patch values are mostly noise, and remain weak.
        """
        mean = float(self.variances.sum()) / len(self.mean) + self.residual
        return self.components / np.sqrt(self.variances + WHITENING_FLOOR * mean) if mean > 0 else self.components

    def widened(self, n: int) -> LinearCode:
        """Returns the code with components of zeros up to `n`, for more values than a patch has."""
        more = n - self.components.shape[1]
        if more <= 0:
            return self
        return replace(
            self,
            components=np.pad(self.components, ((0, 0), (0, more))),
            variances=np.pad(self.variances, (0, more)),
        )


def variational_gains(variances: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the factors on the components in the optimal linear variational autoencoder.

    In the optimum, components whose variance is below that of the noise collapse to 0. Here they keep a small share, so
    that training can still use them.

    Args:
        variances: `(n,)`, variances of the components.
        noise: variance of the noise of an observed value: half of `kl_weight`, if the loss is the mean squared error.

    Returns:
        The factors in the encoder, those in the decoder, and the logarithm of the posterior's variance, `(n,)` each.

    Reference:
        Lucas et al. 2019, "Don't blame the ELBO! A linear VAE perspective on posterior collapse", section 4; Tipping
        and Bishop 1999, "Probabilistic principal component analysis", section 3.2.
    """
    variances = np.maximum(variances, SMALLEST)
    gains = np.sqrt(np.maximum(variances - noise, LEAST_SHARE * variances))
    return gains / variances, gains, np.log(noise / (np.square(gains) + noise))


def to_patches(images: np.ndarray, factor: int | None) -> np.ndarray:
    """Cuts images `(N, H, W, C)` into patches `(N*H/factor*W/factor, factor*factor*C)`, row by row.

    With `factor=None`, a patch is a whole image.
    """
    if factor is None:
        return images.reshape(len(images), -1)
    n, height, width, channels = images.shape
    grid = images.reshape(n, height // factor, factor, width // factor, factor, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(-1, factor * factor * channels)


def leading_eigenvectors(matrix: np.ndarray, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `n` largest eigenvalues of a symmetric matrix `(n,)`, sorted, and their eigenvectors `(size, n)`."""
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
    """Returns the leading eigenvalues and eigenvectors within the span of `basis` (Rayleigh-Ritz)."""
    values, vectors = np.linalg.eigh((small + small.T) / 2)
    return np.maximum(values[::-1][:n], 0.0), basis @ vectors[:, ::-1][:, :n]


EXACT_UP_TO = 4096  # values per patch: the moment matrix takes 8 * 4096**2 bytes = 134 MB
WORK = 5e10  # multiplications to spend on second moments, a few seconds on a laptop
READING = 500  # multiplications that take as long as reading one value
FEWEST = 20_000  # least number of patches to read, of any size
DUAL_VALUES = 5e7  # values of patches to keep for the Gram matrix: 200 MB
ROUNDING = 1e-12  # share of the largest eigenvalue of a Gram matrix below which an eigenvalue is a rounding error
COLUMNS = 1 << 16  # columns of the patches that are multiplied at once, in float64
TOLERANCE = 1e-4  # the range finder stops when the loss falls by less than this share


class LinearFit:
    """PCA of the patches of a stream of images, for several numbers of components from one pass over the data.

    Args:
        stream: a function that returns a fresh iterator over float images `(N, H, W, C)` in random order. Only as many
            are read as a few seconds allow.
        factor: side of a patch in pixels, or `None` for whole images.

    Raises:
        ValueError: the stream is empty.
    """

    def __init__(self, stream: BatchFunction, factor: int | None) -> None:
        first = next(iter(stream()), None)
        if first is None:
            raise ValueError("Training needs at least one image. Received: an empty stream of images")
        self.stream = stream if isinstance(stream, Stream) else Stream(lambda _: stream())
        self.factor, self.channels = factor, first.shape[-1]
        patches = to_patches(first, factor)
        self.patch = patches.shape[1]
        # A value near the mean. Moments about it are more precise than moments about 0.
        self.near = patches.mean(axis=0, dtype=np.float64)
        self._moments: tuple[np.ndarray, np.ndarray] | None = None
        self._sums: np.ndarray | None = None
        self._kept: np.ndarray | None = None  # the patches, if they are few

    def code(self, n: int, *, channel_mean: bool = False) -> LinearCode:
        """Returns PCA of the patches with `n` components.

        Args:
            n: number of components; those beyond the number of values in a patch are zero.
            channel_mean: whether to subtract one mean per channel instead of one per value of a patch. That is optimal
                for a decoder that is a single transposed convolution, which has one bias per channel.
        """
        if self.patch <= EXACT_UP_TO:
            fit = self._exact
        else:
            if self._sums is None:
                self._sums = self._read_sums()
            fit = self._range_finder if self._kept is None else self._dual
        return fit(min(n, self.patch), channel_mean).widened(n)

    def _centred(self) -> Iterator[np.ndarray]:
        """Yields the patches that this process reads, with `near` subtracted."""
        most, count = max(WORK / (self.patch * (self.patch + READING)), FEWEST) / self.stream.readers, 0
        for images in self.stream.own():
            patches = to_patches(images, self.factor) - self.near
            yield patches
            count += len(patches)
            if count >= most:
                return

    def _flat(self, mean: np.ndarray) -> np.ndarray:
        """Replaces the mean of each value by that of its channel."""
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
        """Returns the mean `(patch,)` and the covariance `(patch, patch)`."""

        def moments() -> np.ndarray:
            """Returns `(patch + 1, patch + 1)`: sums of products; in the last row, sums of values and their number."""
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

    def _read_sums(self) -> np.ndarray:
        """Returns `(patch + 2,)`: the sum of each value, the sum of all squares, and the number of patches.

        Keeps the patches if there are fewer than values in a patch, and if they fit into memory.
        """
        most, kept = min(self.patch, DUAL_VALUES / self.patch), []

        def sums() -> np.ndarray:
            summed = np.zeros(self.patch + 2)
            for patches in self._centred():
                summed[:-2] += patches.sum(axis=0)
                summed[-2] += np.sum(np.square(patches))
                summed[-1] += len(patches)
                if self.stream.readers == 1 and summed[-1] <= most:
                    kept.append(patches.astype(np.float32))
                else:
                    kept.clear()
            return summed

        summed = self.stream.summed(sums)
        if kept:
            self._kept = np.concatenate(kept)
        return summed

    def _dual(self, n: int, channel_mean: bool) -> LinearCode:
        """Computes PCA from the Gram matrix of the patches, which is smaller than their covariance.

        Reference:
            Turk and Pentland 1991, "Eigenfaces for recognition", section "Calculating eigenfaces".
        """
        patches, blocks = self._kept, [slice(at, at + COLUMNS) for at in range(0, self.patch, COLUMNS)]
        mean = self._sums[:-2] / self._sums[-1]
        centre = self._flat(mean + self.near) - self.near if channel_mean else mean
        gram = np.zeros((len(patches), len(patches)))
        for block in blocks:
            centred = patches[:, block] - centre[block]
            gram += centred @ centred.T
        power = float(np.trace(gram)) / len(patches)
        energies, vectors = leading_eigenvectors(gram, min(n, len(patches)))
        is_kept = energies > ROUNDING * energies[0]  # directions of rounding errors aren't components
        weights = np.where(is_kept, vectors, 0.0) / np.sqrt(np.where(is_kept, energies, 1.0))
        components = np.concatenate([(patches[:, block] - centre[block]).T @ weights for block in blocks])
        variances = np.where(is_kept, energies, 0.0) / len(patches)
        residual = max(power - float(variances.sum()), 0.0) / self.patch
        return LinearCode(centre + self.near, components, variances, residual)

    def _range_finder(self, n: int, channel_mean: bool) -> LinearCode:
        summed = self._sums
        mean, square, count = summed[:-2] / summed[-1], summed[-2], summed[-1]
        centre = self._flat(mean + self.near) - self.near if channel_mean else mean
        power = square / count - float((2 * mean - centre) @ centre)
        width = min(n + OVERSAMPLING + n // 2, self.patch)
        basis = np.linalg.qr(np.random.default_rng(0).standard_normal((self.patch, width)))[0]
        captured = -1.0
        for _ in range(12):  # passes over the sample; about four are enough for images
            image = self.stream.summed(partial(self._image, centre, basis))
            small = basis.T @ image / count
            variances, components = rotate(small, basis, n)
            energy = float(variances.sum())
            is_over = energy - captured <= TOLERANCE * max(power - energy, 0.0)
            # All readers stop together, though rounding may differ between them.
            if self.stream.summed(lambda is_over=is_over: np.array([float(is_over)]))[0] > 0:
                break
            captured = energy
            basis = np.linalg.qr(image)[0]
        return LinearCode(centre + self.near, components, variances, max(power - energy, 0.0) / self.patch)

    def _image(self, centre: np.ndarray, basis: np.ndarray) -> np.ndarray:
        """Returns the scatter matrix of the patches times a basis, `(patch, width)`."""
        image = np.zeros_like(basis)
        for patches in self._centred():
            patches -= centre
            image += patches.T @ (patches @ basis)
        return image


def fit_linear_code(stream: BatchFunction, factor: int | None, n: int) -> LinearCode:
    """Returns PCA with `n` components of the patches of a stream of images; see `LinearFit`."""
    return LinearFit(stream, factor).code(n)
