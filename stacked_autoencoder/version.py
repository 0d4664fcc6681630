"""The version of this package, and those of the packages that write files."""

from __future__ import annotations

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Versions of the packages that write to disk, by name."""
    import keras
    import numpy as np
    import tensorflow as tf

    return {"stacked_autoencoder": __version__} | {module.__name__: module.__version__ for module in (keras, tf, np)}
