"""From images as they are to what a store keeps of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.sources.base import pad_by_reflection, scaled
from stacked_autoencoder.tiling import default_side, encode_tiles, tiler


class Encoded(NamedTuple):
    """The encodings of one batch, and over all pixels their extremes and, per channel, sums."""

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sum: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, dtype: str) -> Encoded:
        axes = tuple(range(values.ndim - 1))
        sums = values.sum(axes, dtype=np.float64), np.square(values).sum(axes, dtype=np.float64)
        with np.errstate(over="ignore"):  # `check` tells
            return cls(values.astype(dtype), values.min(), values.max(), *sums)

    def check(self) -> None:
        """Refuses what can't be kept."""
        largest = float(np.finfo(self.values.dtype).max)
        if not np.isfinite(self.squares).all():
            raise ValueError("An encoding isn't finite: a weight of the encoder is broken. Load or train it anew.")
        if max(-float(self.low), float(self.high)) > largest:
            raise ValueError(
                f"The encodings reach beyond {self.values.dtype}, whose largest value is {largest:g}: use "
                f'`dtype="float32"`. Received: encodings from {self.low:g} to {self.high:g}'
            )


@lru_cache(maxsize=2)  # tracing takes as long as a thousand small images
def encoding_of(encoders: tuple[keras.Model, ...], factor: int, dtype: str) -> Callable[[np.ndarray], Encoded]:
    """From images as they are to what is kept of them, as one graph: nothing in between is copied out.

    Large images go tile by tile.
    """

    def whole(images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        values = pad_by_reflection(scaled(images), factor)
        for encoder in encoders:
            values = encoder(values, training=False)
        axes = list(range(values.shape.rank - 1))
        sums = tf.reduce_sum(values, axes), tf.reduce_sum(tf.square(values), axes)
        return tf.cast(values, dtype), tf.reduce_min(values), tf.reduce_max(values), *sums

    def encode(images: np.ndarray) -> Encoded:
        is_image = len(encoders[-1].output_shape) == 4
        side = default_side(images.shape[1:3]) if is_image else None
        if side is None:
            return Encoded(*map(np.asarray, graph(tf.convert_to_tensor(images))))
        (image,) = images  # there is one, so large are they
        return Encoded.of(encode_tiles(tiler(encoders), image, factor, side)[None], dtype)

    graph = tf.function(whole, reduce_retracing=True)
    return encode
