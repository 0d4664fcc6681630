"""Pictures of a stack. Every function returns a matplotlib figure and opens no window.

Matplotlib is an extra: `pip install "stacked_autoencoder[examples]"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from stacked_autoencoder.metrics import psnr

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plots need matplotlib: `pip install matplotlib`.") from error
    return Figure(figsize=(width, height), layout="constrained")


def reconstructions(
    images: np.ndarray, rows: Mapping[str, np.ndarray], value_range: tuple[float, float] = (-1.0, 1.0)
) -> Figure:
    """Originals over their reconstructions, a row each, with the PSNR of every picture.

    Args:
        images: `(N, H, W, C)` floats; `N` columns.
        rows: title of a row → `(N, H, W, C)`, such as `{"level 0": sae.reconstruct(images, level=0)}`.
        value_range: lowest and highest value of the images.
    """
    low, high = value_range
    everything = {"original": images, **rows}
    count, height, width = images.shape[:3]
    figure = _figure(1.3 * count + 0.4, (1.3 * height / width + 0.25) * len(everything))
    axes = figure.subplots(len(everything), count, squeeze=False)
    for line, (title, pictures) in zip(axes, everything.items(), strict=True):
        quality = None if pictures is images else psnr(images, pictures, value_range)
        for column, (ax, picture) in enumerate(zip(line, pictures, strict=True)):
            shown = np.clip((picture - low) / (high - low), 0, 1)
            ax.imshow(shown.squeeze(-1) if shown.shape[-1] == 1 else shown, cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if quality is not None:
                ax.set_xlabel(f"{quality[column]:.1f} dB", fontsize=7, labelpad=1)
        line[0].set_ylabel(title, fontsize=8)
    return figure


def loss_curves(histories: Sequence[keras.callbacks.History], labels: Sequence[str] | None = None) -> Figure:
    """Loss of every level over the epochs, its start a dashed line; one panel each, since their units differ.

    Args:
        histories: what `Autoencoder.train` returns.
        labels: a title per history; `level 0`, `level 1` … by default.
    """
    figure = _figure(3.4 * len(histories), 2.8)
    axes = figure.subplots(1, len(histories), squeeze=False)[0]
    for index, (ax, history) in enumerate(zip(axes, histories, strict=True)):
        epochs = np.arange(1, len(history.history["loss"]) + 1)
        ax.plot(epochs, history.history["loss"], label="training")
        if "val_loss" in history.history:
            ax.plot(epochs, history.history["val_loss"], label="validation")
        ax.axhline(history.start_loss, color="0.5", linestyle="--", linewidth=1, label="start (PCA)")
        ax.set(title=labels[index] if labels else f"level {index}", xlabel="epoch", yscale="log")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=7, frameon=False)
    axes[0].set_ylabel("loss")
    return figure
