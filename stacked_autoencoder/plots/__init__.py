"""Pictures of a stack, its encodings and what is made of them.

Each function returns a matplotlib figure and opens no window. It draws into the `ax` or the `figure` (or sub-figure)
that it is given, and otherwise makes a figure of its own. Colours can be told apart by the colour-blind.

Matplotlib is an extra: `pip install "stacked_autoencoder[examples]"`.
"""

from __future__ import annotations

from stacked_autoencoder.plots.curves import error_budget, loss_curves
from stacked_autoencoder.plots.encodings import channels, latent_plane
from stacked_autoencoder.plots.features import features, filters
from stacked_autoencoder.plots.pictures import grid, interpolations, reconstructions

__all__ = [
    "channels",
    "error_budget",
    "features",
    "filters",
    "grid",
    "interpolations",
    "latent_plane",
    "loss_curves",
    "reconstructions",
]
