"""A small classifier of encodings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np

from stacked_autoencoder.levels.base import EXACT
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.images import Shape

SMALLEST_SIDE = 8
FILTERS = 64
UNITS = 128


def classifier(
    encoding_shape: Shape,
    n_classes: int,
    hidden: Sequence[int] | None = None,
    dropout: float = 0.3,
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
) -> keras.Model:
    """Builds a small classifier of encodings, compiled for integer labels.

    It is a Functional Keras model. Vectors and sequences pass through dense layers. Image-shaped encodings pass through
    3x3 convolutions, each followed by 2x2 max pooling while a side is larger than 8, and a dense layer of 128 units. If
    height or width is `None`, global average pooling replaces the flattening.

    Args:
        encoding_shape: shape of one encoding without the batch axis, `sae.encoding_shape`. Height and width may be
            `None`.
        n_classes: number of classes, at least 2.
        hidden: numbers of units (or filters) of the hidden layers, `()` for a single softmax layer. By default one
            dense layer of 128 units for vectors and sequences; for images, at least two convolutions of 64 filters, and
            more if they are needed to reduce the sides to 8.
        dropout: share of values that are set to zero before each dense layer in training, from 0 to 1.
        mean: `(channels,)`, mean of the encodings, such as `sae.levels[-1].mean`. With `mean` and `std`, the model
            standardises encodings first.
        std: `(channels,)` or a scalar, standard deviation of the encodings, such as `sae.levels[-1].std`.

    Input shape:
        `(N, *encoding_shape)`, float32.

    Output shape:
        `(N, n_classes)`, float32 probabilities.

    Returns:
        A compiled `keras.Model` with the optimizer Adam, cross-entropy and accuracy. Labels are whole numbers `(N,)`.

    Raises:
        ValueError: `encoding_shape` is not the shape of an encoding, `n_classes` is below 2, or only one of `mean` and
            `std` is given.

    Example:
        >>> head = heads.classifier(sae.encoding_shape, 10)
        >>> head.fit(sae.encode(images), labels, epochs=5)
        >>> whole = keras.Sequential([sae.encoder, head])  # compile it to fine-tune both
    """
    if len(encoding_shape) not in (1, 2, 3) or encoding_shape[-1] is None:
        raise ValueError(
            "`encoding_shape` must be the shape of one encoding, such as `sae.encoding_shape`. Received: "
            f"encoding_shape={encoding_shape!r}"
        )
    if (mean is None) != (std is None):
        raise ValueError(
            "`mean` and `std` must be given together, such as `mean=sae.levels[-1].mean, std=sae.levels[-1].std`. "
            f"Received: mean={mean!r}, std={std!r}"
        )
    n_classes = positive_int("n_classes", n_classes, least=2)
    inputs = values = layers.Input(tuple(encoding_shape))
    if mean is not None:
        variance = np.broadcast_to(np.square(std), np.shape(mean))
        values = layers.Normalization(mean=np.asarray(mean), variance=variance, dtype=EXACT)(values)
    if len(encoding_shape) == 3:
        filters = [FILTERS] * max(2, _halvings(encoding_shape)) if hidden is None else hidden
        values = _convolutional_features(values, filters)
        hidden = [UNITS] if filters else []
        values = layers.Dropout(dropout)(values) if filters else values
    elif len(encoding_shape) == 2:
        values = layers.Flatten()(values)
    for units in [UNITS] if hidden is None else hidden:
        values = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(values))
    outputs = layers.Dense(n_classes, activation="softmax", dtype=EXACT, name="probabilities")(values)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _convolutional_features(values: keras.KerasTensor, filters: Sequence[int]) -> keras.KerasTensor:
    """Applies convolutions and pooling to `(N, H, W, C)` and returns vectors, by global pooling if sides are open."""
    is_open = None in values.shape[1:3]
    for count in filters:
        values = layers.Conv2D(count, 3, padding="same", activation="relu")(values)
        if not is_open and max(values.shape[1:3]) > SMALLEST_SIDE:
            values = layers.MaxPooling2D()(values)
    return layers.GlobalAveragePooling2D()(values) if is_open else layers.Flatten()(values)


def _halvings(shape: Shape) -> int:
    """Returns the number of halvings after which sides are at most `SMALLEST_SIDE`; 0 if sides are open."""
    return 0 if None in shape else math.ceil(math.log2(max(1, *(side / SMALLEST_SIDE for side in shape[:2]))))
