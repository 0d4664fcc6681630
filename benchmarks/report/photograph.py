"""Draws the picture of the README: a photograph, its reconstruction, and that of PCA with the same number of values.

    python -m benchmarks.report.photograph            # two to four minutes on two cores

A level that divides height and width by 8 and keeps 4 features per pixel, so 48 times fewer values than the picture,
is trained on crops of six photographs. Another photograph selects the weights to keep, and a third one is drawn. PCA of
8x8 patches is fitted to the same crops.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.harness.measures import pca_of
from stacked_autoencoder import Autoencoder, datasets, metrics

ROOT = Path(__file__).parent.parent.parent
SHOWN, VALIDATION = "chelsea.png", "coffee.png"
SIDE = 64  # pixels of a training crop
FACE = (slice(30, 270), slice(108, 348))  # rows and columns of the picture that are drawn
DPI = 100


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Writes the picture; returns the PSNR of each reconstruction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "photograph.png")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--crops", type=int, default=8000, help="number of 64x64 training crops")
    parser.add_argument("--size", type=int, default=64, help="width of the network")
    arguments = parser.parse_args(argv)

    keras.utils.set_random_seed(0)
    images = datasets.random_crops(datasets.load_photographs("training"), arguments.crops, SIDE)
    valid = datasets.tiles([datasets.photograph(VALIDATION)], SIDE)
    picture = datasets.photograph(SHOWN)  # (300, 451, 3) uint8
    original = picture[None].astype(np.float32) / 127.5 - 1

    sae = Autoencoder(size=arguments.size, n_out=4, n_scalings=3)
    sae.train(images, epochs=arguments.epochs, validation_data=valid, verbose=2)
    by_pca = pca_of(sae)(sae.stack.pad(original))[:, : picture.shape[0], : picture.shape[1]]
    restored = {"PCA": by_pca, "stacked_autoencoder": sae.reconstruct(picture[None])}
    restored = {name: images.clip(-1, 1) for name, images in restored.items()}
    decibels = {name: float(metrics.psnr(original, each)[0]) for name, each in restored.items()}
    ratio = picture.size / sae.encode(picture[None]).size
    print(f"{ratio:.1f} times fewer values, {decibels}")

    panels = {
        "original photograph": original,
        f"stacked_autoencoder: {decibels['stacked_autoencoder']:.1f} dB": restored["stacked_autoencoder"],
        f"PCA of the same size: {decibels['PCA']:.1f} dB": restored["PCA"],
    }
    canvas = FigureCanvasAgg(_draw(panels))
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(arguments.out, optimize=True)
    return decibels


def _draw(panels: dict[str, np.ndarray]) -> Figure:
    """Draws pictures side by side below their titles, at one pixel of the figure per pixel of the picture."""
    crops = {title: np.round(picture[0][FACE] * 127.5 + 127.5).astype(np.uint8) for title, picture in panels.items()}
    height, width, _ = next(iter(crops.values())).shape
    gap, title_height = 8, 24
    size = (len(crops) * (width + gap) - gap, height + title_height)
    figure = Figure(figsize=[side / DPI for side in size], dpi=DPI)
    for index, (title, crop) in enumerate(crops.items()):
        left = index * (width + gap)
        axes = figure.add_axes((left / size[0], 0, width / size[0], height / size[1]))
        axes.imshow(crop, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(title, fontsize=9, pad=6)
    return figure


if __name__ == "__main__":
    main()
