"""Figures of images and their reconstructions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from stacked_autoencoder.metrics import psnr
from stacked_autoencoder.plots.drawing import axes_of, new_figure, show
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.images import as_shown, mosaic
from stacked_autoencoder.utils.value_range import Range, ValueRange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from stacked_autoencoder.autoencoder import Autoencoder
    from stacked_autoencoder.heads.vae import VAE


def reconstructions(
    images: np.ndarray,
    rows: Mapping[str, np.ndarray] | Autoencoder,
    value_range: Range | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Plots images above their reconstructions, with the PSNR of each.

    Args:
        images: `(N, H, W, C)`, uint8 or float; one column per image.
        rows: an `Autoencoder`, for one row per level; or a dict from title to float images `(N, H, W, C)`, such as
            `{"level 0": sae.reconstruct(images, level=0)}`.
        value_range: `(low, high)`, value range of the images; by default that of the Autoencoder, or (-1, 1).
        figure: matplotlib figure or sub-figure to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> plots.reconstructions(images[:8], sae).savefig("reconstructions.png")
    """
    if not isinstance(rows, Mapping):
        value_range = rows.value_range if value_range is None else value_range
        rows = {f"level {level}": rows.reconstruct(images, level=level) for level in range(len(rows.levels))}
    value_range = (-1.0, 1.0) if value_range is None else value_range
    images = ValueRange.given(value_range).to_user(np.asarray(images)).numpy()
    everything = {"original": images, **rows}
    count, height, width = images.shape[:3]
    figure = figure or new_figure(1.3 * count + 0.4, (1.3 * height / width + 0.25) * len(everything))
    axes = figure.subplots(len(everything), count, squeeze=False)
    for line, (title, pictures) in zip(axes, everything.items(), strict=True):
        quality = None if pictures is images else psnr(images, pictures, value_range)
        for column, (ax, picture) in enumerate(zip(line, as_shown(pictures, value_range), strict=True)):
            show(ax, picture)
            if quality is not None:
                ax.set_xlabel(f"{quality[column]:.1f} dB", fontsize=7, labelpad=1)
        line[0].set_ylabel(title, fontsize=8)
    return figure


def grid(
    images: np.ndarray | Mapping[str, np.ndarray],
    columns: int = 10,
    value_range: Range = (-1.0, 1.0),
    ax: Axes | None = None,
) -> Figure | SubFigure:
    """Plots images side by side, such as generated samples.

    Several sets of images are drawn below each other, each with a title.

    Args:
        images: `(N, H, W, C)`, uint8 or float; or a dict from title to images.
        columns: number of images per row.
        value_range: `(low, high)`, value range of float images.
        ax: matplotlib axes to draw into, for a single set; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: `columns` is not a positive whole number, or `ax` is given for several sets.
        ImportError: matplotlib is not installed.

    Example:
        >>> plots.grid(sae.decode(vae.generate(40, seed=0))).savefig("samples.png")
    """
    columns = positive_int("columns", columns)
    sets = images if isinstance(images, Mapping) else {"": images}
    if ax is not None and len(sets) > 1:
        raise ValueError(f"`ax` must be left out for several sets of images. Received: {len(sets)} sets")
    pictures = {title: mosaic(as_shown(each, value_range), columns) for title, each in sets.items()}
    if ax is not None:
        axes = [ax]
    else:
        heights = [6.0 * len(picture) / picture.shape[1] for picture in pictures.values()]
        figure = new_figure(6.0, sum(heights) + 0.3 * sum(map(bool, sets)))
        axes = figure.subplots(len(sets), squeeze=False, height_ratios=heights)[:, 0]
    for one, (title, picture) in zip(axes, pictures.items(), strict=True):
        show(one, picture)
        one.set_title(title, fontsize=9, loc="left", pad=3)
    return axes[0].figure


def interpolations(
    sae: Autoencoder,
    first: np.ndarray,
    last: np.ndarray,
    n: int = 8,
    level: int | None = None,
    head: VAE | None = None,
    ax: Axes | None = None,
) -> Figure | SubFigure:
    """Plots interpolations between pairs of images, one row per pair, with the original images at both ends.

    The images are decoded from equal steps between the encodings of the two original images.

    Args:
        sae: `Autoencoder` that encodes and decodes.
        first: `(N, H, W, C)`, first images of the rows.
        last: `(N, H, W, C)`, last images of the rows.
        n: number of decoded images per row, including both ends; at least 2.
        level: level index of the encodings; by default the last level.
        head: a `heads.VAE` trained on these encodings. The steps are then equal steps between its latent values.
        ax: matplotlib axes to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: `first` and `last` have different lengths, or `n` is below 2.
        ImportError: matplotlib is not installed.

    Example:
        >>> plots.interpolations(sae, images[:3], images[3:6]).savefig("interpolations.png")
    """
    n = positive_int("n", n, least=2)
    if len(first) != len(last):
        raise ValueError(f"`first` and `last` must have the same length. Received: {len(first)} and {len(last)}")
    start, end = sae.encode(first, level), sae.encode(last, level)
    if head is None:
        shares = np.linspace(0, 1, n, dtype=np.float32).reshape(n, *[1] * (start.ndim - 1))
        between = [one + shares * (other - one) for one, other in zip(start, end, strict=True)]
    else:
        between = [head.interpolate(one, other, n) for one, other in zip(start, end, strict=True)]
    values = sae.stack.values
    parts = [values.to_user(first).numpy(), sae.decode(np.concatenate(between), level), values.to_user(last).numpy()]
    ends_and_steps = [
        mosaic(as_shown(part, sae.value_range), columns) for part, columns in zip(parts, (1, n, 1), strict=True)
    ]
    height, side = ends_and_steps[0].shape[:2]
    space = np.full((height, side // 4, 3), np.nan, np.float32)
    picture = np.concatenate([ends_and_steps[0], space, ends_and_steps[1], space, ends_and_steps[2]], axis=1)
    ax = axes_of(ax, 7.0, 7.0 * height / picture.shape[1] + 0.25)
    show(ax, picture)
    centres = side / 2, picture.shape[1] / 2, picture.shape[1] - side / 2
    for centre, title in zip(centres, ("original", "decoded", "original"), strict=True):
        ax.annotate(title, (centre, 0), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    return ax.figure
