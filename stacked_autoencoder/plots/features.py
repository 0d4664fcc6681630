"""Figures of what a stack has learnt: filters, and the effect of each feature on the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stacked_autoencoder.plots.drawing import axes_of, number_rows, show
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.images import as_shown, mosaic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from stacked_autoencoder.autoencoder import Autoencoder


COLUMNS = 8
PLACES = 7  # side of the decoded encoding if its size is open
LINEAR = ("linear", "dense0")  # names of the layers whose kernels act on the image


def filters(sae: Autoencoder, n: int = 32, ax: Axes | None = None) -> Figure | SubFigure:
    """Plots the first kernels of level 0 as pictures. Mid-grey is zero, and all pictures share one scale.

    For a `ConvLevel` these are the kernels of the linear path, which are initialised with the principal components of
    patches, the strongest first. For a `DenseLevel` they are the kernels of the first layer. Kernels of higher levels
    have too many channels to display; use `features` for these.

    Args:
        sae: `Autoencoder` for images of one or three channels.
        n: maximum number of kernels.
        ax: matplotlib axes to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: level 0 is not a `ConvLevel` or `DenseLevel` for images.
        ImportError: matplotlib is not installed.

    Example:
        >>> plots.filters(sae).savefig("filters.png")
    """
    n = positive_int("n", n)
    level = sae.levels[0]
    names = [layer.name for layer in level.encoder.layers if layer.name in LINEAR]
    if not names or len(sae.shape) != 3:
        raise ValueError(
            "`sae` must be an Autoencoder for images whose level 0 is a ConvLevel or a DenseLevel. Received: "
            f"{level!r} for inputs of shape {level.input_shape}"
        )
    kernel = np.asarray(level.encoder.get_layer(names[0]).kernel)
    shape = kernel.shape[:-1] if kernel.ndim == 4 else level.input_shape
    return _grid(kernel.reshape(*shape, -1)[..., :n], ax)


def features(sae: Autoencoder, level: int | None = None, n: int = 32, ax: Axes | None = None) -> Figure | SubFigure:
    """Plots the effect of each feature of an encoding on the image, as one picture per feature.

    For each feature, two encodings are decoded: the mean encoding, and the mean encoding with the feature increased by
    its standard deviation at one pixel. The effect is the difference between the two images, divided by the standard
    deviation. The picture shows the image area of that pixel, with a margin of half its size. Mid-grey is no effect,
    and all pictures share one scale.

    Args:
        sae: trained `Autoencoder` for images of one or three channels.
        level: level index; by default the last level.
        n: maximum number of features.
        ax: matplotlib axes to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: the level is not trained, or the Autoencoder is not for images.
        ImportError: matplotlib is not installed.

    Example:
        >>> plots.features(sae, level=0, n=16).savefig("features.png")
    """
    n = positive_int("n", n)
    level = sae.stack.index_of(level)
    chosen = sae.levels[level]
    if chosen.mean is None or len(sae.shape) != 3:
        raise ValueError(
            f"`sae` must be an Autoencoder for images, and level {level} must be trained: call `train` first. "
            f"Received: an Autoencoder of shape {sae.shape} with an {'un' * (chosen.mean is None)}trained level {level}"
        )
    shape = tuple(PLACES if side is None else side for side in chosen.encoding_shape)
    centre = tuple(side // 2 for side in shape[:-1])
    deviations = np.where(chosen.std > 0, chosen.std, 1.0)[:n]
    count = len(deviations)
    encodings = np.broadcast_to(chosen.mean, (count + 1, *shape)).astype(np.float32)  # the last one is the mean
    for feature, deviation in enumerate(deviations):
        encodings[(feature, *centre, feature)] += deviation
    decoded = sae.decode(encodings, level)
    added = (decoded[:-1] - decoded[-1]) / deviations[:, None, None, None]
    if chosen.is_image:
        factor = sae.stack.factor_at(level)
        top, left = (max(0, pixel * factor - factor // 2) for pixel in centre)
        added = added[:, top : top + 2 * factor, left : left + 2 * factor]
    return _grid(added.transpose(1, 2, 3, 0), ax)


def _grid(kernels: np.ndarray, ax: Axes | None) -> Figure | SubFigure:
    """Plots kernels `(H, W, C, N)` around zero as pictures side by side. The first of each row is numbered."""
    height, width, _, count = kernels.shape
    columns = min(COLUMNS, count)
    gap = max(1, width // 8)
    limit = float(np.abs(kernels).max()) or 1.0
    picture = mosaic(as_shown(kernels.transpose(3, 0, 1, 2), (-limit, limit)), columns, gap)
    ax = axes_of(ax, 0.7 * columns + 0.5, 0.7 * columns * len(picture) / picture.shape[1] + 0.1)
    show(ax, picture)
    number_rows(ax, count, columns, height, gap)
    return ax.figure
