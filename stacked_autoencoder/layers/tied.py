"""Tied weights: a decoder that is computed with the encoder's kernels while it trains.

What is saved is the plain decoder, into whose layers `copy_out` writes the encoder's kernels, transposed.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf
from keras import layers, ops

from stacked_autoencoder.layers.patches import PatchConv2DTranspose, faster_in_training


class TransposedDense(layers.Layer):
    """A `Dense` layer computed with the transposed kernel of another one; only the bias is its own.

    Input shape:
        `(…, units of the mirrored layer)`.

    Output shape:
        `(…, inputs of the mirrored layer)`.
    """

    def __init__(self, dense: layers.Dense, mirrored: layers.Dense) -> None:
        super().__init__(dtype=dense.dtype_policy)
        self.kernel = mirrored.kernel
        self.bias = dense.bias
        self.activation = dense.activation
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.activation(ops.matmul(inputs, ops.transpose(self.kernel)) + self.bias)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.kernel.shape[0])


def tied(decoder: keras.Model, ties: Mapping[str, layers.Layer]) -> keras.Model:
    """The decoder as it trains: with the encoder's kernels where it mirrors them, and otherwise its own weights.

    Raises:
        ValueError: a layer's kernel isn't of the mirrored one's shape.
    """
    for name, mirrored in ties.items():
        own, other = decoder.get_layer(name).kernel.shape, transposed(mirrored).shape
        if own != other:
            raise ValueError(
                "Tied weights need a decoder that mirrors the encoder, layer by layer. Received: "
                f"{decoder.name}'s {name!r} with a kernel of shape {tuple(own)}, and the encoder's {mirrored.name!r}, "
                f"whose transpose has {tuple(other)}"
            )

    def with_kernel(layer: layers.Layer) -> layers.Layer:
        mirrored = ties.get(layer.name)
        if mirrored is None:
            return faster_in_training(layer)
        return (
            TransposedDense(layer, mirrored)
            if isinstance(layer, layers.Dense)
            else PatchConv2DTranspose(layer, mirrored.kernel)
        )

    return keras.models.clone_model(decoder, clone_function=with_kernel)


def copy_out(decoder: keras.Model, ties: Mapping[str, layers.Layer]) -> None:
    """Writes the encoder's kernels into the decoder's own layers."""
    for name, mirrored in ties.items():
        decoder.get_layer(name).kernel.assign(transposed(mirrored))


def transposed(mirrored: layers.Layer) -> tf.Tensor:
    """The kernel that turns a layer around. A convolution's is laid out as a transposed convolution needs it."""
    kernel = ops.convert_to_tensor(mirrored.kernel)
    return ops.transpose(kernel) if isinstance(mirrored, layers.Dense) else kernel
