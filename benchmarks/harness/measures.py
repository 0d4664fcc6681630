"""How well a design reconstructs photographs: error, sharpness, and the comparison with PCA on each picture."""

from collections.abc import Callable, Sequence

import numpy as np

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
    """Encoding and decoding by PCA of patches with as many values as an encoding of the stack."""
    code, factor = sae.levels[-1].linear_code, sae.factor

    def reconstruct(images: np.ndarray) -> np.ndarray:
        n, height, width, channels = images.shape
        patches = code.restored(to_patches(images, factor))
        grid = patches.reshape(n, height // factor, width // factor, factor, factor, channels)
        return grid.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape).astype(np.float32)

    return reconstruct


def measures(reconstruct: Reconstruct, pca: Reconstruct, pictures: Sequence[np.ndarray]) -> dict[str, float]:
    """Measures a design on the tiles of several pictures, `(N, height, width, channels)` uint8 each.

    Returns:
        `loss`, the mean squared error of all tiles; `of_pca`, divided by that of PCA; `highest`, the highest such
        quotient of a picture; `share_worse`, the share of tiles with a loss above that of PCA; `ssim`, the structural
        similarity; `sharpness`, the Laplacian energy divided by that of the originals.
    """
    originals = [scaled(tiles).numpy() for tiles in pictures]
    results, by_pca = ([made(images) for images in originals] for made in (reconstruct, pca))
    losses, pca_losses = ([_losses(*pair) for pair in zip(originals, made, strict=True)] for made in (results, by_pca))
    highest = max(ours.mean() / theirs.mean() for ours, theirs in zip(losses, pca_losses, strict=True))
    losses, pca_losses = np.concatenate(losses), np.concatenate(pca_losses)
    originals, results = np.concatenate(originals), np.concatenate(results)
    return {
        "loss": float(losses.mean()),
        "of_pca": float(losses.mean() / pca_losses.mean()),
        "highest": float(highest),
        "share_worse": float(np.mean(losses > pca_losses)),
        "ssim": float(np.mean(metrics.ssim(originals, np.clip(results, -1, 1)))),
        "sharpness": laplacian_energy(results) / laplacian_energy(originals),
    }


def _losses(originals: np.ndarray, results: np.ndarray) -> np.ndarray:
    return np.mean(np.square(results - originals), axis=(1, 2, 3), dtype=np.float64)


def row(
    code: str,
    design: str,
    reconstruct: Reconstruct,
    pca: Reconstruct,
    *,
    test: Sequence[np.ndarray],
    valid: np.ndarray,
    seconds: float = 0.0,
    step: float = 0.0,
) -> dict:
    """The row of a design: `measures` on the test pictures, and its loss on the validation tiles divided by PCA's."""
    result = {"code": code, "design": design, **measures(reconstruct, pca, test)}
    on_validation = measures(reconstruct, pca, [valid])["of_pca"]
    return result | {"valid": on_validation, "seconds": seconds, "step_ms": 1000 * step}


def show(rows: Sequence[dict]) -> None:
    """Prints what `row` returns."""
    print(
        f"\n{'encoding':10}{'design':24}{'loss':>9}{'/ PCA':>7}{'highest':>9}{'worse tiles':>12}{'SSIM':>7}"
        f"{'sharpness':>10}{'validation / PCA':>17}{'time (s)':>9}{'step (ms)':>10}"
    )
    for line in rows:
        seconds, step = (f"{line[name]:.1f}" if line[name] else "" for name in ("seconds", "step_ms"))
        print(
            f"{line['code']:10}{line['design']:24}{line['loss']:9.2e}{line['of_pca']:7.3f}{line['highest']:9.2f}"
            f"{line['share_worse']:12.1%}{line['ssim']:7.3f}{line['sharpness']:10.2f}{line['valid']:17.3f}{seconds:>9}"
            f"{step:>10}".rstrip(),
            flush=True,
        )
