"""The base classes of generative heads: Keras models that standardise encodings, and generate more of them."""

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

SAMPLE = 1 << 14  # encodings that tell mean and standard deviation
GENERATED = 256  # encodings per batch
FINGERPRINT = re.compile("[0-9a-f]{64}")


class Head(keras.Model, ABC):
    """A generative model of encodings. `fit` needs no `compile`, and takes arrays, datasets and stores.

    The first `fit` measures the mean of every channel and one standard deviation for all of them, of up to 16,384
    encodings. Networks see standardised encodings; what is generated is in the units of the encodings again. Encodings
    are isometric, so with one unit for all channels an error costs what it costs in the image; with a unit for each,
    the faint channels of an encoding, its finest details, would count as much as all the rest (a flow of clothes: a
    Fréchet distance of 26 after a minute, against 20).

    Args:
        encoding_shape: of one encoding, `sae.encoding_shape`, without open sides.
        origin: as the attribute; `fit` sets it.

    Attributes:
        origin: fingerprint of the encoder whose encodings the head was last fitted on; `None` if that isn't known.
            It is saved with the head.
        mean: `(channels,)`, a weight that isn't trained.
        std: one number; 1 if the encodings never change.
        trackers: means that training reports beside the loss.
    """

    trackers: list[keras.metrics.Mean]

    def __init__(self, encoding_shape: Shape, *, origin: str | None = None, **options: Any) -> None:
        options.setdefault("dtype", layers.network_policy())
        super().__init__(autocast=False, **options)  # statistics and losses are float32 under every policy of Keras
        self.origin = origin
        if len(encoding_shape) not in (1, 2, 3) or None in encoding_shape:
            raise ValueError(
                "`encoding_shape` is the shape of one encoding without open sides, such as `sae.encoding_shape` of an "
                f"Autoencoder with a known image size. Received: encoding_shape={tuple(encoding_shape)}"
            )
        self.encoding_shape = tuple(positive_int("encoding_shape", side) for side in encoding_shape)
        channels = self.encoding_shape[-1]
        self.mean = self.add_weight(shape=(channels,), initializer="zeros", trainable=False, name="mean")
        self.std = self.add_weight(shape=(), initializer="ones", trainable=False, name="std")
        self.is_adapted = self.add_weight(shape=(), initializer="zeros", trainable=False, name="is_adapted")

    def get_config(self) -> dict[str, Any]:
        known = {} if self.origin is None else {"origin": self.origin}  # earlier versions load heads without it
        return {**super().get_config(), "encoding_shape": self.encoding_shape, **known}

    @property
    def origin(self) -> str | None:
        return self._origin

    @origin.setter
    def origin(self, fingerprint: str | None) -> None:
        if fingerprint is not None and not (isinstance(fingerprint, str) and FINGERPRINT.fullmatch(fingerprint)):
            raise ValueError(
                "`origin` is the fingerprint of what made the encodings: `store.encoder` of an EncodingStore, or "
                f"`sae.stack.fingerprint(level)`. Received: origin={fingerprint!r}"
            )
        self._origin = fingerprint

    def check_origin(self, stack: Stack, level: int) -> None:
        """Checks that the head was fitted on encodings of this level of this stack; warns where that isn't known.

        Args:
            stack: that is to decode what the head draws.
            level: index of the level whose decoder is to be used.

        Raises:
            ValueError: the head was fitted on encodings of another stack or level.
        """
        kind = type(self).__name__
        if self.origin is None:
            warnings.warn(
                f"It can't be checked whether this {kind} was fitted on encodings of this stack, because it doesn't "
                "know which encoder made them. It knows when it is fitted on an `EncodingStore`, or with "
                "`fit(…, origin=sae.stack.fingerprint(level))`.",
                stacklevel=2,
            )
            return
        fitted_on = stack.level_of(self.origin)
        if fitted_on is None:
            raise ValueError(
                f"This {kind} was fitted on encodings of another stack, or of this one before it was trained further: "
                "encode the images with this stack and fit a head on these encodings. Received: a head for the encoder "
                f"{self.origin[:12]}… and a stack with the encoder {stack.fingerprint(level)[:12]}…"
            )
        if fitted_on != level:
            raise ValueError(
                f"This {kind} was fitted on encodings of level {fitted_on}: decode what it draws from this level. "
                f"Received: level {level}"
            )

    @abstractmethod
    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """What `fit` uses without `compile`."""

    @abstractmethod
    def generate(self, n: int, seed: int | None = None) -> np.ndarray:
        """`(n, *encoding_shape)`: encodings that nothing was encoded to."""

    def start(self, values: np.ndarray, labels: np.ndarray | None) -> None:
        """Sets weights in closed form, where there is a way.

        Args:
            values: `(N, *encoding_shape)`, standardised encodings.
            labels: `(N,)` or `(N, 1)` of a head that takes labels, `None` of others.
        """

    @property
    def takes_labels(self) -> bool:
        """Whether it is trained with labels; those in a dataset are left out if not."""
        return False

    def check_labels(self, labels: np.ndarray | None) -> None:
        """Whether a head that takes labels can be trained with these; `None`: there are none."""

    def standardised(self, encodings: tf.Tensor) -> tf.Tensor:
        # Keras's `fit` gives arrays in the type of `keras.config.floatx()`.
        return (ops.cast(encodings, layers.DTYPE) - self.mean) / self.std

    def in_units(self, values: tf.Tensor) -> tf.Tensor:
        return values * self.std + self.mean

    def with_units(self, values: keras.KerasTensor) -> keras.KerasTensor:
        """`in_units` as a layer of Keras's own, with the statistics as they are: what is saved needs nothing else."""
        mean = ops.convert_to_numpy(self.mean)
        variance = np.full_like(mean, np.square(ops.convert_to_numpy(self.std)))
        return layers.Normalization(mean=mean, variance=variance, invert=True, dtype=EXACT, name="units")(values)

    def fit(
        self, x: Any = None, y: Any = None, batch_size: int = 128, *, origin: str | None = None, **options: Any
    ) -> keras.callbacks.History:
        """As in Keras; `x` may be an `EncodingStore`, too, and without `compile` there is a default.

        Args:
            origin: fingerprint of what made the encodings, `sae.stack.fingerprint(level)`. Leave it out for a store,
                which has it.

        Raises:
            ValueError: encodings of another shape than the head was made for, none at all, labels for a head that
                takes none, weights of samples, which no head's loss has, numbers that aren't whole and positive, or an
                `origin` that isn't the store's.
        """
        batch_size = None if batch_size is None else positive_int("batch_size", batch_size)
        for name, least in (("epochs", 0), ("steps_per_epoch", 1)):
            if options.get(name) is not None:
                options[name] = positive_int(name, options[name], least=least)
        for name in ("sample_weight", "class_weight"):
            if options.get(name) is not None:
                raise ValueError(
                    f"Every encoding counts the same in a {type(self).__name__}: leave out `{name}`, and repeat those "
                    f"that are to count more. Received: {name}={type(options[name]).__name__}"
                )
        if y is not None and not self.takes_labels:
            raise ValueError(
                f"This {type(self).__name__} takes no labels: leave out `y`, or take `Flow(…, n_classes=…)`. "
                f"Received: y={type(y).__name__}"
            )
        y = None if y is None else self._one_label(y)
        if isinstance(x, EncodingStore):
            if origin not in (None, x.encoder):
                raise ValueError(
                    "`origin` differs from the encoder of this store. Leave it out: the store has it. "
                    f"Received: origin={origin!r} and a store with encoder={x.encoder!r}"
                )
            origin = x.encoder
            x = x.dataset(batch_size, shuffle=True)
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
            return super().fit(x, y, **{"shuffle": False, **options})  # else Keras would warn that it can't
        if not isinstance(x, keras.utils.PyDataset):
            options["batch_size"] = batch_size
        return super().fit(x, y, **options)

    def make_train_function(self, force: bool = False) -> Any:
        if not self.optimizer.built:  # in the step, TensorFlow would trace that twice; the order is that of loading
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    @without_all_reduce
    def train_step(self, data: Any) -> dict[str, Any]:
        return super().train_step(data)

    def track(self, *terms: tf.Tensor, count: tf.Tensor) -> None:
        """Adds what a batch of so many encodings gave to the metrics, `trackers`, in their order."""
        for tracker, value in zip(self.trackers, terms, strict=True):
            tracker.update_state(value, sample_weight=count)

    def check_shape(self, received: Any, what: str = "Received:") -> None:
        """Raises `ValueError` unless this is the shape of the encodings that the head was made for."""
        if len(received) != len(self.encoding_shape) or any(
            side not in (None, wanted) for side, wanted in zip(received, self.encoding_shape, strict=True)
        ):
            raise ValueError(
                f"This {type(self).__name__} was made for encodings of shape {self.encoding_shape}: make it with "
                f"`sae.encoding_shape` of the level that they come from. {what} encodings of shape {tuple(received)}"
            )

    def _sample(self, x: Any, y: Any, least: int) -> tuple[np.ndarray, np.ndarray | None]:
        """`(N, *encoding_shape)` encodings that tell the statistics, and their labels: all, or so many at least."""
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
            raise ValueError(f"`x` must hold at least one encoding. Received: none, as {type(x).__name__}")
        return np.concatenate(taken), np.concatenate(labels) if labels else None

    def _one_label(self, labels: Any) -> np.ndarray:
        """The labels of a batch; raises `ValueError` if there are several for each encoding."""
        if not isinstance(labels, (dict, tuple)):
            return np.asarray(labels)
        names = [*labels] if isinstance(labels, dict) else [*range(len(labels))]
        raise ValueError(
            f"This {type(self).__name__} takes one label for each encoding, and there are several: choose one, such as "
            f"`dataset.map(lambda z, labels: (z, labels[{names[0]!r}]))`, of a store from `store.dataset()`. "
            f"Received: labels named {', '.join(map(repr, names))}"
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
    """The encodings of a dataset's element, and the labels that may come with them."""
    return (*element, None)[:2] if isinstance(element, (tuple, list)) else (element, None)


class LatentHead(Head):
    """A head whose `restorer`, a network on standardised encodings, draws.

    Args:
        encoding_shape: of one encoding.
        latent_dim: values that one is made of.
    """

    restorer: keras.Model

    def __init__(self, encoding_shape: Shape, latent_dim: int, **options: Any) -> None:
        super().__init__(encoding_shape, **options)
        self.latent_dim = positive_int("latent_dim", latent_dim)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "latent_dim": self.latent_dim}

    def generate(self, n: int, seed: int | None = None) -> np.ndarray:
        """`(n, *encoding_shape)`: decoded draws. `seed` decides the draws, numpy's by default."""
        draws = rng_of(seed).standard_normal((positive_int("n", n), self.latent_dim), dtype=np.float32)
        return self.restored(draws)

    @property
    def generator(self) -> keras.Model:
        """`(N, latent_dim)` standard normal → `(N, *encoding_shape)`: a Functional model of Keras's own layers."""
        inputs = layers.Input((self.latent_dim,))
        return keras.Model(inputs, self.with_units(self.restorer(inputs)), name="generator")

    def restored(self, values: np.ndarray) -> np.ndarray:
        """What `generator` gives, by the network that is there already: a new model would be traced anew."""
        return np.asarray(self.in_units(self.restorer.predict(values, batch_size=GENERATED, verbose=0)))


class ComparedValues:
    """What the loss of a head compares: standardised encodings, or the images that a decoder makes of them.

    Args:
        head: whose encodings these are.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        # A function, not an attribute of the head that is a model: Keras would train that, and save it.
        self.decode: Callable[[tf.Tensor], tf.Tensor] | None = None

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Standardised encodings → what is compared."""
        return values if self.decode is None else self.decode(self.head.in_units(values))

    @contextmanager
    def as_images(self, decoder: keras.Model | None) -> Iterator[None]:
        """Compares images as long as it is entered, if there is a decoder.

        Raises:
            ValueError: the decoder takes encodings of another shape.
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
        """Traced steps hold the loss as it was."""
        self.head.train_function = self.head.test_function = None
