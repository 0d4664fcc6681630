"""Networks that heads share: residual blocks, averaged weights, and the network from latent values to an encoding."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.distribution import BatchFunction
from stacked_autoencoder.levels.base import EXACT
from stacked_autoencoder.pca import LinearCode, fit_linear_code, variational_gains
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.images import Shape


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


EXPONENT = 6.94  # the average reaches back over a tenth of all steps so far


def follow(averaged: keras.Model, network: keras.Model, step: tf.Tensor) -> None:
    """Moves the average towards the network by the share that is due at this step, counted from 1.

    The share falls as training goes on, so that there is no length to choose (Karras et al. 2024, "Analyzing and
    improving the training dynamics of diffusion models", arXiv:2312.02696, section 3.1).
    """
    kept = (1 - 1 / step) ** (EXPONENT + 1)
    for average, weight in zip(averaged.variables, network.variables, strict=True):
        average.assign(weight + kept * (average - weight))


STREAMED = 1024  # encodings at a time, of which a start takes as many as it needs
LEAST_NOISE = 1e-4  # of the start, in variances of the encodings


def restorer(shape: Shape, latent_dim: int, width: int, depth: int = 0) -> keras.Model:
    """`(N, latent_dim)` → `(N, *shape)`: a linear path, and a network that ends in zeros.

    Args:
        shape: of one encoding.
        latent_dim: values that it is made of.
        width: filters; dense layers have four times as many units.
        depth: residual blocks of convolutions, or of dense layers for vectors and sequences.
    """
    inputs = layers.Input((latent_dim,))
    size = math.prod(shape)
    hidden = layers.Dense(4 * width, activation=silu)(inputs)
    if len(shape) == 3:
        wide = (*shape[:2], width)
        hidden = layers.Reshape(wide)(layers.Dense(math.prod(wide), activation=silu)(hidden))
        for _ in range(depth):
            hidden = residual_block(hidden, layers.Activation(silu)(hidden), layers.Conv2D)
        hidden = layers.Conv2D(width, 3, padding="same", activation=silu)(hidden)
        residual = layers.Conv2D(shape[-1], 3, padding="same", kernel_initializer="zeros", dtype=EXACT)(hidden)
    else:
        for _ in range(depth):
            hidden = residual_block(hidden, hidden, layers.Dense)
        hidden = layers.Dense(4 * width, activation=silu)(hidden)
        residual = layers.Dense(size, kernel_initializer="zeros", dtype=EXACT)(hidden)
        residual = layers.Reshape(shape, dtype=EXACT)(residual)
    linear = layers.Reshape(shape, dtype=EXACT)(layers.Dense(size, dtype=EXACT, name="linear")(inputs))
    return keras.Model(inputs, layers.Add(dtype=EXACT)([linear, residual]), name="restorer")


def linear_code(values: np.ndarray, n: int) -> LinearCode:
    """The best linear code of `n` values of standardised encodings `(N, …)`."""
    return fit_linear_code(streamed(values), None, n)


def streamed(values: np.ndarray) -> BatchFunction:
    """An array as what starts read."""
    return lambda: np.array_split(values, math.ceil(len(values) / STREAMED))


def start_restorer(model: keras.Model, code: LinearCode) -> tuple[np.ndarray, np.ndarray]:
    """Lets standard normal values give what probabilistic PCA does (Tipping and Bishop 1999, section 3.2).

    Returns:
        What the components are multiplied by on the way down, and the logarithm of the posterior's variance.
    """
    size, latent_dim = code.components.shape
    noise = max(code.residual * size / max(size - latent_dim, 1), LEAST_NOISE)
    down, up, log_variance = variational_gains(code.variances, noise)
    model.get_layer("linear").set_weights([(code.components * up).T, code.mean])
    return down, log_variance
