"""The version of this package, and of the packages that affect the files it writes."""

from __future__ import annotations

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Returns the versions of the packages that affect saved files, by name."""
    import keras
    import numpy as np
    import tensorflow as tf

    return {"stacked_autoencoder": __version__} | {module.__name__: module.__version__ for module in (keras, tf, np)}
