"""The residual block of the heads' networks."""

from __future__ import annotations

import keras
from keras import layers, ops


def residual_block(hidden: keras.KerasTensor, seen: keras.KerasTensor, layer: type) -> keras.KerasTensor:
    """Adds to `hidden` what two layers make of `seen`; nothing before training, as the second starts at zero.

    Args:
        hidden: `(N, …, units)`.
        seen: what the first layer is given, of the same shape.
        layer: `Dense`, or a convolution, whose first one sees three places a side and second one its own.
    """
    units = hidden.shape[-1]
    first, second = ({}, {}) if layer is layers.Dense else ({"kernel_size": 3, "padding": "same"}, {"kernel_size": 1})
    inner = layer(units, activation=silu, kernel_initializer="he_normal", **first)(seen)
    return layers.Add()([hidden, layer(units, kernel_initializer="zeros", **second)(inner)])


def silu(values: keras.KerasTensor) -> keras.KerasTensor:
    """Keras's `silu`, without TensorFlow's own gradient of it, which keeps every graph that it is traced in.

    Keras saves a function by its name, so what is saved has Keras's.
    """
    return values * ops.sigmoid(values)
