"""Lookup of Keras activations by name, and constants that the closed-form initialisation needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.utils.checks import did_you_mean

NOT_ACTIVATIONS = ("deserialize", "get", "serialize")  # functions of `keras.activations` that are not activations
WITHIN_UNIT_INTERVAL = ("sigmoid", "hard_sigmoid", "softmax", "sparse_sigmoid", "sparsemax")
SATURATING = ("sigmoid", "hard_sigmoid", "tanh", "hard_tanh", "softsign", "sparse_sigmoid")
SLOPES = {"sigmoid": 1 / 4, "hard_sigmoid": 1 / 6}  # slope at zero of the activations whose slope there is not 1
# (gain, offset) such that activation(gain * y + offset) is close to y in the usual value range of images, which is [0,
# 1] for a sigmoid.
INVERSES = {"sigmoid": (6.0, -3.0), "hard_sigmoid": (6.0, -3.0), "tanh": (1.5, 0.0)}


def activation_name(argument: str, activation: Any) -> str:
    """Returns the name of a Keras activation, such as `"relu"`.

    Args:
        argument: name of the argument that is checked, for the error message.
        activation: a name, a function of `keras.activations`, or `None` for `"linear"`.

    Raises:
        ValueError: the activation is not one of Keras. Only those can be loaded without further code.
    """
    known = sorted(name for name in dir(keras.activations) if not name.startswith("_") and name not in NOT_ACTIVATIONS)
    name = "linear" if activation is None else activation
    if callable(activation) and getattr(keras.activations, getattr(activation, "__name__", ""), None) is activation:
        name = activation.__name__
    if name not in known:
        raise ValueError(
            f"`{argument}` must be the name of a Keras activation: {did_you_mean(name, known)}The names are "
            f"{', '.join(known)}. Received: {argument}={activation!r}"
        )
    return name


def apply(name: str, values: np.ndarray) -> np.ndarray:
    """Returns the activation of `values`, computed in float32, as float64."""
    function: Callable[[np.ndarray], Any] = keras.activations.get(name)
    return np.asarray(function(np.asarray(values, np.float32)), np.float64)
