"""What all pictures share: figures without windows, colours, and images side by side as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#7F7F7F"  # of Okabe and Ito 2008, "Color universal design", but the grey
Range = tuple[float, float]


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that no window shows."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plots need matplotlib: `pip install matplotlib`.") from error
    return Figure(figsize=(width, height), layout="constrained")


def axes_of(ax: Axes | None, width: float, height: float) -> Axes:
    """Those given, or the only ones of a new figure."""
    return new_figure(width, height).subplots() if ax is None else ax


def as_shown(images: np.ndarray, value_range: Range) -> np.ndarray:
    """Images as they are drawn: `(N, H, W, 3)` in [0, 1]. What overshoots the range is cut off; `uint8` is known.

    Raises:
        ValueError: they have other channels than one or three.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"`images` must be (N, H, W, 1 or 3) to be drawn. Received: shape={images.shape}")
    low, high = (0.0, 255.0) if images.dtype == np.uint8 else value_range
    shown = np.clip((images - np.float32(low)) / (high - low), 0, 1)
    return np.broadcast_to(shown, (*images.shape[:3], 3))


def mosaic(tiles: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """`(N, H, W, C)` in rows of so many, as one `(…, …, C)`; between them, and what is left, is NaN."""
    count, height, width, channels = tiles.shape
    rows = max(1, -(-count // columns))
    placed = np.full((rows * columns, height + gap, width + gap, channels), np.nan, np.float32)
    placed[:count, :height, :width] = tiles
    placed = placed.reshape(rows, columns, height + gap, width + gap, channels).transpose(0, 2, 1, 3, 4)
    return placed.reshape(rows * (height + gap), columns * (width + gap), channels)[: -gap or None, : -gap or None]


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
