"""The best linear code of `n` values: principal component analysis (Pearson 1901; Eckart and Young 1936).

`linear_fit` fits one to a stream of images.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

FULL_EIGH_UP_TO = 1024  # above, a few eigenvectors by subspace iteration come much sooner than all of them
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
