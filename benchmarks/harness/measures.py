"""How well a design reconstructs photographs: error, sharpness, and the comparison with PCA on each picture."""

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.harness.table import times
from stacked_autoencoder import Autoencoder, metrics
from stacked_autoencoder.pca import to_patches
from stacked_autoencoder.utils.images import scaled

Reconstruct = Callable[[np.ndarray], np.ndarray]  # of float images in [-1, 1]


def laplacian_energy(images: np.ndarray) -> float:
    """Sum of the squared discrete Laplacian of `(N, height, width, channels)`, the energy of edges and fine texture."""
    inner = images[:, 1:-1, 1:-1]
    neighbours = images[:, :-2, 1:-1] + images[:, 2:, 1:-1] + images[:, 1:-1, :-2] + images[:, 1:-1, 2:]
    return float(np.sum(np.square(neighbours - 4 * inner), dtype=np.float64))


def pca_of(sae: Autoencoder) -> Reconstruct:
    """A function that reconstructs images from PCA of patches, which keeps as many values as the stack's encodings."""
    code, factor = sae.levels[-1].linear_code, sae.factor

    def reconstruct(images: np.ndarray) -> np.ndarray:
        n, height, width, channels = images.shape
        patches = code.restored(to_patches(images, factor))
        grid = patches.reshape(n, height // factor, width // factor, factor, factor, channels)
        return grid.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape).astype(np.float32)

    return reconstruct


class Comparison:
    """Compares designs with PCA on the tiles of photographs, `(N, height, width, channels)` uint8.

    Args:
        code: shape of the encodings.
        pca: reconstructs images from PCA, which keeps as many values per image as the encodings have.
        test: the tiles of each test picture.
        valid: tiles of the validation pictures.
    """

    def __init__(self, code: str, pca: Reconstruct, test: Sequence[np.ndarray], valid: np.ndarray) -> None:
        self.code = code
        self.test = [scaled(tiles).numpy() for tiles in test]
        self.valid = scaled(valid).numpy()
        self.pca_losses = [_losses(images, pca(images)) for images in self.test]
        self.pca_loss_on_validation = _losses(self.valid, pca(self.valid)).mean()

    def row(self, design: str, reconstruct: Reconstruct, seconds: float = 0.0, step: float = 0.0) -> dict:
        """Measures a design.

        Returns:
            `loss`, the mean squared error of all test tiles; `of_pca`, divided by that of PCA; `highest`, the highest
            such quotient of a picture; `share_worse`, the share of tiles with a loss above that of PCA; `ssim`, the
            structural similarity; `sharpness`, the Laplacian energy divided by that of the originals; `valid`, the
            loss on the validation tiles divided by that of PCA; and the other arguments.
        """
        results = [reconstruct(images) for images in self.test]
        by_picture = [_losses(*pair) for pair in zip(self.test, results, strict=True)]
        losses, pca_losses = np.concatenate(by_picture), np.concatenate(self.pca_losses)
        originals, results = np.concatenate(self.test), np.concatenate(results)
        quotients = [ours.mean() / pca.mean() for ours, pca in zip(by_picture, self.pca_losses, strict=True)]
        on_validation = _losses(self.valid, reconstruct(self.valid)).mean()
        return {
            "code": self.code,
            "design": design,
            "loss": float(losses.mean()),
            "of_pca": float(losses.mean() / pca_losses.mean()),
            "highest": float(max(quotients)),
            "share_worse": float(np.mean(losses > pca_losses)),
            "ssim": float(np.mean(metrics.ssim(originals, np.clip(results, -1, 1)))),
            "sharpness": laplacian_energy(results) / laplacian_energy(originals),
            "valid": float(on_validation / self.pca_loss_on_validation),
            "seconds": seconds,
            "step_ms": 1000 * step,
        }


def _losses(originals: np.ndarray, results: np.ndarray) -> np.ndarray:
    """The mean squared error of each tile."""
    return np.mean(np.square(results - originals), axis=(1, 2, 3), dtype=np.float64)


def show(rows: Sequence[dict]) -> None:
    """Prints rows of a `Comparison`."""
    print(
        f"\n{'encoding':10}{'design':24}{'loss':>9}{'/ PCA':>7}{'highest':>9}{'worse tiles':>12}{'SSIM':>7}"
        f"{'sharpness':>10}{'validation / PCA':>17}{'time (s)':>9}{'step (ms)':>10}"
    )
    for line in rows:
        seconds, step = times(line)
        print(
            f"{line['code']:10}{line['design']:24}{line['loss']:9.2e}{line['of_pca']:7.3f}{line['highest']:9.2f}"
            f"{line['share_worse']:12.1%}{line['ssim']:7.3f}{line['sharpness']:10.2f}{line['valid']:17.3f}{seconds:>9}"
            f"{step:>10}".rstrip(),
            flush=True,
        )
