"""Fast inference with a level's models: one graph for all batch sizes, without paths that have no effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

LINEAR, RESIDUAL = "linear", "residual"  # names of the layers whose outputs are added to the output of a level
SUMS = ("encoding", "decoding")  # names of the layers that add them


def compiled(model: keras.Model) -> Callable[..., tf.Tensor]:
    """Compiles a model's inference as one graph that accepts all batch sizes.

    `predict_on_batch` would trace a new graph for each batch size and print a warning.
    """
    signature = [tf.TensorSpec((None, *each.shape[1:]), each.dtype) for each in model.inputs]

    def infer(*inputs: tf.Tensor) -> tf.Tensor:
        return model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)

    return tf.function(infer).get_concrete_function(*signature)


class Inference:
    """Callable that computes a level's encoder or decoder.

    The last layer of a residual path is zero until it is trained, except in decoders that read neighbouring encodings.
    Until then this class computes only the linear path, which saves most of the time of `train(…, epochs=0)`.

    Args:
        model: model with one input and one output. Its weights may change at any time.
        output_layers: names of the layers that compute its output, as in `Level.output_layers`.
        optimize: function that returns an equivalent but faster model.
    """

    def __init__(
        self,
        model: keras.Model,
        output_layers: Sequence[str],
        optimize: Callable[[keras.Model], keras.Model] | None = None,
    ) -> None:
        self.model = model
        self.optimize = optimize
        self.residual = _residual(model) if tuple(output_layers) == (LINEAR, RESIDUAL) else None
        self.calls: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {}

    def __call__(self, inputs: np.ndarray | tf.Tensor) -> np.ndarray:
        if self.residual is not None and any(np.any(weight) for weight in self.residual.get_weights()):
            self.residual = None  # from now on both paths are computed, which is always correct
            self.calls.clear()
        path = RESIDUAL if self.residual is None else LINEAR
        if path not in self.calls:
            model = self.model if path == RESIDUAL else linear_path(self.model)
            self.calls[path] = compiled(model if self.optimize is None else self.optimize(model))
        return np.asarray(self.calls[path](tf.convert_to_tensor(inputs)))  # `.numpy()` would copy


def linear_path(model: keras.Model) -> keras.Model:
    """Returns a model that computes only the linear path. It shares the weights of the given model."""
    total, last = _sum_of(model), model.layers[-1]
    outputs = total.input[0]
    if last is not total:
        outputs = layers.Activation(last.activation, dtype=last.dtype_policy)(outputs)
    return keras.Model(model.input, outputs)


def _residual(model: keras.Model) -> layers.Layer | None:
    """Returns the last layer of the residual path, or `None` if the model has no such path."""
    return None if _sum_of(model) is None else model.get_layer(RESIDUAL)


def _sum_of(model: keras.Model) -> layers.Layer | None:
    return next((layer for layer in model.layers if layer.name in SUMS), None)
