"""The velocity of a flow, which moves noise to encodings between the times 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from stacked_autoencoder.heads.networks import residual_block, silu
from stacked_autoencoder.levels.base import EXACT
from stacked_autoencoder.pca import LinearCode
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.images import Shape

FREQUENCIES = 5  # number of frequencies of the time features, each twice the previous one
FEATURES = 128  # size of the vector that conditions blocks on time and class
LEAST_VARIANCE = 1e-6  # smallest variance along a direction, relative to the variance of the encodings
MOST_COMPONENTS = 1024  # components of the Gaussian; the remaining variance is spread evenly over all other directions
GLOBAL_WIDTH = 8  # units of the dense network relative to the filters of the convolutional one


Values = Any  # numpy arrays, tensors or symbolic Keras tensors


def gaussian_velocity(shape: Shape, components: int, classes: int) -> keras.Model:
    """Builds a model of the velocity that generates one Gaussian per class, all with one covariance.

    For data with mean `m` and variance `λ` along a direction, the interpolation `x = (1 - t) noise + t data` and the
    velocity `data - noise` are jointly normal. The conditional mean of the velocity is

        m + (t λ - (1 - t)) / (t² λ + (1 - t)²) · (x - t m)

    The weights are not trained. `set_gaussian` sets them.

    Args:
        shape: shape of one encoding.
        components: number of components of the covariance.
        classes: number of classes, 1 without classes.

    Returns:
        `keras.Model` with the inputs values `(N, *shape)`, time `(N, 1)` and class `(N,)`.
    """
    size = math.prod(shape)
    values, time, label = layers.Input(shape), layers.Input((1,)), layers.Input((), dtype="int32")
    mean = layers.Embedding(classes, size, dtype=EXACT, name="means")(label)
    centred = layers.Flatten(dtype=EXACT)(values) - time * mean
    remaining = 1 - time

    def gain(variance: keras.KerasTensor, squared: keras.KerasTensor) -> keras.KerasTensor:
        return (variance - remaining) / (squared + remaining * remaining)

    kernels = {"use_bias": False, "kernel_initializer": "zeros", "dtype": EXACT}
    variances = layers.Dense(components, name="variances", **kernels)
    residual = layers.Dense(1, name="residual", **kernels)
    base_gain = gain(residual(time), residual(time * time))
    along = layers.Dense(components, name="down", **kernels)(centred)
    along = along * (gain(variances(time), variances(time * time)) - base_gain)
    velocity = mean + base_gain * centred + layers.Dense(size, name="up", **kernels)(along)
    model = keras.Model([values, time, label], layers.Reshape(shape, dtype=EXACT)(velocity), name="gaussian")
    model.trainable = False
    return model


def set_gaussian(model: keras.Model, means: np.ndarray, code: LinearCode) -> None:
    """Sets the weights of a `gaussian_velocity` model.

    Args:
        model: the model.
        means: `(classes, size)`, one mean per class.
        code: PCA of the data after subtracting the means.
    """
    size, components = code.components.shape
    remaining_variance = code.residual * size / max(size - components, 1)
    model.get_layer("means").set_weights([means])
    model.get_layer("variances").set_weights([np.maximum(code.variances, LEAST_VARIANCE)[None]])
    model.get_layer("residual").set_weights([np.full((1, 1), max(remaining_variance, LEAST_VARIANCE))])
    model.get_layer("down").set_weights([code.components])
    model.get_layer("up").set_weights([code.components.T])


def velocity_network(shape: Shape, classes: int, width: int, depth: int, name: str) -> keras.Model:
    """Builds a network that is added to the velocity of the Gaussian. Its output is zero before training.

    A dense network receives the whole encoding as a vector. For images and sequences, a convolutional network follows,
    which receives the values and the output of the dense network.

    Args:
        shape: shape of one encoding.
        classes: number of classes, 1 without classes.
        width: filters of the convolutions.
        depth: number of residual blocks of each network.
        name: name of the model.

    Returns:
        `keras.Model` with the inputs values `(N, *shape)`, velocity of the Gaussian `(N, *shape)`, time `(N, 1)` and
        class `(N,)`.
    """
    inputs = [layers.Input(shape), layers.Input(shape), layers.Input((1,)), layers.Input((), dtype="int32")]
    values, linear, time, label = inputs
    for unused in (linear, label):  # Keras 3.12 refuses inputs that no operation uses.
        ops.cast(unused, EXACT)  # not part of the model, since no output depends on it
    conditioning = _conditioning(time, label, classes)
    hidden = layers.Dense(GLOBAL_WIDTH * width)(layers.Flatten()(values))
    for _ in range(depth):
        hidden = _block(hidden, conditioning, layers.Dense)
    zeros = {"kernel_initializer": "zeros", "dtype": EXACT}
    hidden = layers.Dense(math.prod(shape), **zeros)(layers.Activation(silu)(hidden))
    velocity = layers.Reshape(shape, dtype=EXACT)(hidden)
    if len(shape) > 1:
        conv = layers.Conv1D if len(shape) == 2 else layers.Conv2D
        options = {"kernel_size": 3, "padding": "same"}
        hidden = conv(width, **options)(layers.Concatenate()([values, linear + velocity]))
        for _ in range(depth):
            hidden = _block(hidden, conditioning, conv)
        hidden = layers.Activation(silu)(hidden)
        velocity = velocity + conv(shape[-1], **zeros, **options)(hidden)
    return keras.Model(inputs, velocity, name=name)


def _conditioning(time: keras.KerasTensor, label: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns features `(N, FEATURES)` of time and class."""
    angles = ops.concatenate([math.pi * 2.0**power * time for power in range(FREQUENCIES)], axis=-1)
    waves = layers.Concatenate()([time, ops.sin(angles), ops.cos(angles)])
    features = layers.Dense(FEATURES)(layers.Dense(FEATURES, activation=silu)(waves))
    if classes > 1:
        # Initially as strong as the time features. With Keras's smaller default, classes are learnt late (Fashion-MNIST
        # after one minute: Fréchet distance 41 instead of 25).
        start = keras.initializers.RandomNormal(stddev=1.0)
        features = features + layers.Embedding(classes, FEATURES, embeddings_initializer=start)(label)
    return layers.Activation(silu)(features)


def _block(hidden: keras.KerasTensor, conditioning: keras.KerasTensor, layer: type) -> keras.KerasTensor:
    """Adds a residual block whose input is scaled and shifted by time and class (Perez et al. 2018, "FiLM")."""
    units = hidden.shape[-1]
    film = layers.Dense(2 * units, kernel_initializer="zeros")(conditioning)
    film = layers.Reshape((1,) * (len(hidden.shape) - 2) + (2 * units,))(film)
    block_input = layers.Activation(silu)(hidden * (1 + film[..., :units]) + film[..., units:])
    return residual_block(hidden, block_input, layer)


def integrate(velocity: Callable[[Values, float], Values], values: Values, steps: int, sampler: str) -> Values:
    """Integrates a velocity from time 0 to time 1 in equal steps.

    Args:
        velocity: function of values and time.
        values: values at time 0.
        steps: number of steps.
        sampler: `"euler"` uses the velocity at the current values. `"heun"` averages it with the velocity at the values
            of the next time. The last step is always an Euler step: if encodings lie on a plane, the velocity next to
            it is unbounded at time 1.
    """
    for index in range(steps):
        change = velocity(values, index / steps)
        if sampler == "heun" and index < steps - 1:
            change = (change + velocity(values + change / steps, (index + 1) / steps)) / 2
        values = values + change / steps
    return values
