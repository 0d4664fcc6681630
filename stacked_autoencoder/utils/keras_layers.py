"""Keras's layers, with everything stated that a global setting of the user's would change.

Networks of levels and heads are `channels_last`, whatever `keras.config.image_data_format()` says, and compute in
float32 or in the mixed precision that Keras's dtype policy asks for, whatever `keras.config.floatx()` says. Import this
module as `layers`, in place of `keras.layers`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

DTYPE = "float32"  # of inputs, random numbers and statistics


def network_policy() -> keras.DTypePolicy | str:
    """The dtype policy of layers: Keras's present one, float32 instead of float64."""
    policy = keras.config.dtype_policy()
    return DTYPE if policy.compute_dtype == "float64" else policy


def _stated(kind: Callable[..., keras.layers.Layer]) -> Callable[..., keras.layers.Layer]:
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
Activation = _stated(keras.layers.Activation)
Add = _stated(keras.layers.Add)
Concatenate = _stated(keras.layers.Concatenate)
Conv1D = _stated(keras.layers.Conv1D)
Conv2D = _stated(keras.layers.Conv2D)
Conv2DTranspose = _stated(keras.layers.Conv2DTranspose)
Cropping1D = _stated(keras.layers.Cropping1D)
Dense = _stated(keras.layers.Dense)
Dropout = _stated(keras.layers.Dropout)
Embedding = _stated(keras.layers.Embedding)
Flatten = _stated(keras.layers.Flatten)
GlobalAveragePooling2D = _stated(keras.layers.GlobalAveragePooling2D)
GRU = _stated(keras.layers.GRU)
GRUCell = _stated(keras.layers.GRUCell)
LeakyReLU = _stated(keras.layers.LeakyReLU)
LSTM = _stated(keras.layers.LSTM)
LSTMCell = _stated(keras.layers.LSTMCell)
Masking = _stated(keras.layers.Masking)
MaxPooling2D = _stated(keras.layers.MaxPooling2D)
Multiply = _stated(keras.layers.Multiply)
Normalization = _stated(keras.layers.Normalization)
RepeatVector = _stated(keras.layers.RepeatVector)
Reshape = _stated(keras.layers.Reshape)
UpSampling2D = _stated(keras.layers.UpSampling2D)


def Input(shape: tuple[int | None, ...], dtype: str = DTYPE) -> keras.KerasTensor:
    """`keras.Input`, float32 by default."""
    return keras.Input(shape, dtype=dtype)
