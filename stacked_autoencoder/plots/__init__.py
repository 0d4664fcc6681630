"""Figures of a stack, its encodings and its images.

Each function draws into the given `ax` or `figure` (or sub-figure), or creates a new figure, and returns the matplotlib
figure. No window is opened. The colours are suitable for colour-blind readers.

Matplotlib is an extra: `pip install "stacked_autoencoder[examples]"`.
"""

from __future__ import annotations

from stacked_autoencoder.plots.anomalies import heat_maps, most_and_least_typical, score_histogram
from stacked_autoencoder.plots.curves import error_budget, loss_curves, rate_distortion
from stacked_autoencoder.plots.encodings import channels, latent_plane
from stacked_autoencoder.plots.features import features, filters
from stacked_autoencoder.plots.pictures import grid, interpolations, reconstructions

__all__ = [
    "channels",
    "error_budget",
    "features",
    "filters",
    "grid",
    "heat_maps",
    "interpolations",
    "latent_plane",
    "loss_curves",
    "most_and_least_typical",
    "rate_distortion",
    "reconstructions",
    "score_histogram",
]
