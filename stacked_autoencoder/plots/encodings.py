"""Figures of encodings: their channels, and their distribution in a plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stacked_autoencoder.pca import fit_linear_code
from stacked_autoencoder.plots.drawing import axes_of, bare, new_figure, number_rows, show
from stacked_autoencoder.utils.images import as_shown, mosaic
from stacked_autoencoder.utils.value_range import Range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


COLUMNS = 8  # channels in a row
DIVERGING = "PuOr"  # suitable for colour-blind readers, white at zero
WITHIN = 99.5  # percentage of the values inside the colour scale
# Petroff 2021, "Accessible color sequences for data visualization" (arXiv:2107.02270), the sequence of ten colours.
CLASSES = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)


def channels(
    encodings: np.ndarray,
    images: np.ndarray | None = None,
    value_range: Range = (-1.0, 1.0),
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Plots the channels of image-shaped encodings as small pictures, one block per image.

    All channels share one colour scale. Encodings are isometric, so a weak channel has a weak effect on the image.

    Args:
        encodings: `(N, height, width, channels)`, float, such as `sae.encode(images, level)`.
        images: `(N, H, W, C)`, uint8 or float; drawn next to the encodings if given.
        value_range: `(low, high)`, value range of float images.
        figure: matplotlib figure or sub-figure to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: encodings are not image-shaped, or `images` has another length.
        ImportError: matplotlib is not installed.

    Example:
        >>> plots.channels(sae.encode(images[:4], level=0), images[:4]).savefig("channels.png")
    """
    if encodings.ndim != 4:
        raise ValueError(
            "`encodings` must have the shape (N, height, width, channels). For vectors use `latent_plane`. Received: "
            f"shape={encodings.shape}"
        )
    if images is not None and len(images) != len(encodings):
        raise ValueError(
            f"`images` and `encodings` must have the same length. Received: {len(images)} images, {len(encodings)} "
            "encodings"
        )
    count, height, width, n_channels = encodings.shape
    columns = min(COLUMNS, n_channels)
    gap = max(1, width // 12)
    widths = [0.75 * columns]  # inches
    tall = widths[0] * -(-n_channels // columns) * height / (columns * width)
    if images is not None:
        widths.insert(0, min(1.8, tall * images.shape[2] / images.shape[1]))
    figure = figure or new_figure(sum(widths) + 1.0, count * (tall + 0.1) + 0.25)
    axes = figure.subplots(count, len(widths), squeeze=False, width_ratios=widths)
    limit = float(np.percentile(np.abs(encodings), WITHIN)) or 1.0
    for index, encoding in enumerate(encodings):
        if images is not None:
            show(axes[index, 0], as_shown(images[index : index + 1], value_range)[0])
        ax = axes[index, -1]
        picture = mosaic(encoding.transpose(2, 0, 1)[..., None], columns, gap)[..., 0]
        drawn = ax.imshow(picture, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
        bare(ax)
        number_rows(ax, n_channels, columns, height, gap)
        ax.set_ylabel("channel", fontsize=8)
    figure.colorbar(drawn, ax=axes, label="value", fraction=0.03, pad=0.01, extend="both")
    return figure


def latent_plane(
    encodings: np.ndarray, labels: np.ndarray, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Figure | SubFigure:
    """Plots encodings as points in a plane, coloured by class.

    Encodings with more than two values are projected onto their two principal components.

    Args:
        encodings: `(N, 2)`, or `(N, …)` with more values, float.
        labels: `(N,)`, whole numbers from 0.
        names: names of the classes, by label; by default the numbers.
        ax: matplotlib axes to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: `labels` has another length than `encodings`, or encodings have only one value.
        ImportError: matplotlib is not installed.

    Example:
        >>> plots.latent_plane(sae.encode(images), labels, names=["cat", "dog"]).savefig("plane.png")
    """
    values = np.asarray(encodings).reshape(len(encodings), -1)
    labels = np.asarray(labels).reshape(-1)
    if len(labels) != len(values):
        raise ValueError(
            f"`labels` must contain one label for each encoding. Received: {len(labels)} labels, {len(values)} "
            "encodings"
        )
    if values.shape[1] < 2:
        raise ValueError(f"`encodings` must have at least two values each. Received: shape={np.shape(encodings)}")
    axes_names = ["value 0", "value 1"]
    if values.shape[1] > 2:
        code = fit_linear_code(lambda: [values], None, 2)
        total = code.variances.sum() + code.residual * len(code.mean)
        values = (values - code.mean) @ code.components
        axes_names = [
            f"principal component {index + 1} ({100 * variance / total:.0f} % of the variance)"
            for index, variance in enumerate(code.variances)
        ]
    ax = axes_of(ax, 5.6, 4.4)
    kinds = np.unique(labels)
    colours = dict(zip(kinds, _colours(len(kinds)), strict=True))
    order = np.random.default_rng(0).permutation(len(values))  # random order, so that no class hides the others
    ax.scatter(*values[order].T, s=6, c=[colours[label] for label in labels[order]], linewidths=0, alpha=0.8)
    for kind in kinds:
        ax.scatter([], [], s=24, color=colours[kind], label=str(kind) if names is None else names[kind])
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1)
    ax.set(xlabel=axes_names[0], ylabel=axes_names[1])
    ax.set_aspect("equal", adjustable="datalim")
    ax.spines[["top", "right"]].set_visible(False)
    return ax.figure


def _colours(count: int) -> Sequence[object]:
    """Returns colours of classes: distinct ones for up to ten classes, otherwise a colour map."""
    from matplotlib import colormaps

    return CLASSES[:count] if count <= len(CLASSES) else list(colormaps["viridis"](np.linspace(0, 1, count)))
