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
    """A Functional Keras model from encodings to the probabilities of classes, compiled for integer labels.

    Vectors and sequences go through dense layers. Image-shaped encodings go through 3x3 convolutions, each of which
    halves sides above 8 by taking maxima, and a dense layer of 128 units that sees all places; with open sides, it sees
    their mean.

    Args:
        encoding_shape: of one encoding, `sae.encoding_shape`.
        n_classes: number of classes.
        hidden: units, or filters, of the layers in between; `()` for a softmax alone. By default 128 units; or
            convolutions of 64 filters, two or as many as bring the sides to 8.
        dropout: share of the values that dense layers forget, in training, of what other layers give them.
        mean: per channel, `sae.levels[-1].mean`; with `std`, encodings are standardised first.
        std: per channel, `sae.levels[-1].std`, or one for all.

    Returns:
        `(N, *encoding_shape)` → `(N, n_classes)`, softmax.

    Example:
        >>> head = heads.classifier(sae.encoding_shape, 10)
        >>> head.fit(sae.encode(images), labels, epochs=5)
        >>> whole = keras.Sequential([sae.encoder, head])       # fine-tuned whole after `compile`
    """
    if len(encoding_shape) not in (1, 2, 3) or encoding_shape[-1] is None:
        raise ValueError(
            "`encoding_shape` is the shape of one encoding, such as `sae.encoding_shape`. "
            f"Received: encoding_shape={encoding_shape!r}"
        )
    if (mean is None) != (std is None):
        raise ValueError(f"`mean` and `std` go together. Received: mean={mean!r}, std={std!r}")
    n_classes = positive_int("n_classes", n_classes, least=2)
    inputs = values = layers.Input(tuple(encoding_shape))
    if mean is not None:
        variance = np.broadcast_to(np.square(std), np.shape(mean))
        values = layers.Normalization(mean=np.asarray(mean), variance=variance, dtype=EXACT)(values)
    if len(encoding_shape) == 3:
        filters = [FILTERS] * max(2, _halvings(encoding_shape)) if hidden is None else hidden
        values = _places_seen(values, filters)
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


def _places_seen(values: keras.KerasTensor, filters: Sequence[int]) -> keras.KerasTensor:
    """`(N, H, W, C)` → vectors of what convolutions see, their means over all places where sides are open."""
    is_open = None in values.shape[1:3]
    for count in filters:
        values = layers.Conv2D(count, 3, padding="same", activation="relu")(values)
        if not is_open and max(values.shape[1:3]) > SMALLEST_SIDE:
            values = layers.MaxPooling2D()(values)
    return layers.GlobalAveragePooling2D()(values) if is_open else layers.Flatten()(values)


def _halvings(shape: Shape) -> int:
    """After how many of them the sides are at most `SMALLEST_SIDE`; none where they are open."""
    return 0 if None in shape else math.ceil(math.log2(max(1, *(side / SMALLEST_SIDE for side in shape[:2]))))
