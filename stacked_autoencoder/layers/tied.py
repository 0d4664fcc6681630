"""Tied weights: in training, the decoder uses the kernels of the encoder.

The saved decoder is a plain Keras model. `copy_out` writes the transposed kernels of the encoder into its layers.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf
from keras import layers, ops

from stacked_autoencoder.layers.patches import PatchConv2DTranspose, with_matrix_product_in_training


class TransposedDense(layers.Layer):
    """Computes a `Dense` layer with the transposed kernel of another `Dense` layer and a separate bias.

    Args:
        dense: layer that provides bias and activation.
        mirrored: layer that provides the kernel.

    Input shape:
        `(…, units of mirrored)`.

    Output shape:
        `(…, inputs of mirrored)`.
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
    """Returns the decoder in training, which uses the encoder's kernels where layers are tied.

    Args:
        decoder: the decoder that is saved.
        ties: name of a decoder's layer → the encoder's layer that provides its kernel.

    Raises:
        ValueError: the kernels of two tied layers have different shapes.
    """
    for name, mirrored in ties.items():
        shape, expected = decoder.get_layer(name).kernel.shape, transposed(mirrored).shape
        if shape != expected:
            raise ValueError(
                f"Tied weights need a decoder that mirrors the encoder layer by layer. Received: layer {name!r} of "
                f"{decoder.name} with a kernel of shape {tuple(shape)}, and layer {mirrored.name!r} of the encoder, "
                f"whose transposed kernel has the shape {tuple(expected)}"
            )

    def with_kernel(layer: layers.Layer) -> layers.Layer:
        mirrored = ties.get(layer.name)
        if mirrored is None:
            return with_matrix_product_in_training(layer)
        return (
            TransposedDense(layer, mirrored)
            if isinstance(layer, layers.Dense)
            else PatchConv2DTranspose(layer, mirrored.kernel)
        )

    return keras.models.clone_model(decoder, clone_function=with_kernel)


def copy_out(decoder: keras.Model, ties: Mapping[str, layers.Layer]) -> None:
    """Writes the encoder's kernels into the tied layers of the decoder."""
    for name, mirrored in ties.items():
        decoder.get_layer(name).kernel.assign(transposed(mirrored))


def transposed(mirrored: layers.Layer) -> tf.Tensor:
    """Returns the kernel of the tied decoder layer. Transposed convolutions use a convolution's kernel as it is."""
    kernel = ops.convert_to_tensor(mirrored.kernel)
    return ops.transpose(kernel) if isinstance(mirrored, layers.Dense) else kernel
