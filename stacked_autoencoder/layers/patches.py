"""Convolutions, plain and transposed, whose kernel is their stride, computed as what they are: a product per patch."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import layers, ops


class PatchLayer(layers.Layer):
    """Computes a convolution whose kernel is its stride, with that layer's own weights.

    Args:
        convolution: the layer.
        kernel: another one to compute it with, of the same shape.
    """

    def __init__(self, convolution: layers.Layer, kernel: keras.Variable | None = None) -> None:
        super().__init__(dtype=convolution.dtype_policy)
        self.kernel = convolution.kernel if kernel is None else kernel
        self.bias = convolution.bias
        self.activation = convolution.activation
        self.shape_of = convolution.compute_output_shape
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.shape_of(input_shape)


class PatchConv2D(PatchLayer):
    """Computes a `Conv2D`.

    One patch of the input alone gives one pixel of the output. TensorFlow's gradient of such a kernel takes several
    times as long as a matrix product: as products, a training step of a level takes 0.91 to 0.99 of the time on a CPU,
    and 0.96 of that with kernels of one pixel as products, too: 0.82 where an image has few. Inference gains nothing.

    Input shape:
        `(N, H, W, C)`.

    Output shape:
        `(N, H // stride, W // stride, filters)`.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        tall, wide, channels, filters = self.kernel.shape
        _, height, width, _ = ops.shape(inputs)
        rows, columns = height // tall, width // wide
        if tall * wide > 1:  # a patch of one pixel lies as it should
            inputs = inputs[:, : rows * tall, : columns * wide]
            patches = ops.reshape(inputs, (-1, rows, tall, columns, wide, channels))
            inputs = ops.transpose(patches, (0, 1, 3, 2, 4, 5))
        matrix = ops.reshape(self.kernel, (-1, filters))
        outputs = ops.matmul(ops.reshape(inputs, (-1, matrix.shape[0])), matrix)
        if self.bias is not None:
            outputs = outputs + self.bias
        return self.activation(ops.reshape(outputs, (-1, rows, columns, filters)))


class PatchConv2DTranspose(PatchLayer):
    """Computes a `Conv2DTranspose`, whose kernel is `(stride, stride, filters, C)`.

    One pixel of the input alone gives one patch of the output. TensorFlow computes the layer as the gradient of a
    convolution, which takes a CPU several times as long as a matrix product where the output has three channels: as a
    product, a whole training step of a level takes 0.75 to 0.85 of the time.

    Input shape:
        `(N, H, W, C)`.

    Output shape:
        `(N, H * stride, W * stride, filters)`.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        tall, wide, filters, channels = self.kernel.shape
        _, height, width, _ = ops.shape(inputs)
        matrix = ops.reshape(ops.transpose(self.kernel, (3, 0, 1, 2)), (channels, -1))
        patches = ops.matmul(ops.reshape(inputs, (-1, channels)), matrix)
        if self.bias is not None:  # to long rows: sums over an image's three channels take longer
            patches = patches + ops.tile(self.bias, (tall * wide,))
        patches = ops.transpose(ops.reshape(patches, (-1, height, width, tall, wide, filters)), (0, 1, 3, 2, 4, 5))
        return self.activation(ops.reshape(patches, (-1, height * tall, width * wide, filters)))


def patch_by_patch(model: keras.Model) -> keras.Model:
    """The same function of the same weights, inferred faster: for what runs here, never for what is saved."""
    return keras.models.clone_model(model, clone_function=faster, recursive=True)


def trained_by_patch(model: keras.Model) -> keras.Model:
    """The same function of the same weights, trained faster; the model itself where nothing is."""
    if not any(map(_is_by_patch, model.layers)):
        return model
    return keras.models.clone_model(model, clone_function=faster_in_training)


def faster(layer: layers.Layer) -> layers.Layer:
    """A layer that computes what this one does, with its weights; or the layer itself where there is none."""
    is_patches = (
        type(layer) is layers.Conv2DTranspose
        and layer.strides == layer.kernel_size
        and layer.output_padding is None
        and layer.data_format == "channels_last"
    )
    return PatchConv2DTranspose(layer) if is_patches else layer


def faster_in_training(layer: layers.Layer) -> layers.Layer:
    return PatchConv2D(layer) if _is_by_patch(layer) else faster(layer)


def _is_by_patch(layer: layers.Layer) -> bool:
    return (
        type(layer) is layers.Conv2D
        and layer.strides == layer.kernel_size
        and (layer.padding == "valid" or layer.kernel_size == (1, 1))
        and layer.groups == 1
        and not layer.lora_enabled  # whose kernel is computed
        and layer.dilation_rate == (1, 1)
        and layer.data_format == "channels_last"
    )
