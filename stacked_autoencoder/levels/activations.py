"""Activations by name, and where on them a linear start is nearly exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.utils.checks import did_you_mean

NOT_ACTIVATIONS = ("deserialize", "get", "serialize")  # of the names in `keras.activations`
WITHIN_UNIT_INTERVAL = ("sigmoid", "hard_sigmoid", "softmax", "sparse_sigmoid", "sparsemax")
SATURATING = ("sigmoid", "hard_sigmoid", "tanh", "hard_tanh", "softsign", "sparse_sigmoid")
SLOPES = {"sigmoid": 1 / 4, "hard_sigmoid": 1 / 6}  # at zero, of those that aren't 1 there
# (gain, offset) such that activation(gain * y + offset) is about y where images are: sigmoid's for [0, 1].
INVERSES = {"sigmoid": (6.0, -3.0), "hard_sigmoid": (6.0, -3.0), "tanh": (1.5, 0.0)}


def activation_name(argument: str, activation: Any) -> str:
    """The name of a Keras activation, such as `"relu"`; `None` is `"linear"`.

    Raises:
        ValueError: there is none of that name, or it isn't one of Keras's, which alone load everywhere.
    """
    known = sorted(name for name in dir(keras.activations) if not name.startswith("_") and name not in NOT_ACTIVATIONS)
    name = "linear" if activation is None else activation
    if callable(activation) and getattr(keras.activations, getattr(activation, "__name__", ""), None) is activation:
        name = activation.__name__
    if name not in known:
        raise ValueError(
            f"`{argument}` must be one of Keras's activations: {did_you_mean(name, known)}Known are "
            f"{', '.join(known)}. Received: {argument}={activation!r}"
        )
    return name


def apply(name: str, values: np.ndarray) -> np.ndarray:
    """What the activation gives, in float64."""
    function: Callable[[np.ndarray], Any] = keras.activations.get(name)
    return np.asarray(function(np.asarray(values, np.float32)), np.float64)
