"""Networks that heads share: residual blocks, averaged weights, and the network from latent values to encodings."""

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


def residual_block(hidden: keras.KerasTensor, block_input: keras.KerasTensor, layer: type) -> keras.KerasTensor:
    """Adds a residual block of two layers to `hidden`. The second layer is initialised with zeros.

    Args:
        hidden: `(N, …, units)`.
        block_input: input of the first layer, of the same shape.
        layer: `Dense`, or a convolution class. The first convolution has a kernel size of 3, the second of 1.
    """
    units = hidden.shape[-1]
    first, second = ({}, {}) if layer is layers.Dense else ({"kernel_size": 3, "padding": "same"}, {"kernel_size": 1})
    inner = layer(units, activation=silu, kernel_initializer="he_normal", **first)(block_input)
    return layers.Add()([hidden, layer(units, kernel_initializer="zeros", **second)(inner)])


def silu(values: keras.KerasTensor) -> keras.KerasTensor:
    """Computes Keras's `silu` without TensorFlow's own function, which keeps every graph that traces it in memory.

    Keras saves functions by name, so saved models contain Keras's `silu`.
    """
    return values * ops.sigmoid(values)


EXPONENT = 6.94  # averages over about the last tenth of all steps


def follow(averaged: keras.Model, network: keras.Model, step: tf.Tensor) -> None:
    """Updates averaged weights after a training step.

    Args:
        averaged: model with averaged weights.
        network: model in training.
        step: number of the step, counted from 1. The share of the new weights decreases with it, so that no averaging
            length has to be chosen.

    Reference:
        Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models" (arXiv:2312.02696),
        section 3.1.
    """
    kept = (1 - 1 / step) ** (EXPONENT + 1)
    for average, weight in zip(averaged.variables, network.variables, strict=True):
        average.assign(weight + kept * (average - weight))


STREAMED = 1024  # encodings per batch in closed-form initialisations
LEAST_NOISE = 1e-4  # smallest noise of the initial model, relative to the variance of the encodings


def restorer(shape: Shape, latent_dim: int, width: int, depth: int = 0) -> keras.Model:
    """Builds a network from latent values `(N, latent_dim)` to encodings `(N, *shape)`.

    It is the sum of a linear path and a network whose last layer is initialised with zeros.

    Args:
        shape: shape of one encoding.
        latent_dim: number of latent values.
        width: filters of the convolutions. Dense layers have four times as many units.
        depth: number of residual blocks: of convolutions for images, of dense layers for vectors and sequences.
    """
    inputs = layers.Input((latent_dim,))
    size = math.prod(shape)
    hidden = layers.Dense(4 * width, activation=silu)(inputs)
    if len(shape) == 3:
        image_shape = (*shape[:2], width)
        hidden = layers.Reshape(image_shape)(layers.Dense(math.prod(image_shape), activation=silu)(hidden))
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
    """Returns PCA with `n` components of standardised encodings `(N, …)`."""
    return fit_linear_code(streamed(values), None, n)


def streamed(values: np.ndarray) -> BatchFunction:
    """Returns a function that iterates over an array in batches, as closed-form initialisations need it."""
    return lambda: np.array_split(values, math.ceil(len(values) / STREAMED))


def start_restorer(model: keras.Model, code: LinearCode) -> tuple[np.ndarray, np.ndarray]:
    """Initialises the linear path as probabilistic PCA (Tipping and Bishop 1999, section 3.2).

    Returns:
        The factors of the components in the encoder, and the log-variance of the posterior.
    """
    size, latent_dim = code.components.shape
    noise = max(code.residual * size / max(size - latent_dim, 1), LEAST_NOISE)
    down, up, log_variance = variational_gains(code.variances, noise)
    model.get_layer("linear").set_weights([(code.components * up).T, code.mean])
    return down, log_variance
