"""A rectified flow of encodings."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops, random

from stacked_autoencoder.heads.base import GENERATED, Head
from stacked_autoencoder.heads.networks import follow, linear_code
from stacked_autoencoder.heads.velocity import (
    MOST_COMPONENTS,
    gaussian_velocity,
    integrate,
    set_gaussian,
    velocity_network,
)
from stacked_autoencoder.layers.prefixes import is_leading, random_lengths
from stacked_autoencoder.levels.inference import compiled
from stacked_autoencoder.optimizers import ConvMuon
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.images import Shape
from stacked_autoencoder.utils.seeds import rng_of

LEARNING_RATE = 1e-2
ADAM_SHARE = 0.2  # learning rate of Adam relative to that of Muon
WITHOUT_LABEL = 0.1  # share of the encodings that are trained without their label
LEAST_TIME = 1e-4  # smallest distance of training times from 0 and 1
STEPS = 20
SAMPLERS = ("heun", "euler")


@keras.saving.register_keras_serializable("stacked_autoencoder")
class Flow(Head):
    """Rectified flow: generates encodings by moving noise along a learnt velocity.

    ```
    noise at time 0 ─▶ + velocity / steps ─▶ … ─▶ encodings at time 1
                           │
    velocity(values, time, class) = velocity of a Gaussian (closed form) + network (trained)
    ```

    The velocity of a Gaussian with the mean and covariance of the encodings is known in closed form. The network adds
    the rest and outputs zero before training, so the head initially draws from that Gaussian (with one mean per class
    if there are classes). `generate` uses weights that are averaged over the last training steps.

    For the same number of values, training is faster with many pixels and few channels, because convolutions learn from
    every pixel (Fashion-MNIST after two minutes: Fréchet distance 7 for 14x14x2, 15 for 7x7x8).

    Args:
        encoding_shape: shape of one encoding without the batch axis, `sae.encoding_shape`. All sides must be known.
        n_classes: number of classes, or `None`. With classes, train with `fit(encodings, labels)` and choose the class
            in `generate`. In training, one in ten encodings has no label, so that you can also generate encodings
            without choosing a class.
        width: filters of the convolutions. Dense layers have eight times as many units.
        depth: number of residual blocks of the dense and of the convolutional network.
        nested: whether half of the encodings in training are cut to a random number of leading features, so that the
            flow learns the leading features first. Use it for encodings with many features that are ordered by their
            importance, as those of levels with `nested=True`.

    Input shape:
        `(N, *encoding_shape)`, float32. Labels are whole numbers from 0, `(N,)`.

    Raises:
        ValueError: an argument is out of its range; encodings have another shape; or labels are missing, unexpected, or
            not whole numbers below `n_classes`.

    Example:
        >>> flow = heads.Flow(sae.encoding_shape, n_classes=10)
        >>> flow.fit(sae.encode(images), labels, epochs=20)
        >>> boots = sae.decode(flow.generate(64, seed=0, labels=9))

    Reference:
        Liu et al. 2023, "Flow straight and fast" (arXiv:2209.03003), equation 1. Lipman et al. 2023, "Flow matching for
        generative modeling" (arXiv:2210.02747), example II with σ_min = 0. Times are logit-normal as in Esser et al.
        2024, "Scaling rectified flow transformers" (arXiv:2403.03206), section 3.1. Guidance as in Ho and Salimans
        2022, "Classifier-free diffusion guidance" (arXiv:2207.12598), equation 6. Averaged weights as in Karras et al.
        2024, "Analyzing and improving the training dynamics of diffusion models" (arXiv:2312.02696), section 3.1.
        Heun's method as in Karras et al. 2022 (arXiv:2206.00364), algorithm 1. Leading features as in Chen et al. 2025,
        "DC-AE 1.5" (arXiv:2508.00413), "augmented diffusion training".
    """

    def __init__(
        self,
        encoding_shape: Shape,
        n_classes: int | None = None,
        width: int = 64,
        depth: int = 3,
        nested: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(encoding_shape, **options)
        self.n_classes = None if n_classes is None else positive_int("n_classes", n_classes, least=2)
        self.width = positive_int("width", width)
        self.depth = positive_int("depth", depth)
        self.nested = bool(nested)
        classes = 1 if self.n_classes is None else self.n_classes + 1  # the last one stands for any class
        components = min(math.prod(self.encoding_shape), MOST_COMPONENTS)
        self.gaussian = gaussian_velocity(self.encoding_shape, components, classes)
        sizes = self.encoding_shape, classes, self.width, self.depth
        self.network = velocity_network(*sizes, name="network")
        self.averaged = velocity_network(*sizes, name="averaged")
        self.averaged.trainable = False
        inputs = [layers.Input(self.encoding_shape), layers.Input((1,)), layers.Input((), dtype="int32")]
        self.drawn = keras.Model(inputs, self._velocity(self.averaged, *inputs), name="velocity")
        self.step = self.add_weight(shape=(), initializer="zeros", trainable=False, name="step")
        self.seed_generator = random.SeedGenerator()

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        names = ("n_classes", "width", "depth")
        known = {"nested": True} if self.nested else {}  # so that earlier versions can load other flows
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, **known}

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Returns `optimizers.ConvMuon` with a learning rate of 1e-2."""
        return ConvMuon(LEARNING_RATE, adam_lr_ratio=ADAM_SHARE)

    @property
    def takes_labels(self) -> bool:
        """Whether the flow was created with `n_classes`, so that `fit` needs labels."""
        return self.n_classes is not None

    def check_labels(self, labels: np.ndarray | None) -> None:
        """Raises `ValueError` unless labels are whole numbers below `n_classes`, one for each encoding."""
        if labels is None:
            raise ValueError(
                f"This Flow was created with n_classes={self.n_classes}, so `fit` needs labels: use `fit(encodings, "
                "labels)` or a dataset of (encodings, labels). Received: no labels"
            )
        if labels.ndim > 1 and labels.shape[1:] != (1,):
            raise ValueError(
                "Labels must be one whole number for each encoding. Convert one-hot labels with "
                f"`labels.argmax(axis=1)`. Received: shape={labels.shape}"
            )
        kinds = np.unique(labels)
        if not np.issubdtype(kinds.dtype, np.integer) or kinds[0] < 0 or kinds[-1] >= self.n_classes:
            raise ValueError(
                f"Labels must be whole numbers from 0 to {self.n_classes - 1}, one for each encoding. Received: "
                f"{kinds[:10].tolist()} of type {kinds.dtype}"
            )

    # === Training ===

    def start(self, values: np.ndarray, labels: np.ndarray | None) -> None:
        """Sets the velocity of the Gaussian, with one mean per class.

        Args:
            values: `(N, *encoding_shape)`, standardised encodings.
            labels: `(N,)` or `(N, 1)` whole numbers, `None` without classes.
        """
        values = values.reshape(len(values), -1)
        means = values.mean(axis=0, keepdims=True)
        if labels is not None:
            labels = labels.reshape(-1)
            means = np.repeat(means, self.n_classes + 1, axis=0)
            for label in np.unique(labels):
                means[label] = values[labels == label].mean(axis=0)
            values = values - means[labels]
        set_gaussian(self.gaussian, means, linear_code(values, self.gaussian.get_layer("variances").units))

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns standardised encodings. `compute_loss` contains the model."""
        return self.standardised(inputs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        """Returns the mean squared error of the velocity. Validation uses averaged weights and all labels."""
        values = self.standardised(x)
        count = ops.shape(values)[0]
        label = self._labels(y, count)
        if training and self.n_classes is not None:
            dropped = random.uniform((count,), dtype=layers.DTYPE, seed=self.seed_generator) < WITHOUT_LABEL
            label = ops.where(dropped, self.n_classes, label)
        time = self._times(count)
        noise = random.normal(ops.shape(values), dtype=layers.DTYPE, seed=self.seed_generator)
        share = ops.reshape(time, (-1, *[1] * len(self.encoding_shape)))
        interpolated = (1 - share) * noise + share * values
        network = self.network if training else self.averaged
        if not (training and self.nested):
            return ops.mean(ops.square(self._velocity(network, interpolated, time, label) - (values - noise)))
        counts = self._leading_features(count)
        errors = self._velocity(network, interpolated * counts, time, label) - (values - noise)
        return ops.sum(counts * ops.square(errors)) / ops.sum(counts * ops.ones_like(values))

    def train_step(self, data: Any) -> dict[str, Any]:
        """Runs one training step, updates the averaged weights, and returns the metrics."""
        logs = super().train_step(data)
        self.step.assign_add(1.0)
        follow(self.averaged, self.network, self.step)
        return logs

    def _velocity(self, network: keras.Model, values: Any, time: Any, label: Any) -> Any:
        linear = self.gaussian([values, time, label])
        return linear + network([values, linear, time, label])

    def _times(self, count: tf.Tensor) -> tf.Tensor:
        """Returns logit-normal times `(count, 1)`, most of them around 1/2.

        The times are stratified, one from each of `count` equally likely intervals in random order, which reduces the
        variance of the loss (Kingma et al. 2021, "Variational diffusion models", arXiv:2107.00630, appendix I.1).
        """
        first = random.uniform((1,), dtype=layers.DTYPE, seed=self.seed_generator)
        share = (ops.cast(ops.arange(count), first.dtype) + first) / ops.cast(count, first.dtype)
        share = random.shuffle(ops.clip(share, LEAST_TIME, 1 - LEAST_TIME), seed=self.seed_generator)
        return ops.sigmoid(math.sqrt(2) * ops.erfinv(2 * share - 1))[:, None]

    def _leading_features(self, count: tf.Tensor) -> tf.Tensor:
        """Returns `(count, …, features)`, 1 for the features to learn: all, or a random number of leading ones."""
        kept = random_lengths(count, self.encoding_shape[-1], self.seed_generator)
        return ops.cast(is_leading(kept, (None, *self.encoding_shape)), layers.DTYPE)

    def _labels(self, y: Any, count: tf.Tensor) -> tf.Tensor:
        if self.n_classes is None:
            return ops.zeros((count,), dtype="int32")
        if y is None:
            self.check_labels(None)
        return ops.cast(ops.reshape(y, (-1,)), "int32")

    # === Use ===

    def generate(
        self,
        n: int,
        seed: int | None = None,
        labels: int | np.ndarray | None = None,
        *,
        guidance: float = 1.0,
        steps: int = STEPS,
        sampler: str = "heun",
    ) -> np.ndarray:
        """Generates encodings by moving noise along the velocity.

        Args:
            n: number of encodings.
            seed: seed of the noise. By default numpy's global random state is used.
            labels: class of all encodings, or `(n,)` classes. With `None`, no class is chosen.
            guidance: strength of classifier-free guidance, 1 for none. Above 1, up to about 3, samples show their class
                more clearly and vary less.
            steps: number of integration steps. More steps are slower and more accurate.
            sampler: `"heun"` (two evaluations of the velocity per step) or `"euler"` (one).

        Returns:
            `(n, *encoding_shape)`, float32. `sae.decode` turns them into images.

        Raises:
            ValueError: an argument is out of its range, or `labels` or `guidance` is given without classes.
        """
        n = positive_int("n", n)
        steps = _checked_steps(steps, sampler)
        labels = self._label_array(n, labels)
        if guidance != 1 and self.n_classes is None:
            raise ValueError(
                "`guidance` needs a Flow with classes. Create it with `n_classes`, or leave `guidance` out. Received: "
                f"guidance={guidance!r}"
            )
        noise = rng_of(seed).standard_normal((n, *self.encoding_shape), dtype=np.float32)
        batches = []
        for first in range(0, n, GENERATED):
            label = labels[first : first + GENERATED]

            def velocity(values: np.ndarray, time: float, label: np.ndarray = label) -> np.ndarray:
                times = np.full((len(values), 1), time, np.float32)
                guided = self._compiled_velocity(values, times, label).numpy()
                if guidance == 1:
                    return guided
                plain = self._compiled_velocity(values, times, np.full_like(label, self.n_classes)).numpy()
                return plain + np.float32(guidance) * (guided - plain)

            batches.append(integrate(velocity, noise[first : first + GENERATED], steps, sampler))
        return np.asarray(self.in_units(np.concatenate(batches)))

    @cached_property
    def _compiled_velocity(self) -> Callable[..., tf.Tensor]:
        return compiled(self.drawn)

    @property
    def generator(self) -> keras.Model:
        """The generator as one Keras model with the default settings, as `unrolled` returns it."""
        return self.unrolled()

    def unrolled(self, steps: int = STEPS, sampler: str = "heun") -> keras.Model:
        """Returns the generator as one Functional model.

        It contains only built-in Keras layers and operations, so `keras.Sequential([flow.generator, sae.decoder])` can
        be saved and loaded without this package.

        Args:
            steps: number of integration steps, as in `generate`.
            sampler: `"heun"` or `"euler"`, as in `generate`.

        Returns:
            `keras.Model` from standard normal noise `(N, *encoding_shape)` to encodings `(N, *encoding_shape)`. With
            classes, the second input is labels `(N,)`; the label `n_classes` means that no class is chosen.

        Raises:
            ValueError: `steps` is not a positive whole number, or `sampler` is unknown.
        """
        steps = _checked_steps(steps, sampler)
        inputs = noise = layers.Input(self.encoding_shape)
        first = layers.Flatten()(noise)[:, :1]
        if self.n_classes is None:
            label = ops.cast(ops.zeros_like(first[:, 0]), "int32")
        else:
            label = layers.Input((), dtype="int32")
            inputs = [noise, label]

        def velocity(values: keras.KerasTensor, time: float) -> keras.KerasTensor:
            return self.drawn([values, ops.full_like(first, time), label])

        values = integrate(velocity, noise, steps, sampler)
        return keras.Model(inputs, self.with_units(values), name="generator")

    def _label_array(self, n: int, labels: Any) -> np.ndarray:
        if labels is None:
            return np.full(n, self.n_classes or 0, np.int32)
        if self.n_classes is None:
            raise ValueError(
                "This Flow was created without classes. Create it with `n_classes` and train it with `fit(encodings, "
                f"labels)`, or leave `labels` out. Received: labels={labels!r}"
            )
        labels = np.asarray(labels)
        if labels.shape not in ((), (n,)):
            raise ValueError(
                f"`labels` must be one class, or one for each of n={n} encodings. Received: shape={labels.shape}"
            )
        self.check_labels(labels)
        return np.broadcast_to(labels, (n,)).astype(np.int32)


def _checked_steps(steps: int, sampler: str) -> int:
    steps = positive_int("steps", steps)
    if sampler not in SAMPLERS:
        raise ValueError(f"`sampler` must be one of {', '.join(map(repr, SAMPLERS))}. Received: sampler={sampler!r}")
    return steps
