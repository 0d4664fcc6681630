"""What all pictures share: figures without windows, colours, and images side by side as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#7F7F7F"  # of Okabe and Ito 2008, "Color universal design", but the grey


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that no window shows and that notebooks display."""
    try:
        from stacked_autoencoder.plots.notebook_figure import NotebookFigure
    except ImportError as error:
        raise ImportError("Plots need matplotlib: `pip install matplotlib`.") from error
    return NotebookFigure(figsize=(width, height), layout="constrained")


def axes_of(ax: Axes | None, width: float, height: float) -> Axes:
    """Those given, or the only ones of a new figure."""
    return new_figure(width, height).subplots() if ax is None else ax


def show(ax: Axes, picture: np.ndarray) -> None:
    """Draws `(H, W, 3)` in [0, 1], white where there is nothing, without a frame."""
    ax.imshow(np.nan_to_num(picture, nan=1.0))
    bare(ax)


def bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def number_rows(ax: Axes, count: int, columns: int, height: int, gap: int) -> None:
    """Writes beside each row of a mosaic of `count` tiles which one is its first."""
    firsts = np.arange(0, count, columns)
    ax.set_yticks(firsts // columns * (height + gap) + (height - 1) / 2, firsts.astype(str), fontsize=8)
    ax.tick_params(length=0)
