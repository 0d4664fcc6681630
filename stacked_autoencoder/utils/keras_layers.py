"""Keras layers that do not depend on global settings of Keras.

Networks of levels and heads are `channels_last`, whatever `keras.config.image_data_format()` is. They compute in
float32 or in the mixed precision of the dtype policy of Keras, whatever `keras.config.floatx()` is. Import this module
as `layers`, instead of `keras.layers`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

DTYPE = "float32"  # of inputs, random numbers and statistics


def network_policy() -> keras.DTypePolicy | str:
    """Returns the current dtype policy of Keras, with float32 instead of float64."""
    policy = keras.config.dtype_policy()
    return DTYPE if policy.compute_dtype == "float64" else policy


def _independent(kind: Callable[..., keras.layers.Layer]) -> Callable[..., keras.layers.Layer]:
    has_format = "data_format" in inspect.signature(kind).parameters

    @functools.wraps(kind, updated=())
    def make(*arguments: Any, **options: Any) -> keras.layers.Layer:
        if has_format:
            options.setdefault("data_format", "channels_last")
        if options.get("dtype") is None:
            options["dtype"] = network_policy()
        return kind(*arguments, **options)

    return make


Layer = keras.layers.Layer
Activation = _independent(keras.layers.Activation)
Add = _independent(keras.layers.Add)
AveragePooling2D = _independent(keras.layers.AveragePooling2D)
Concatenate = _independent(keras.layers.Concatenate)
Conv1D = _independent(keras.layers.Conv1D)
Conv2D = _independent(keras.layers.Conv2D)
Conv2DTranspose = _independent(keras.layers.Conv2DTranspose)
Cropping1D = _independent(keras.layers.Cropping1D)
Dense = _independent(keras.layers.Dense)
DepthwiseConv2D = _independent(keras.layers.DepthwiseConv2D)
Dropout = _independent(keras.layers.Dropout)
EinsumDense = _independent(keras.layers.EinsumDense)
Embedding = _independent(keras.layers.Embedding)
Flatten = _independent(keras.layers.Flatten)
GlobalAveragePooling2D = _independent(keras.layers.GlobalAveragePooling2D)
GRU = _independent(keras.layers.GRU)
GRUCell = _independent(keras.layers.GRUCell)
LeakyReLU = _independent(keras.layers.LeakyReLU)
LSTM = _independent(keras.layers.LSTM)
LSTMCell = _independent(keras.layers.LSTMCell)
Masking = _independent(keras.layers.Masking)
MaxPooling2D = _independent(keras.layers.MaxPooling2D)
Multiply = _independent(keras.layers.Multiply)
Normalization = _independent(keras.layers.Normalization)
RepeatVector = _independent(keras.layers.RepeatVector)
Reshape = _independent(keras.layers.Reshape)
UpSampling2D = _independent(keras.layers.UpSampling2D)


def Input(shape: tuple[int | None, ...], dtype: str = DTYPE) -> keras.KerasTensor:
    """`keras.Input`, float32 by default."""
    return keras.Input(shape, dtype=dtype)
