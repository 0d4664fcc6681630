"""Base classes of generative heads: Keras models that standardise encodings and generate new ones."""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.distribution import without_all_reduce
from stacked_autoencoder.levels.base import EXACT
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.images import Shape
from stacked_autoencoder.utils.seeds import rng_of

SAMPLE = 1 << 14  # number of encodings from which mean and standard deviation are measured
GENERATED = 256  # encodings generated per batch
FINGERPRINT = re.compile("[0-9a-f]{64}")


class Head(keras.Model, ABC):
    """Base class of generative models of encodings.

    A head is a `keras.Model`. `fit` accepts arrays, `tf.data.Dataset`s, `PyDataset`s and an `EncodingStore`, and works
    without `compile`.

    The first `fit` measures the mean of each channel and one standard deviation for all channels, on up to 16,384
    encodings. The networks receive standardised encodings. Generated encodings are scaled back.

    There is only one standard deviation because encodings are isometric: the same error then has the same effect on the
    image in every channel. With one standard deviation per channel, the weakest channels, which encode the finest
    details, would count as much as all others (Fashion-MNIST, `Flow` after one minute: Fréchet distance 26 instead of
    20).

    Args:
        encoding_shape: shape of one encoding without the batch axis, `sae.encoding_shape`. All sides must be known.
        origin: initial value of the attribute. `fit` sets it.

    Attributes:
        origin: fingerprint of the encoder that made the encodings of the last `fit`, `None` if unknown. Saved with the
            head.
        mean: `(channels,)` float32, mean of the encodings, a weight that is not trained.
        std: scalar float32, standard deviation of the encodings, 1 if they never change.
        trackers: metrics that training reports in addition to the loss.
    """

    trackers: list[keras.metrics.Mean]

    def __init__(self, encoding_shape: Shape, *, origin: str | None = None, **options: Any) -> None:
        options.setdefault("dtype", layers.network_policy())
        super().__init__(autocast=False, **options)  # statistics and losses are float32 under every dtype policy
        self.origin = origin
        if len(encoding_shape) not in (1, 2, 3) or None in encoding_shape:
            raise ValueError(
                "`encoding_shape` must be the shape of one encoding with known sides, such as `sae.encoding_shape`. "
                "If that has sides of `None`, create the Autoencoder with `shape=(height, width, channels)`. "
                f"Received: encoding_shape={tuple(encoding_shape)}"
            )
        self.encoding_shape = tuple(positive_int("encoding_shape", side) for side in encoding_shape)
        channels = self.encoding_shape[-1]
        self.mean = self.add_weight(shape=(channels,), initializer="zeros", trainable=False, name="mean")
        self.std = self.add_weight(shape=(), initializer="ones", trainable=False, name="std")
        self.is_adapted = self.add_weight(shape=(), initializer="zeros", trainable=False, name="is_adapted")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        # Left out if unknown, so that earlier versions can load the head.
        known = {} if self.origin is None else {"origin": self.origin}
        return {**super().get_config(), "encoding_shape": self.encoding_shape, **known}

    @property
    def origin(self) -> str | None:
        """Fingerprint of the encoder that made the encodings of the last `fit`, `None` if unknown."""
        return self._origin

    @origin.setter
    def origin(self, fingerprint: str | None) -> None:
        if fingerprint is not None and not (isinstance(fingerprint, str) and FINGERPRINT.fullmatch(fingerprint)):
            raise ValueError(
                "`origin` must be a fingerprint: `store.encoder` of an EncodingStore, or "
                f"`sae.stack.fingerprint(level)`. Received: origin={fingerprint!r}"
            )
        self._origin = fingerprint

    def check_origin(self, stack: Stack, level: int) -> None:
        """Checks that the head was fitted on encodings of this level of this stack.

        If the `origin` of the head is unknown, it emits a `UserWarning`.

        Args:
            stack: `sae.stack` of the Autoencoder that decodes the generated encodings.
            level: index of the level that decodes them.

        Raises:
            ValueError: the head was fitted on encodings of another stack or level.
        """
        kind = type(self).__name__
        if self.origin is None:
            warnings.warn(
                f"It can't be checked whether this {kind} was fitted on encodings of this stack, because its `origin` "
                "is unknown. To record it, fit the head on an `EncodingStore`, or call `fit(…, "
                "origin=sae.stack.fingerprint(level))`.",
                stacklevel=2,
            )
            return
        origin_level = stack.level_of(self.origin)
        if origin_level is None:
            raise ValueError(
                f"This {kind} was fitted on encodings of another stack, or of this stack before further training. "
                "Encode the images with this stack and fit a head on these encodings. Received: a head for the "
                f"encoder {self.origin[:12]}… and a stack with the encoder {stack.fingerprint(level)[:12]}…"
            )
        if origin_level != level:
            raise ValueError(
                f"This {kind} was fitted on encodings of level {origin_level}. Decode the generated encodings with "
                f"`level={origin_level}`. Received: level={level}"
            )

    @abstractmethod
    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Returns the optimizer that `fit` uses if you have not called `compile`."""

    @abstractmethod
    def generate(self, n: int, seed: int | None = None) -> np.ndarray:
        """Generates encodings.

        Args:
            n: number of encodings.
            seed: seed of the random draws. By default numpy's global random state is used.

        Returns:
            `(n, *encoding_shape)`, float32. `sae.decode` turns them into images.

        Raises:
            ValueError: `n` is not a positive whole number.
        """

    def start(self, values: np.ndarray, labels: np.ndarray | None) -> None:
        """Initialises weights in closed form, if the head has such an initialisation.

        Args:
            values: `(N, *encoding_shape)`, standardised encodings.
            labels: `(N,)` or `(N, 1)` labels of a head that uses labels, otherwise `None`.
        """

    @property
    def takes_labels(self) -> bool:
        """Whether the head is trained with labels. Otherwise labels of a dataset are ignored."""
        return False

    def check_labels(self, labels: np.ndarray | None) -> None:
        """Raises `ValueError` if a head that uses labels cannot be trained with these.

        Args:
            labels: array of labels, `None` if there are none.
        """

    def standardised(self, encodings: tf.Tensor) -> tf.Tensor:
        """Standardises encodings `(N, *encoding_shape)`: subtracts the mean and divides by the standard deviation."""
        # Keras's `fit` converts arrays to `keras.config.floatx()`.
        return (ops.cast(encodings, layers.DTYPE) - self.mean) / self.std

    def in_units(self, values: tf.Tensor) -> tf.Tensor:
        """Reverses `standardised`."""
        return values * self.std + self.mean

    def with_units(self, values: keras.KerasTensor) -> keras.KerasTensor:
        """Applies `in_units` as a built-in Keras layer with the current statistics.

        A saved model with this layer loads without this package.
        """
        mean = ops.convert_to_numpy(self.mean)
        variance = np.full_like(mean, np.square(ops.convert_to_numpy(self.std)))
        return layers.Normalization(mean=mean, variance=variance, invert=True, dtype=EXACT, name="units")(values)

    def fit(
        self, x: Any = None, y: Any = None, batch_size: int = 128, *, origin: str | None = None, **options: Any
    ) -> keras.callbacks.History:
        """Trains the head, as `keras.Model.fit` does, with a default optimizer if you have not called `compile`.

        The first call measures mean and standard deviation of the encodings and initialises weights in closed form.

        Args:
            x: encodings: array `(N, *encoding_shape)` (of NumPy, memory-mapped, or of Zarr, which is read into memory),
                `tf.data.Dataset` of batches, `PyDataset`, or `EncodingStore`.
            y: labels `(N,)`, only for heads that use labels.
            batch_size: encodings per training step. Ignored for datasets.
            origin: fingerprint of the encoder that made the encodings, `sae.stack.fingerprint(level)`. With a store,
                leave it out: the store contains it.
            options: further arguments of `keras.Model.fit`, such as `epochs`, `validation_data` or `callbacks`.
                `validation_data` may be an `EncodingStore`.

        Returns:
            `keras.callbacks.History`.

        Raises:
            ValueError: the encodings have another shape than `encoding_shape`, or there are none; labels are missing,
                unexpected or invalid; `sample_weight` or `class_weight` is set; a number is not a positive whole
                number; or `origin` is not the encoder of the store.
        """
        batch_size = None if batch_size is None else positive_int("batch_size", batch_size)
        for name, least in (("epochs", 0), ("steps_per_epoch", 1)):
            if options.get(name) is not None:
                options[name] = positive_int(name, options[name], least=least)
        for name in ("sample_weight", "class_weight"):
            if options.get(name) is not None:
                raise ValueError(
                    f"A {type(self).__name__} does not support weights of samples. Leave out `{name}`; to give "
                    f"encodings more weight, repeat them in `x`. Received: {name}={type(options[name]).__name__}"
                )
        if y is not None and not self.takes_labels:
            raise ValueError(
                f"This {type(self).__name__} uses no labels. Leave out `y`, or use `Flow(…, n_classes=…)`. Received: "
                f"y={type(y).__name__}"
            )
        y = None if y is None else self._one_label(y)
        if isinstance(x, EncodingStore):
            if origin not in (None, x.encoder):
                raise ValueError(
                    "`origin` differs from the encoder of this store. Leave it out, because the store provides it. "
                    f"Received: origin={origin!r} and a store with encoder={x.encoder!r}"
                )
            origin = x.encoder
            x = x.dataset(batch_size, shuffle=True)
        if hasattr(x, "__array__") and not hasattr(x, "__len__"):
            x = np.asarray(x)  # a Zarr array, for example, which Keras doesn't accept
        if isinstance(x, tf.data.Dataset):
            self.check_shape(_parts(x.element_spec)[0].shape[1:])
        elif not isinstance(x, keras.utils.PyDataset):
            self.check_shape(np.shape(x)[1:])
        valid = options.get("validation_data")
        if isinstance(valid, EncodingStore):
            options["validation_data"] = valid.dataset(batch_size)
        is_new = not self.is_adapted.numpy()
        encodings, labels = self._sample(x, y, SAMPLE if is_new else 1)
        if self.takes_labels:
            self.check_labels(labels if y is None else y)
        self.origin = origin
        if is_new:
            self._adapt(encodings)
            self.start(np.asarray(self.standardised(encodings)), labels)
        if not self.compiled:
            self.compile(optimizer=self.default_optimizer())
        if isinstance(x, tf.data.Dataset):
            return super().fit(x, y, **{"shuffle": False, **options})  # Keras warns when it cannot shuffle
        if not isinstance(x, keras.utils.PyDataset):
            options["batch_size"] = batch_size
        return super().fit(x, y, **options)

    def make_train_function(self, force: bool = False) -> Any:
        """Creates the training step, as in Keras, after building the optimizer."""
        if not self.optimizer.built:  # built within the step, it would be traced twice
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    @without_all_reduce
    def train_step(self, data: Any) -> dict[str, Any]:
        """Runs one training step and returns the metrics."""
        return super().train_step(data)

    def track(self, *terms: tf.Tensor, count: tf.Tensor) -> None:
        """Updates `trackers` with the values of a batch of `count` encodings, in their order."""
        for tracker, value in zip(self.trackers, terms, strict=True):
            tracker.update_state(value, sample_weight=count)

    def check_shape(self, received: Any, what: str = "Received:") -> None:
        """Raises `ValueError` unless `received` is the shape of the encodings that the head was created for."""
        if len(received) != len(self.encoding_shape) or any(
            side not in (None, wanted) for side, wanted in zip(received, self.encoding_shape, strict=True)
        ):
            raise ValueError(
                f"This {type(self).__name__} was created for encodings of shape {self.encoding_shape}. Create it with "
                f"the `encoding_shape` of the level that made the encodings. {what} encodings of shape "
                f"{tuple(received)}"
            )

    def _sample(self, x: Any, y: Any, least: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns encodings `(N, *encoding_shape)` for the statistics, and their labels.

        Args:
            x: encodings, as in `fit`.
            y: labels, as in `fit`.
            least: minimum number of encodings, if there are as many.
        """
        taken, labels, count = [], [], 0
        for batch in _batches(x, y, least):
            encodings, label = _parts(batch)
            taken.append(np.asarray(encodings, np.float32))
            self.check_shape(taken[-1].shape[1:])
            labels += [self._one_label(label)] if self.takes_labels and label is not None else []
            count += len(taken[-1])
            if count >= least:
                break
        if not count:
            raise ValueError(f"`x` must contain at least one encoding. Received: an empty {type(x).__name__}")
        return np.concatenate(taken), np.concatenate(labels) if labels else None

    def _one_label(self, labels: Any) -> np.ndarray:
        """Returns the labels of a batch. Raises `ValueError` if there are several labels for each encoding."""
        if not isinstance(labels, (dict, tuple)):
            return np.asarray(labels)
        names = [*labels] if isinstance(labels, dict) else [*range(len(labels))]
        raise ValueError(
            f"This {type(self).__name__} uses one label for each encoding, but there are several. Select one with "
            f"`dataset.map(lambda z, labels: (z, labels[{names[0]!r}]))`. A store provides a dataset as "
            f"`store.dataset()`. Received: labels named {', '.join(map(repr, names))}"
        )

    def _adapt(self, encodings: np.ndarray) -> None:
        axes = tuple(range(encodings.ndim - 1))
        self.mean.assign(encodings.mean(axis=axes, dtype=np.float64))
        std = float(np.sqrt(encodings.var(axis=axes, dtype=np.float64).mean()))
        self.std.assign(std if std > 0 else 1.0)
        self.is_adapted.assign(1.0)


