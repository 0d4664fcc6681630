"""Figures of the scores of anomaly detection."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.folder import FolderSource, reason_of
from stacked_autoencoder.data.image_folder import ImageFolder, holds_pictures
from stacked_autoencoder.plots.drawing import BLUE, GREY, ORANGE, axes_of, bare, new_figure, show
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.images import as_shown
from stacked_autoencoder.utils.value_range import Range, ValueRange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLOURS = (BLUE, ORANGE, GREY)
QUANTILE = 0.995  # of all maps; larger values have the colour of this one
FLATTEST, TALLEST = 0.6, 2.0  # height / width of the space for a picture, if pictures have different sizes
LONGEST_NAME = 22  # characters below a picture


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
    ax.set(xscale="log", xlabel="score", ylabel="share")
    ax.spines[["top", "right"]].set_visible(False)
    if any(named) or threshold is not None:
        ax.legend(fontsize=7, frameon=False)
    return ax.figure


def most_and_least_typical(
    images: np.ndarray | Sequence[np.ndarray] | ImageFolder | str | os.PathLike[str],
    scores: np.ndarray,
    count: int = 8,
    value_range: Range = (-1.0, 1.0),
    names: Sequence[str] | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Plots the images with the lowest scores above those with the highest scores, with the score of each.

    The lowest and the highest score are on the left.

    Args:
        images: `(N, H, W, C)`, uint8 or float; a list of images `(H, W, C)` of any sizes; or an `ImageFolder` or the
            path of a folder. Of a folder, only the pictures in the figure are read.
        scores: `(N,)`, such as `detector.score(images)` or `sae.errors(images)`.
        count: maximum number of images in each row. A row has at most half of all images.
        value_range: `(low, high)`, value range of float images.
        names: `N` names of the images, which are drawn below the scores; by default those of a folder, and none for
            arrays. Only the end of a long name is drawn.
        figure: matplotlib figure or sub-figure to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: `images` is a dataset, there are fewer than two images, the numbers of images, scores and names
            differ, a score is not finite, or a picture of the folder cannot be read.

    Example:
        >>> folder = ImageFolder("photos", side=64)
        >>> plots.most_and_least_typical(folder, detector.score(folder)).savefig("typical.png")
    """
    count, values = positive_int("count", count), ValueRange.given(value_range, missing="ignore")
    if holds_pictures(images):
        images = ImageFolder(images)
    elif not isinstance(images, ImageFolder) and not hasattr(images, "__getitem__"):
        raise ValueError(
            "`images` must be an array, a list of images, an `ImageFolder` or the path of a folder, since only the "
            "images in the figure are read. Convert a batched dataset to a list: "
            f"`[*dataset.unbatch().as_numpy_iterator()]`. Received: {type(images).__name__}"
        )
    scores = np.asarray(scores, np.float64)
    is_finite = np.isfinite(scores)
    if len(images) < 2 or scores.shape != (len(images),) or not is_finite.all():
        raise ValueError(
            "`scores` must have one finite number for each image, such as `detector.score(images)`, and there must be "
            "at least two images. For a folder, pass the `ImageFolder` that was scored: it leaves out unreadable "
            f"pictures. Received: scores of shape {scores.shape}, of which {int((~is_finite).sum())} are not finite, "
            f"for {len(images)} images"
        )
    if names is None and isinstance(images, ImageFolder):
        names = images.names
    if names is not None and len(names) != len(images):
        raise ValueError(
            f"`names` must have one name for each image. Received: {len(names)} names, {len(images)} images"
        )
    columns = min(count, len(images) // 2)
    order = np.argsort(scores, kind="stable")
    rows = {"most typical": order[:columns], "least typical": order[: -columns - 1 : -1]}
    drawn = [index for indices in rows.values() for index in indices.tolist()]
    chosen = _read(images, drawn, values) if isinstance(images, ImageFolder) else [images[index] for index in drawn]
    pictures = [as_shown(np.asarray(image)[None], values.ends)[0] for image in chosen]
    tallest = max(len(picture) / picture.shape[1] for picture in pictures)
    height = 1.25 * min(max(tallest, FLATTEST), TALLEST) + (0.2 if names is None else 0.35)
    figure = figure or new_figure(1.3 * columns + 0.4, 2 * height)
    axes = figure.subplots(2, columns, squeeze=False)
    for ax, index, picture in zip(axes.flat, drawn, pictures, strict=True):
        show(ax, picture)
        ax.set_anchor("S")  # scores of pictures of different sizes are on one line
        label = _as_text(scores[index]) + ("" if names is None else f"\n{_shortened(names[index])}")
        ax.set_xlabel(label, fontsize=7, labelpad=1, parse_math=False)
    for (first, *_), title in zip(axes, rows, strict=True):
        first.set_ylabel(title, fontsize=8)
    return figure


def _read(folder: ImageFolder, indices: Sequence[int], values: ValueRange) -> list[np.ndarray]:
    """Reads pictures `(H, W, 3)` of a folder, by their indices in `folder.names`."""
    source = FolderSource(folder, (None, None, 3), 1, values)
    rows, pictures = source.readable(range(len(folder.files))), []
    for row in (rows[index] for index in indices):
        try:
            picture = source.picture(tf.constant(row), tf.constant([folder.seed, row], tf.int64))
        except tf.errors.OpError as error:
            raise ValueError(
                "A picture in the figure cannot be read. Repair or remove it, and score the folder again. Received: "
                f"{printable(folder.path / folder.files[row])} ({printable(reason_of(error))})"
            ) from None
        pictures.append(picture.numpy())
    return pictures


def _as_text(score: float) -> str:
    """Returns a score with three digits, or as a whole number if it has more."""
    return f"{score:,.0f}" if 1e3 <= abs(score) < 1e6 else f"{score:.3g}"


def _shortened(name: str) -> str:
    """Returns a name in one line, with the end of a long one."""
    name = printable(name)
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
