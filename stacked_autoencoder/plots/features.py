"""What a stack has learnt: its filters, and what each feature of an encoding stands for."""

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
PLACES = 7  # a side of an encoding that is decoded, where the model leaves its size open
LINEAR = ("linear", "dense0")  # names of the layers whose kernels see the image


def filters(sae: Autoencoder, n: int = 32, ax: Axes | None = None) -> Figure | SubFigure:
    """The leading kernels that level 0 sees images with, as pictures: mid-grey is zero, all on one scale.

    Of a `ConvLevel` they are those of the linear path, one patch large, which start as the principal components of
    patches, the strongest first; of a `DenseLevel` those of the first layer. Kernels of higher levels have too many
    channels to be seen: `features` shows what these stand for.

    Args:
        sae: of images of one or three channels.
        n: how many, at most.
        ax: to draw into.

    Raises:
        ValueError: level 0 doesn't see images, or has no such kernels.
    """
    n = positive_int("n", n)
    level = sae.levels[0]
    names = [layer.name for layer in level.encoder.layers if layer.name in LINEAR]
    if not names or len(sae.shape) != 3:
        raise ValueError(
            f"`sae` must see images by a ConvLevel or a DenseLevel. Received: {level!r} of inputs {level.input_shape}"
        )
    kernel = np.asarray(level.encoder.get_layer(names[0]).kernel)
    shape = kernel.shape[:-1] if kernel.ndim == 4 else level.input_shape
    return _grid(kernel.reshape(*shape, -1)[..., :n], ax)


def features(sae: Autoencoder, level: int | None = None, n: int = 32, ax: Axes | None = None) -> Figure | SubFigure:
    """What each feature of an encoding adds to the image: mid-grey is nothing, all on one scale.

    Each is decoded at one place as it lies a standard deviation above its mean, where it is otherwise the mean alone
    that is decoded; the difference is divided by that deviation. What is shown is the place, and half of it around.

    Args:
        sae: trained, of images of one or three channels.
        level: whose features, an index; the deepest by default.
        n: how many, at most, the first ones.
        ax: to draw into.

    Raises:
        ValueError: the level hasn't been trained, or doesn't encode images.
    """
    n = positive_int("n", n)
    level = sae.stack.index_of(level)
    chosen = sae.levels[level]
    if chosen.mean is None or len(sae.shape) != 3:
        raise ValueError(
            f"`sae` must have been trained on images, level {level} included: call `train` first. "
            f"Received: a stack of shape {sae.shape}, its level {level} {'un' * (chosen.mean is None)}trained"
        )
    shape = tuple(PLACES if side is None else side for side in chosen.encoding_shape)
    centre = tuple(side // 2 for side in shape[:-1])
    deviations = np.where(chosen.std > 0, chosen.std, 1.0)[:n]
    count = len(deviations)
    encodings = np.broadcast_to(chosen.mean, (count + 1, *shape)).astype(np.float32)  # the last stays the mean
    for feature, deviation in enumerate(deviations):
        encodings[(feature, *centre, feature)] += deviation
    decoded = sae.decode(encodings, level)
    added = (decoded[:-1] - decoded[-1]) / deviations[:, None, None, None]
    if chosen.is_image:
        factor = sae.stack.factor_at(level)
        top, left = (max(0, place * factor - factor // 2) for place in centre)
        added = added[:, top : top + 2 * factor, left : left + 2 * factor]
    return _grid(added.transpose(1, 2, 3, 0), ax)


def _grid(kernels: np.ndarray, ax: Axes | None) -> Figure | SubFigure:
    """`(H, W, C, N)`, numbers around zero, as pictures side by side; the first of each row is numbered."""
    height, width, _, count = kernels.shape
    columns = min(COLUMNS, count)
    gap = max(1, width // 8)
    limit = float(np.abs(kernels).max()) or 1.0
    picture = mosaic(as_shown(kernels.transpose(3, 0, 1, 2), (-limit, limit)), columns, gap)
    ax = axes_of(ax, 0.7 * columns + 0.5, 0.7 * columns * len(picture) / picture.shape[1] + 0.1)
    show(ax, picture)
    number_rows(ax, count, columns, height, gap)
    return ax.figure
