"""The best linear code of a stream of images, in closed form: the start of every level, and the bar to beat.

    images ── patches ──▶ second moments (float64) ──▶ leading eigenvectors        patches up to 4,096 values
                     └──▶ randomised range finder, a few passes                    beyond that

The best linear code of `n` values is principal component analysis (Pearson 1901; Eckart and Young 1936). The range
finder with power iterations is algorithm 4.4 of Halko, Martinsson and Tropp, "Finding structure with randomness"
(2011), fed by a stream instead of a matrix.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

EXACT_UP_TO = 4096  # values per patch: the moment matrix takes 8 * 4096**2 bytes = 134 MB
FULL_EIGH_UP_TO = 1024  # above, a few eigenvectors by subspace iteration come much sooner than all of them
WORK = 4e11  # multiplications spent on second moments: a few seconds on a laptop
RANGE_FINDER_SAMPLE = 20_000  # patches per pass of the range finder
OVERSAMPLING = 16
WHITENING_FLOOR = 1e-2  # of the mean variance
SMALLEST = 1e-12  # a variance of zero still has to be divided by
KEPT = 1e-2  # of the variance of a component that the prior would rather have collapse

Stream = Callable[[], Iterable[np.ndarray]]


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

    def leading(self, n: int) -> "LinearCode":
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

    def widened(self, n: int) -> "LinearCode":
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


def fit_linear_code(
    stream: Stream, factor: int | None, n: int, *, channel_mean: bool = False, seed: int = 0
) -> LinearCode:
    """Fits the best linear code of `n` values per patch to a stream of images.

    Args:
        stream: a function that returns a fresh iterator over float images `(N, H, W, C)`, in random order: only as
            much is read as a few seconds of work allow.
        factor: side of a patch in pixels, or `None` for whole images.
        n: values per code.
        channel_mean: subtract one mean per channel instead of one per patch value. This is the best code whose
            decoder is a single transposed convolution, which has only one bias per channel.
        seed: of the range finder's first guess.

    Raises:
        ValueError: the stream is empty.
    """
    first = next(iter(stream()), None)
    if first is None:
        raise ValueError("The linear start needs at least one image. Received: an empty stream")
    channels = first.shape[-1]
    patch = to_patches(first[:1], factor).shape[1]
    kept = min(n, patch)
    if patch <= EXACT_UP_TO:
        code = _exact(_limited(stream, factor, WORK / patch**2), patch, kept, channels if channel_mean else None, seed)
    else:
        code = _range_finder(lambda: _limited(stream, factor, RANGE_FINDER_SAMPLE), patch, kept, seed)
    return code.widened(n)


def _limited(stream: Stream, factor: int | None, most: float) -> Iterator[np.ndarray]:
    seen = 0
    for images in stream():
        patches = to_patches(images, factor).astype(np.float64)
        yield patches
        seen += len(patches)
        if seen >= most:
            return


def _exact(batches: Iterator[np.ndarray], patch: int, n: int, channels: int | None, seed: int) -> LinearCode:
    count, total, second = 0, np.zeros(patch), np.zeros((patch, patch))
    shift = None
    for patches in batches:
        # Moments about a value near the mean: subtracting two huge numbers later would cost digits.
        shift = patches.mean(axis=0) if shift is None else shift
        patches -= shift
        count += len(patches)
        total += patches.sum(axis=0)
        second += patches.T @ patches
    mean = total / count
    scatter = second / count - np.outer(mean, mean)
    mean += shift
    if channels is not None:
        flat = np.tile(mean.reshape(-1, channels).mean(axis=0), patch // channels)
        scatter += np.outer(mean - flat, mean - flat)
        mean = flat
    variances, components = leading_eigenvectors(scatter, n, seed)
    return LinearCode(mean, components, variances, max(float(np.trace(scatter) - variances.sum()), 0.0) / patch)


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
    return _rotate(small, basis, n)


def _rotate(small: np.ndarray, basis: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rayleigh-Ritz: eigenvectors within the span of `basis`."""
    values, vectors = np.linalg.eigh((small + small.T) / 2)
    return np.maximum(values[::-1][:n], 0.0), basis @ vectors[:, ::-1][:, :n]


def _range_finder(batches: Callable[[], Iterable[np.ndarray]], patch: int, n: int, seed: int) -> LinearCode:
    count, mean, square = 0, np.zeros(patch), 0.0
    for patches in batches():
        count += len(patches)
        mean += patches.sum(axis=0)
        square += float(np.sum(np.square(patches)))
    mean /= count
    power = square / count - float(mean @ mean)
    width = min(n + OVERSAMPLING + n // 2, patch)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((patch, width)))[0]
    captured = -1.0
    for _ in range(12):  # passes over the sample; images need about four
        image = np.zeros((patch, width))
        for patches in batches():
            centred = patches - mean
            image += centred.T @ (centred @ basis)
        small = basis.T @ image / count
        variances, components = _rotate(small, basis, n)
        energy = float(variances.sum())
        if energy - captured <= 1e-4 * max(power - energy, 0.0):  # the loss no longer falls by 0.01 %
            break
        captured = energy
        basis = np.linalg.qr(image)[0]
    return LinearCode(mean, components, variances, max(power - energy, 0.0) / patch)
