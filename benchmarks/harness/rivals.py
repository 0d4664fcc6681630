"""Other autoencoders that the library is compared with."""

import math
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.harness.clocks import TimeLimit
from stacked_autoencoder.utils.images import scaled


def usual_design(shape: tuple[int, ...], n_scalings: int, n_out: int, size: int) -> keras.Model:
    """The convolutional autoencoder of most tutorials: full resolution, batch normalisation, tanh encodings."""

    def convolution(kind: type, strides: int) -> keras.Sequential:
        return keras.Sequential(
            [kind(size, 4, strides=strides, padding="same"), layers.BatchNormalization(), layers.LeakyReLU(0.2)]
        )

    model = keras.Sequential([keras.Input(shape), convolution(layers.Conv2D, 1)])
    for _ in range(n_scalings):
        model.add(convolution(layers.Conv2D, 2))
    model.add(layers.Conv2D(n_out, 4, padding="same", activation="tanh"))
    model.add(convolution(layers.Conv2D, 1))
    for _ in range(n_scalings):
        model.add(convolution(layers.Conv2DTranspose, 2))
    model.add(layers.Conv2D(shape[-1], 4, padding="same", activation="tanh"))
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="mse")
    return model


def keras_blog(shape: tuple[int, ...], n_scalings: int, n_out: int, size: int) -> keras.Model:
    """The convolutional autoencoder of the Keras blog, for images in [-1, 1]: max pooling and upsampling."""

    def convolution(filters: int) -> layers.Layer:
        return layers.Conv2D(filters, 3, padding="same", activation="relu")

    model = keras.Sequential([keras.Input(shape)])
    for scaling in range(n_scalings):
        model.add(convolution(n_out if scaling == n_scalings - 1 else size))
        model.add(layers.MaxPooling2D())
    for _ in range(n_scalings):
        model.add(convolution(size))
        model.add(layers.UpSampling2D())
    model.add(layers.Conv2D(shape[-1], 3, padding="same"))
    model.compile(optimizer="adam", loss="mse")
    return model


def dense_code(shape: tuple[int, ...], values: int) -> keras.Model:
    """An autoencoder with one hidden dense layer of `values` units."""
    hidden = [layers.Flatten(), layers.Dense(values, activation="relu")]
    outputs = [layers.Dense(math.prod(shape)), layers.Reshape(shape)]
    model = keras.Sequential([keras.Input(shape), *hidden, *outputs])
    model.compile(optimizer="adam", loss="mse")
    return model


def textbook_dense() -> keras.Model:
    """Géron's stacked autoencoder for Fashion-MNIST, 784-100-30-100-784."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(30, activation="relu"),
            layers.Dense(100, activation="relu"),
            layers.Dense(784),
            layers.Reshape((28, 28, 1)),
        ]
    )
    model.compile(optimizer="nadam", loss="mse")
    return model


def train_plain(
    model: keras.Model,
    images: np.ndarray,
    valid: np.ndarray,
    seconds: float,
    batch_size: int,
    steps: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> float:
    """Trains a Keras autoencoder for `seconds`, keeps the weights with the lowest loss on `valid`; returns the time.

    Args:
        steps: steps from one validation to the next.
    """
    pixels = tf.constant(images)  # an array would be copied into the graph, which takes a minute
    rows = tf.data.Dataset.range(len(images)).shuffle(len(images)).batch(batch_size).repeat()
    pairs = rows.map(lambda chosen: scaled(tf.gather(pixels, chosen))).map(lambda batch: (batch, batch)).prefetch(2)
    best = keras.callbacks.EarlyStopping("val_loss", patience=10_000, restore_best_weights=True)
    began = time.perf_counter()
    model.fit(
        pairs,
        epochs=10_000,
        steps_per_epoch=steps,
        validation_data=(scaled(valid), scaled(valid)),
        callbacks=[TimeLimit(seconds), best, *callbacks],
        shuffle=False,
        verbose=0,
    )
    return time.perf_counter() - began
