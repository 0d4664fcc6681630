"""Figures of losses: over the epochs, and the error budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from stacked_autoencoder.plots.drawing import BLUE, GREY, ORANGE, axes_of, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


BAR = 0.38  # width of a bar relative to the distance between levels


def loss_curves(
    histories: Sequence[keras.callbacks.History],
    labels: Sequence[str] | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Plots training and validation loss of each level over the epochs.

    Each level has its own panel, because the losses of different levels are not comparable. A dashed line marks the
    loss before training. For a new level, this is the loss of the closed-form initialisation.

    Args:
        histories: list of `History`, as `Autoencoder.train` returns it.
        labels: one title per history; by default `level 0`, `level 1`, ….
        figure: matplotlib figure or sub-figure to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> histories = sae.train(images, epochs=10)
        >>> plots.loss_curves(histories).savefig("losses.png")
    """
    figure = figure or new_figure(3.4 * len(histories), 2.8)
    axes = figure.subplots(1, len(histories), squeeze=False)[0]
    for index, (ax, history) in enumerate(zip(axes, histories, strict=True)):
        epochs = np.arange(1, len(history.history["loss"]) + 1)
        marker = "o" if len(epochs) < 2 else None  # a line needs two points
        ax.plot(epochs, history.history["loss"], color=BLUE, marker=marker, label="training")
        if "val_loss" in history.history:
            ax.plot(epochs, history.history["val_loss"], color=ORANGE, marker=marker, label="validation")
        ax.axhline(history.start_loss, color=GREY, linestyle="--", linewidth=1, label="before training")
        ax.set(title=labels[index] if labels else f"level {index}", xlabel="epoch", yscale="log")
        ax.xaxis.get_major_locator().set_params(integer=True)
        _few_ticks(ax)
        ax.legend(fontsize=7, frameon=False)
    axes[0].set_ylabel("loss")
    return figure


def error_budget(budget: Mapping[int, Mapping[str, float]], ax: Axes | None = None) -> Figure | SubFigure:
    """Plots the full loss of each level next to the PCA loss.

    Args:
        budget: error budget, `sae.evaluate(images, return_dict=True)`.
        ax: matplotlib axes to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> plots.error_budget(sae.evaluate(images, return_dict=True)).savefig("budget.png")
    """
    ax = axes_of(ax, 1.2 + 1.7 * len(budget), 3.2)
    for side, (column, colour, label) in enumerate(
        (("full_loss", BLUE, "level"), ("pca_loss", ORANGE, "PCA (same number of values)"))
    ):
        losses = [row[column] for row in budget.values()]
        bars = ax.bar(np.arange(len(losses)) + (side - 0.5) * (BAR + 0.02), losses, BAR, color=colour, label=label)
        # A level that was trained on encodings only has no PCA of the images.
        ax.bar_label(bars, ["" if np.isnan(loss) else f"{loss:.2e}" for loss in losses], fontsize=8, padding=1)
    names = [f"level {index}\n{row['values']:,.0f} values" for index, row in budget.items()]
    ax.set_xticks(range(len(names)), names)
    ax.set(yscale="log", ylabel="mean squared error of images")
    ax.margins(y=0.15)
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)
    return ax.figure


def rate_distortion(rates: Mapping[int, Mapping[str, float]], ax: Axes | None = None) -> Figure | SubFigure:
    """Plots the loss of a stack and of PCA over the number of values per image.

    Args:
        rates: losses for several numbers of features, `sae.evaluate(images, n_out=[4, 8, 16, 32])`.
        ax: matplotlib axes to draw into; by default a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> plots.rate_distortion(sae.evaluate(images, n_out=[4, 8, 16, 32])).savefig("rates.png")
    """
    ax = axes_of(ax, 4.2, 3.2)
    values = [row["values"] for row in rates.values()]
    for column, colour, label in (("full_loss", BLUE, "stack"), ("pca_loss", ORANGE, "PCA (same number of values)")):
        ax.plot(values, [row[column] for row in rates.values()], color=colour, marker="o", label=label)
    ax.set(xscale="log", yscale="log", xlabel="values per image", ylabel="mean squared error of images")
    ax.set_xticks(values, [f"{value:,.0f}" for value in values])
    ax.minorticks_off()
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax.figure


def _few_ticks(ax: Axes) -> None:
    """Sets a few round ticks on a logarithmic axis of less than one decade, where matplotlib labels all of them."""
    from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

    low, high = ax.get_ylim()
    if high < 10 * low:
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(ScalarFormatter(useMathText=True))
        ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
