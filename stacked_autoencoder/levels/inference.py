"""Encoders and decoders at work: one graph for any batch size, and no more of it than has an effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

LINEAR, RESIDUAL = "linear", "residual"  # what writes a level's output, if its two paths are added


SUMS = ("encoding", "decoding")


def compiled(model: keras.Model) -> Callable[..., tf.Tensor]:
    """The model's inference as one graph, traced once; `predict_on_batch` would trace, and warn, per batch size."""
    signature = [tf.TensorSpec((None, *each.shape[1:]), each.dtype) for each in model.inputs]

    def infer(*inputs: tf.Tensor) -> tf.Tensor:
        return model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)

    return tf.function(infer).get_concrete_function(*signature)


class Inference:
    """A level's encoder or decoder.

    Residual paths end in zeros until they are trained. So long the linear path alone is computed, which is most of what
    `train(…, epochs=0)` and an `evaluate` after it take.

    Args:
        model: one input, one output; its weights may change at any time.
        output_layers: names of the layers that write its output, as in `Level.output_layers`.
        faster: makes a model that computes the same.
    """

    def __init__(
        self,
        model: keras.Model,
        output_layers: Sequence[str],
        faster: Callable[[keras.Model], keras.Model] | None = None,
    ) -> None:
        self.model = model
        self.faster = faster
        self.residual = _residual(model) if tuple(output_layers) == (LINEAR, RESIDUAL) else None
        self.calls: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {}

    def __call__(self, inputs: np.ndarray | tf.Tensor) -> np.ndarray:
        if self.residual is not None and any(np.any(weight) for weight in self.residual.get_weights()):
            self.residual = None  # it won't be zero again, and if it were, nothing would be wrong
            self.calls.clear()
        path = RESIDUAL if self.residual is None else LINEAR
        if path not in self.calls:
            model = self.model if path == RESIDUAL else linear_path(self.model)
            self.calls[path] = compiled(model if self.faster is None else self.faster(model))
        return np.asarray(self.calls[path](tf.convert_to_tensor(inputs)))  # `.numpy()` would copy


def linear_path(model: keras.Model) -> keras.Model:
    """What is left of a model where its residual path gives zeros, with its weights."""
    total, last = _sum_of(model), model.layers[-1]
    outputs = total.input[0]
    if last is not total:
        outputs = layers.Activation(last.activation, dtype=last.dtype_policy)(outputs)
    return keras.Model(model.input, outputs)


def _residual(model: keras.Model) -> layers.Layer | None:
    """The layer that output_layers the residual path, where that is added to the linear one."""
    return None if _sum_of(model) is None else model.get_layer(RESIDUAL)


def _sum_of(model: keras.Model) -> layers.Layer | None:
    return next((layer for layer in model.layers if layer.name in SUMS), None)
