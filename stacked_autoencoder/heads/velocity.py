"""What a flow follows: the velocity that takes noise to encodings, over a time from 0 to 1."""

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

FREQUENCIES = 5  # of the time, each twice the one before
FEATURES = 128  # that tell blocks the time and the class
LEAST_VARIANCE = 1e-6  # of a direction in which encodings don't differ, in variances of the encodings
MOST_COMPONENTS = 1024  # of the Gaussian start; what they leave is taken to be equally strong in all directions
GLOBAL_WIDTH = 8  # units of the network that sees all of an encoding, in filters of the one that sees places


Values = Any  # numpy arrays, tensors and Keras's symbolic ones alike


def gaussian_velocity(shape: Shape, components: int, classes: int) -> keras.Model:
    """Values at a time, of a class → the velocity that draws from one Gaussian per class, all of one covariance.

    With data of mean `m` and variance `λ` along a direction, the values on the way from noise to data, `x = (1 - t)
    noise + t data`, and the velocity, `data - noise`, are jointly normal; given the first, the mean of the second is

        m + (t λ - (1 - t)) / (t² λ + (1 - t)²) · (x - t m)

    Its weights aren't trained. Before `set_gaussian` there is nothing in them.
    """
    size = math.prod(shape)
    values, time, label = layers.Input(shape), layers.Input((1,)), layers.Input((), dtype="int32")
    mean = layers.Embedding(classes, size, dtype=EXACT, name="means")(label)
    centred = layers.Flatten(dtype=EXACT)(values) - time * mean
    rest = 1 - time

    def gain(variance: keras.KerasTensor, squared: keras.KerasTensor) -> keras.KerasTensor:
        return (variance - rest) / (squared + rest * rest)

    kernels = {"use_bias": False, "kernel_initializer": "zeros", "dtype": EXACT}
    variances = layers.Dense(components, name="variances", **kernels)
    residual = layers.Dense(1, name="residual", **kernels)
    plain = gain(residual(time), residual(time * time))
    along = layers.Dense(components, name="down", **kernels)(centred)
    along = along * (gain(variances(time), variances(time * time)) - plain)
    velocity = mean + plain * centred + layers.Dense(size, name="up", **kernels)(along)
    model = keras.Model([values, time, label], layers.Reshape(shape, dtype=EXACT)(velocity), name="gaussian")
    model.trainable = False
    return model


def set_gaussian(model: keras.Model, means: np.ndarray, code: LinearCode) -> None:
    """Sets the weights of a `gaussian_velocity`.

    Args:
        model: it.
        means: `(classes, size)`.
        code: of data whose means have been subtracted.
    """
    size, components = code.components.shape
    left = code.residual * size / max(size - components, 1)
    model.get_layer("means").set_weights([means])
    model.get_layer("variances").set_weights([np.maximum(code.variances, LEAST_VARIANCE)[None]])
    model.get_layer("residual").set_weights([np.full((1, 1), max(left, LEAST_VARIANCE))])
    model.get_layer("down").set_weights([code.components])
    model.get_layer("up").set_weights([code.components.T])


def velocity_network(shape: Shape, classes: int, width: int, depth: int, name: str) -> keras.Model:
    """Values at a time, of a class, and the Gaussian's velocity → what is to be added to that; 0 before training.

    A network sees all of the encoding at once, as a vector; another one, of convolutions, sees every place's
    neighbours and what the first one says. Vectors have only the first.
    """
    inputs = [layers.Input(shape), layers.Input(shape), layers.Input((1,)), layers.Input((), dtype="int32")]
    values, linear, time, label = inputs
    for unused in (linear, label):  # in some models; Keras 3.12 refuses an input that no operation takes
        ops.cast(unused, EXACT)  # not a part of the model, since no output needs it
    about = _about(time, label, classes)
    hidden = layers.Dense(GLOBAL_WIDTH * width)(layers.Flatten()(values))
    for _ in range(depth):
        hidden = _block(hidden, about, layers.Dense)
    zeros = {"kernel_initializer": "zeros", "dtype": EXACT}
    hidden = layers.Dense(math.prod(shape), **zeros)(layers.Activation(silu)(hidden))
    velocity = layers.Reshape(shape, dtype=EXACT)(hidden)
    if len(shape) > 1:
        conv = layers.Conv1D if len(shape) == 2 else layers.Conv2D
        options = {"kernel_size": 3, "padding": "same"}
        hidden = conv(width, **options)(layers.Concatenate()([values, linear + velocity]))
        for _ in range(depth):
            hidden = _block(hidden, about, conv)
        hidden = layers.Activation(silu)(hidden)
        velocity = velocity + conv(shape[-1], **zeros, **options)(hidden)
    return keras.Model(inputs, velocity, name=name)


def _about(time: keras.KerasTensor, label: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """`(N, FEATURES)` of time and class."""
    angles = ops.concatenate([math.pi * 2.0**power * time for power in range(FREQUENCIES)], axis=-1)
    waves = layers.Concatenate()([time, ops.sin(angles), ops.cos(angles)])
    features = layers.Dense(FEATURES)(layers.Dense(FEATURES, activation=silu)(waves))
    if classes > 1:
        # As strong as the time from the first step: from Keras's small start the classes are learnt late (a Fréchet
        # distance of 41 after a minute on Fashion-MNIST, against 25).
        start = keras.initializers.RandomNormal(stddev=1.0)
        features = features + layers.Embedding(classes, FEATURES, embeddings_initializer=start)(label)
    return layers.Activation(silu)(features)


def _block(hidden: keras.KerasTensor, about: keras.KerasTensor, layer: type) -> keras.KerasTensor:
    """A residual block that scales and shifts its input by time and class (Perez et al. 2018, "FiLM")."""
    units = hidden.shape[-1]
    film = layers.Dense(2 * units, kernel_initializer="zeros")(about)
    film = layers.Reshape((1,) * (len(hidden.shape) - 2) + (2 * units,))(film)
    seen = layers.Activation(silu)(hidden * (1 + film[..., :units]) + film[..., units:])
    return residual_block(hidden, seen, layer)


def integrate(velocity: Callable[[Values, float], Values], values: Values, steps: int, sampler: str) -> Values:
    """From time 0 to time 1, in equal steps.

    Args:
        velocity: of values, at a time.
        values: at time 0.
        steps: number of them.
        sampler: `"euler"`: one velocity per step; `"heun"`: the mean of two, the second where the first leads to. The
            last step is always Euler's: where encodings lie on a plane, the velocity beside it has no bound at 1.
    """
    for index in range(steps):
        change = velocity(values, index / steps)
        if sampler == "heun" and index < steps - 1:
            change = (change + velocity(values + change / steps, (index + 1) / steps)) / 2
        values = values + change / steps
    return values
