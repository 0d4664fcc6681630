"""Functions that all plots use: figures without a window, colours, axes without a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#7F7F7F"  # blue and orange of Okabe and Ito 2008, "Color universal design"


def new_figure(width: float, height: float) -> Figure:
    """Creates a figure, with its size in inches. It opens no window, and notebooks display it."""
    try:
        from stacked_autoencoder.plots.notebook_figure import NotebookFigure
    except ImportError as error:
        raise ImportError('Plots need matplotlib: `pip install "stacked_autoencoder[examples]"`.') from error
    return NotebookFigure(figsize=(width, height), layout="constrained")


def axes_of(ax: Axes | None, width: float, height: float) -> Axes:
    """Returns the given axes, or those of a new figure."""
    return new_figure(width, height).subplots() if ax is None else ax


def show(ax: Axes, picture: np.ndarray) -> None:
    """Draws a picture `(H, W, 3)` with values in [0, 1] without a frame. NaN is white."""
    ax.imshow(np.nan_to_num(picture, nan=1.0))
    bare(ax)


def bare(ax: Axes) -> None:
    """Removes ticks and frame."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def number_rows(ax: Axes, count: int, columns: int, height: int, gap: int) -> None:
    """Labels each row of a mosaic of `count` tiles with the index of its first tile."""
    firsts = np.arange(0, count, columns)
    ax.set_yticks(firsts // columns * (height + gap) + (height - 1) / 2, firsts.astype(str), fontsize=8)
    ax.tick_params(length=0)
