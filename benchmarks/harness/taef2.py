"""TAEF2, the tiny pretrained autoencoder for FLUX.2, as a Keras model.

The two weight files, `taef2_encoder.pth` and `taef2_decoder.pth`, are part of the repository
https://github.com/madebyollin/taesd (MIT licence). They are read with PyTorch, which only unpacks tensors from them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

VALUES = 32  # channels of the encoding
GROUPS = 4  # of the normalisation in the blocks at the lowest resolution
TORCH_EPSILON = 1e-5  # of group normalisation; Keras has 1e-3
LIMIT = 3.0  # of the encodings that the decoder reads

# The kind of each layer. Its position is part of the names of its weights. Both kinds of blocks are residual blocks.
ENCODER = ["conv", "block", *(["halve", "block", "block", "block"] * 2)]
ENCODER += ["halve", *(["pooled block"] * 3), "conv"]
DECODER = ["limit", "conv", "relu", *(["pooled block"] * 3)]
DECODER += [*(["double", "conv", "block", "block", "block"] * 2), "double", "conv", "block", "conv"]


def taef2(encoder_file: Path, decoder_file: Path) -> tuple[keras.Model, keras.Model]:
    """Encoder and decoder: images `(N, 64, 64, 3)` in [-1, 1] to encodings `(N, 8, 8, 32)`, and back."""
    images = keras.Input((None, None, 3))
    encodings = keras.Input((None, None, VALUES))
    encoder = keras.Model(images, _applied(ENCODER, (images + 1.0) / 2.0, _weights(encoder_file)))
    pixels = _applied(DECODER, encodings, _weights(decoder_file))
    return encoder, keras.Model(encodings, 2.0 * ops.clip(pixels, 0.0, 1.0) - 1.0)


def _weights(file: Path) -> dict[str, np.ndarray]:
    import torch

    tensors = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def _applied(network: Sequence[str], values: keras.KerasTensor, weights: Mapping[str, np.ndarray]) -> keras.KerasTensor:
    for index, kind in enumerate(network):
        if kind == "limit":
            values = LIMIT * ops.tanh(values / LIMIT)
        elif kind == "relu":
            values = ops.relu(values)
        elif kind == "double":
            values = layers.UpSampling2D(2)(values)
        elif "block" in kind:
            values = _block(values, weights, str(index), is_pooled="pooled" in kind)
        else:
            values = _convolution(values, weights, str(index), strides=2 if kind == "halve" else 1)
    return values


def _block(
    values: keras.KerasTensor, weights: Mapping[str, np.ndarray], name: str, is_pooled: bool
) -> keras.KerasTensor:
    """A residual block of three convolutions; a pooled one first adds normalised features of all pixels."""
    if is_pooled:
        pooled = _convolution(values, weights, f"{name}.pool.0")
        normalised = layers.GroupNormalization(GROUPS, epsilon=TORCH_EPSILON)
        pooled = ops.relu(normalised(pooled))
        normalised.set_weights([weights[f"{name}.pool.1.{part}"] for part in ("weight", "bias")])
        values = values + _convolution(pooled, weights, f"{name}.pool.3")
    inner = values
    for index in (0, 2, 4):
        inner = _convolution(inner, weights, f"{name}.conv.{index}")
        inner = ops.relu(inner) if index < 4 else inner
    return ops.relu(inner + values)


def _convolution(
    values: keras.KerasTensor, weights: Mapping[str, np.ndarray], name: str, strides: int = 1
) -> keras.KerasTensor:
    kernel, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    filters, _, side, _ = kernel.shape
    if side > 1:  # PyTorch pads both sides, Keras's "same" only one of them if there are strides
        values = layers.ZeroPadding2D(side // 2)(values)
    convolution = layers.Conv2D(filters, side, strides=strides, use_bias=bias is not None)
    outputs = convolution(values)
    convolution.set_weights([kernel.transpose(2, 3, 1, 0), *([] if bias is None else [bias])])
    return outputs