def _batches(x: Any, y: Any, least: int) -> Iterable[Any]:
    if isinstance(x, keras.utils.PyDataset):
        return (x[index] for index in range(x.num_batches))
    if isinstance(x, tf.data.Dataset):
        return x
    some = slice(None) if len(x) <= least else np.sort(np.random.default_rng(0).permutation(len(x))[:least])
    return [(x[some], None if y is None else np.asarray(y)[some])]


def _parts(element: Any) -> tuple[Any, Any]:
    """Returns the encodings of a dataset's element, and the labels or `None`."""
    return (*element, None)[:2] if isinstance(element, (tuple, list)) else (element, None)


class LatentHead(Head):
    """Base class of heads that generate encodings by applying a network, `restorer`, to standard normal values.

    Args:
        encoding_shape: shape of one encoding.
        latent_dim: number of standard normal values from which one encoding is generated.
    """

    restorer: keras.Model

    def __init__(self, encoding_shape: Shape, latent_dim: int, **options: Any) -> None:
        super().__init__(encoding_shape, **options)
        self.latent_dim = positive_int("latent_dim", latent_dim)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "latent_dim": self.latent_dim}

    def generate(self, n: int, seed: int | None = None) -> np.ndarray:
        """Generates encodings from standard normal draws.

        Args:
            n: number of encodings.
            seed: seed of the random draws. By default numpy's global random state is used.

        Returns:
            `(n, *encoding_shape)`, float32. `sae.decode` turns them into images.

        Raises:
            ValueError: `n` is not a positive whole number.
        """
        draws = rng_of(seed).standard_normal((positive_int("n", n), self.latent_dim), dtype=np.float32)
        return self.restored(draws)

    @property
    def generator(self) -> keras.Model:
        """Functional model from standard normal values `(N, latent_dim)` to encodings `(N, *encoding_shape)`.

        It contains only built-in Keras layers, so `keras.Sequential([head.generator, sae.decoder])` can be saved and
        loaded without this package.
        """
        inputs = layers.Input((self.latent_dim,))
        return keras.Model(inputs, self.with_units(self.restorer(inputs)), name="generator")

    def restored(self, values: np.ndarray) -> np.ndarray:
        """Returns the encodings `(N, *encoding_shape)` for latent values `(N, latent_dim)`.

        Gives the values of `generator` without creating and tracing a new model.
        """
        return np.asarray(self.in_units(self.restorer.predict(values, batch_size=GENERATED, verbose=0)))


class ComparedValues:
    """Values that the loss of a head compares: standardised encodings, or the images that a decoder makes of them.

    Args:
        head: the head.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        # A function: Keras would train and save a model that is an attribute of the head.
        self.decode: Callable[[tf.Tensor], tf.Tensor] | None = None

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the values to compare for standardised encodings."""
        return values if self.decode is None else self.decode(self.head.in_units(values))

    @contextmanager
    def as_images(self, decoder: keras.Model | None) -> Iterator[None]:
        """Context manager: compares images inside the context, if there is a decoder.

        Raises:
            ValueError: the decoder is for encodings of another shape.
        """
        if decoder is None:
            yield
            return
        self.head.check_shape(decoder.input_shape[1:], "Received: a `decoder` of")
        self.decode = lambda values: decoder(values, training=False)
        self._forget_traces()
        try:
            yield
        finally:
            self.decode = None
            self._forget_traces()

    def _forget_traces(self) -> None:
        """Deletes the traced training steps, which contain the previous loss."""
        self.head.train_function = self.head.test_function = None
