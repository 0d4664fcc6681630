"""The residual block of the heads' networks."""

from __future__ import annotations

import keras
from keras import layers


def residual_block(hidden: keras.KerasTensor, seen: keras.KerasTensor, layer: type) -> keras.KerasTensor:
    """Adds to `hidden` what two layers make of `seen`; nothing before training, as the second starts at zero.

    Args:
        hidden: `(N, …, units)`.
        seen: what the first layer is given, of the same shape.
        layer: `Dense`, or a convolution, whose first one sees three places a side and second one its own.
    """
    units = hidden.shape[-1]
    first, second = ({}, {}) if layer is layers.Dense else ({"kernel_size": 3, "padding": "same"}, {"kernel_size": 1})
    inner = silu(layer(units, kernel_initializer="he_normal", **first)(seen))
    return layers.Add()([hidden, layer(units, kernel_initializer="zeros", **second)(inner)])


def silu(values: keras.KerasTensor) -> keras.KerasTensor:
    """`values * sigmoid(values)`, without the gradient of TensorFlow's own, which keeps every graph it is traced in."""
    return layers.Multiply()([values, layers.Activation("sigmoid")(values)])
