"""Figures of the scores of anomaly detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from stacked_autoencoder.plots.drawing import BLUE, GREY, ORANGE, axes_of, bare, new_figure, show
from stacked_autoencoder.utils.images import as_shown
from stacked_autoencoder.utils.value_range import Range, ValueRange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLOURS = (BLUE, ORANGE, GREY)
QUANTILE = 0.995  # of all maps; larger values have the colour of this one


def heat_maps(
    images: np.ndarray,
    maps: np.ndarray,
    value_range: Range = (-1.0, 1.0),
    threshold: float | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Plots images above maps of anomaly scores or errors. All maps have the same colour scale.

    Args:
        images: `(N, H, W, C)`, uint8 or float; one column per image.
        maps: `(N, H, W)`, such as `detector.score_map(images)` or `sae.error_maps(images)`.
        value_range: `(low, high)`, value range of float images.
        threshold: score whose contour is drawn; by default none.
        figure: matplotlib figure or sub-figure to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the sizes of images and maps differ, or there are no images.

    Example:
        >>> plots.heat_maps(images[:8], detector.score_map(images[:8])).savefig("maps.png")
    """
    images, maps = np.asarray(images), np.asarray(maps, np.float64)
    if images.ndim != 4 or maps.shape != images.shape[:3] or not len(images):
        raise ValueError(
            "`maps` must have the shape (N, H, W) of `images`, such as `detector.score_map(images)`, and there must be "
            "at least one image. Received: maps "
            f"of shape {maps.shape} for images of shape {images.shape}"
        )
    count, height, width = maps.shape
    figure = figure or new_figure(1.3 * count + 0.6, 2 * (1.3 * height / width + 0.1))
    axes = figure.subplots(2, count, squeeze=False)
    pictures = as_shown(ValueRange.given(value_range).to_user(images).numpy(), value_range)
    low, high = (float(np.nanquantile(maps, share)) for share in (0, QUANTILE))
    for (above, below), image, values in zip(axes.T, pictures, maps, strict=True):
        show(above, image)
        heat_map = below.imshow(values, cmap="viridis", vmin=low, vmax=high)
        bare(below)
        if threshold is not None and np.nanmin(values) < threshold < np.nanmax(values):
            below.contour(values, levels=[threshold], colors="white", linewidths=0.8)
    figure.colorbar(heat_map, ax=[*axes[1]], fraction=0.05, pad=0.02)
    return figure


def score_histogram(
    scores: np.ndarray | Mapping[str, np.ndarray],
    threshold: float | None = None,
    ax: Axes | None = None,
) -> Figure | SubFigure:
    """Plots how often anomaly scores occur, with the threshold as a dashed line.

    Args:
        scores: `(N,)`, such as `detector.score(images)`; or a dict from title to scores.
        threshold: score above which an image is an anomaly, such as `detector.threshold`.
        ax: matplotlib axes to draw into; by default those of a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there are no scores, or they are not finite numbers of at least 0.

    Example:
        >>> scores = {"normal": detector.score(normal), "new": detector.score(images)}
        >>> plots.score_histogram(scores, detector.threshold).savefig("scores.png")
    """
    named = scores if isinstance(scores, Mapping) else {"": scores}
    named = {title: np.asarray(values, np.float64).ravel() for title, values in named.items()}
    all_scores = np.concatenate([*named.values(), np.empty(0)])
    is_valid = np.isfinite(all_scores) & (all_scores >= 0)
    if not (all_scores > 0).any() or not is_valid.all():
        raise ValueError(
            "`scores` must be finite numbers of at least 0, of which one is positive, such as "
            f"`detector.score(images)`. Received: {len(all_scores)} scores, of which {int((~is_valid).sum())} are "
            "negative or not finite"
        )
    least = all_scores[all_scores > 0].min()  # zeros are drawn here, since the axis is logarithmic
    ax = axes_of(ax, 4.5, 2.8)
    bins = np.geomspace(least, all_scores.max() * 1.001, 40)
    for index, (title, values) in enumerate(named.items()):
        weights = np.full(len(values), 1 / max(1, len(values)))
        ax.hist(
            np.maximum(values, least),
            bins,
            weights=weights,
            color=COLOURS[index % len(COLOURS)],
            alpha=0.6,
            label=title or None,
        )
    if threshold is not None:
        ax.axvline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    ax.set(xscale="log", xlabel="score", ylabel="share of images")
    ax.spines[["top", "right"]].set_visible(False)
    if any(named) or threshold is not None:
        ax.legend(fontsize=7, frameon=False)
    return ax.figure
