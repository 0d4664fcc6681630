"""What every generative head is: a Keras model that standardises encodings, and generates more of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from stacked_autoencoder.arguments import positive_int
from stacked_autoencoder.encodings import EncodingStore
from stacked_autoencoder.level import Shape

SAMPLE = 1 << 14  # encodings of a dataset that tell mean and standard deviation
GENERATED = 256  # encodings per batch


class Head(keras.Model, ABC):
    """A generative model of encodings. `fit` needs no `compile`, and takes arrays, datasets and stores.

    The first `fit` measures mean and standard deviation per channel, of 16,384 encodings of a dataset. Networks see
    standardised encodings; what is generated is in the units of the encodings again.

    Args:
        encoding_shape: of one encoding, `sae.encoding_shape`, without open sides.

    Attributes:
        mean: `(channels,)`, a weight that isn't trained.
        std: `(channels,)`; 1 for a channel that never changes.
    """

    def __init__(self, encoding_shape: Shape, **options: Any) -> None:
        super().__init__(**options)
        if len(encoding_shape) not in (1, 2, 3) or None in encoding_shape:
            raise ValueError(
                "`encoding_shape` is the shape of one encoding without open sides, such as `sae.encoding_shape` of an "
                f"Autoencoder with a known image size. Received: encoding_shape={tuple(encoding_shape)}"
            )
        self.encoding_shape = tuple(positive_int("encoding_shape", side) for side in encoding_shape)
        channels = (self.encoding_shape[-1],)
        self.mean = self.add_weight(shape=channels, initializer="zeros", trainable=False, name="mean")
        self.std = self.add_weight(shape=channels, initializer="ones", trainable=False, name="std")
        self.is_adapted = self.add_weight(shape=(), initializer="zeros", trainable=False, name="is_adapted")

    @abstractmethod
    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """What `fit` uses without `compile`."""

    @abstractmethod
    def generate(self, n: int, seed: int | None = None) -> np.ndarray:
        """`(n, *encoding_shape)`: encodings that nothing was encoded to."""

    def start(self, encodings: np.ndarray) -> None:
        """Sets weights in closed form, where there is a way; mean and standard deviation are known."""

    def standardised(self, encodings: tf.Tensor) -> tf.Tensor:
        return (encodings - self.mean) / self.std

    def in_units(self, values: tf.Tensor) -> tf.Tensor:
        return values * self.std + self.mean

    def with_units(self, values: keras.KerasTensor) -> keras.KerasTensor:
        """`in_units` as a layer of Keras's own, with the statistics as they are: what is saved needs nothing else."""
        mean, std = ops.convert_to_numpy(self.mean), ops.convert_to_numpy(self.std)
        return layers.Normalization(mean=mean, variance=np.square(std), invert=True, name="units")(values)

    def fit(self, x: Any = None, y: Any = None, batch_size: int = 128, **options: Any) -> keras.callbacks.History:
        """As in Keras; `x` may be an `EncodingStore`, too, and without `compile` there is a default.

        Raises:
            ValueError: encodings of another shape than the head was made for.
        """
        if isinstance(x, EncodingStore):
            x = x.dataset(batch_size, shuffle=True)
        if isinstance(x, tf.data.Dataset):
            self._check(_inputs(x.element_spec).shape[1:])
        elif not isinstance(x, keras.utils.PyDataset):
            self._check(np.shape(x)[1:])
        valid = options.get("validation_data")
        if isinstance(valid, EncodingStore):
            options["validation_data"] = valid.dataset(batch_size)
        if not self.is_adapted.numpy():
            sample = self._sample(x)
            self._adapt(sample)
            self.start(sample)
        if not self.compiled:
            self.compile(optimizer=self.default_optimizer())
        if isinstance(x, tf.data.Dataset):
            return super().fit(x, y, **{"shuffle": False, **options})  # else Keras would warn that it can't
        if not isinstance(x, keras.utils.PyDataset):
            options["batch_size"] = batch_size
        return super().fit(x, y, **options)

    def _check(self, received: Any) -> None:
        if len(received) != len(self.encoding_shape) or any(
            side not in (None, wanted) for side, wanted in zip(received, self.encoding_shape, strict=True)
        ):
            raise ValueError(
                f"This {type(self).__name__} was made for encodings of shape {self.encoding_shape}: make it with "
                f"`sae.encoding_shape` of the level that they come from. Received: encodings of shape {tuple(received)}"
            )

    def _sample(self, x: Any) -> np.ndarray:
        """`(N, *encoding_shape)`: encodings that tell the statistics."""
        taken, count = [], 0
        for batch in _batches(x):
            taken.append(np.asarray(_inputs(batch), np.float32))
            self._check(taken[-1].shape[1:])
            count += len(taken[-1])
            if count >= SAMPLE:
                break
        if not count:
            raise ValueError(f"`x` must hold at least one encoding. Received: none, as {type(x).__name__}")
        return np.concatenate(taken)

    def _adapt(self, encodings: np.ndarray) -> None:
        axes = tuple(range(encodings.ndim - 1))
        std = encodings.std(axis=axes, dtype=np.float64)
        self.mean.assign(encodings.mean(axis=axes, dtype=np.float64))
        self.std.assign(np.where(std > 0, std, 1.0))
        self.is_adapted.assign(1.0)


def _batches(x: Any) -> Iterable[Any]:
    if isinstance(x, keras.utils.PyDataset):
        return (x[index] for index in range(x.num_batches))
    return x if isinstance(x, tf.data.Dataset) else [x]


def _inputs(element: Any) -> Any:
    """The encodings of a dataset's element, which may come with labels."""
    return element[0] if isinstance(element, (tuple, list)) else element
