"""A small classifier of encodings."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from stacked_autoencoder.arguments import positive_int
from stacked_autoencoder.level import Shape


def classifier(
    encoding_shape: Shape,
    n_classes: int,
    hidden: Sequence[int] = (128,),
    dropout: float = 0.0,
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
) -> keras.Model:
    """A Functional Keras model from encodings to the probabilities of classes, compiled for integer labels.

    Vectors and sequences go through dense layers, image-shaped encodings through 3x3 convolutions and a mean over all
    places.

    Args:
        encoding_shape: of one encoding, `sae.encoding_shape`.
        n_classes: number of classes.
        hidden: units, or filters, of the layers in between; `()` for a softmax alone.
        dropout: share of the values that each of these forgets in training.
        mean: per channel, `sae.levels[-1].mean`; with `std`, encodings are standardised first.
        std: per channel, `sae.levels[-1].std`.

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
    positive_int("n_classes", n_classes, least=2)
    inputs = values = keras.Input(tuple(encoding_shape))
    if mean is not None:
        values = layers.Normalization(mean=np.asarray(mean), variance=np.square(std))(values)
    is_image = len(encoding_shape) == 3
    if len(encoding_shape) == 2:
        values = layers.Flatten()(values)
    for units in hidden:
        layer = layers.Conv2D(units, 3, padding="same") if is_image else layers.Dense(units)
        values = layers.Activation("relu")(layer(values))
        if dropout:
            values = layers.Dropout(dropout)(values)
    if is_image:
        values = layers.GlobalAveragePooling2D()(values)
    model = keras.Model(inputs, layers.Dense(n_classes, activation="softmax", name="probabilities")(values))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
