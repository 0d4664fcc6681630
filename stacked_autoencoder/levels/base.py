"""The base class of all levels: an encoder, a decoder and a closed-form initialisation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.distribution import BatchFunction, Stream
from stacked_autoencoder.layers.patches import patch_by_patch
from stacked_autoencoder.layers.penalties import KLSparsity
from stacked_autoencoder.levels.inference import Inference
from stacked_autoencoder.levels.objective import Objective
from stacked_autoencoder.pca import LinearCode
from stacked_autoencoder.utils.checks import features_to_keep
from stacked_autoencoder.utils.forks import check_not_forked
from stacked_autoencoder.utils.images import Shape, without_missing

LOG_VARIANCE = "log_variance"  # name of a layer that exists only in the posterior
TRAINING, CORRUPTION = "training", "corruption"  # keys of `Level.get_weights` in addition to the names of the models
EXACT = "float32"  # dtype of output layers and linear paths under every dtype policy


class Level(ABC):
    """Base class of levels. A level is one encoder and one decoder.

    Both are uncompiled Functional `keras.Model`s that contain only built-in Keras layers.

    First you describe a level, for example with `ConvLevel(n_out=32)`. Its models are created when you pass it to an
    `Autoencoder`, which calls `build` with the shape of the input that the level will receive.

    You can pickle and copy a level. The copy builds its models from the same arguments and gets the same weights.

    Args:
        loss, penalty, corruption, kl_weight, nested: as in `DenseLevel`.

    Attributes:
        encoder: `keras.Model` from inputs `(N, *input_shape)` to encodings `(N, *encoding_shape)`.
        decoder: `keras.Model` from encodings `(N, *encoding_shape)` to reconstructions `(N, *input_shape)`.
        factor: factor by which the encoder divides height and width.
        input_shape: shape of one input without the batch axis. `None` marks a side of any size.
        encoding_shape: shape of one encoding without the batch axis.
        index: level index (0 is the first level).
        started: whether the closed-form initialisation has been computed. This happens once.
        mean: `(channels,)` float64, mean of each channel of the encodings, measured on a sample of the training data.
            Use it together with `std` to standardise encodings. `None` before training.
        std: `(channels,)` float64, standard deviation of each channel. It is 1 for a channel that never changes, so
            that you can always divide by it.
        fill_values: `(channels,)` float64, values that replace NaN in the inputs: the mean of each channel of the
            training data, or 0 before training. `None` unless missing values are allowed.
        linear_code: PCA of the *images* with the same number of values, from which `evaluate` computes `pca_loss`.
        objective: loss, penalty, corruption, `kl_weight` and `nested` as one object. The saved Keras models do not
            contain it.
        posterior: `keras.Model` with two outputs, mean and log-variance of the encodings. `None` if `kl_weight` is 0.
        output_layers: two tuples, names of the layers that compute the output of the encoder and of the decoder. With
            two names (`linear` and `residual`), a layer named `encoding` or `decoding` adds their outputs. Inference
            skips the residual path as long as all weights of its last layer are zero.
    """

    kind: str
    output_layers: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    objective: Objective = Objective()
    posterior: keras.Model | None = None
    encoder: keras.Model | None = None
    decoder: keras.Model | None = None
    input_shape: Shape | None = None
    index: int = 0
    started: bool = False
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    fill_values: np.ndarray | None = None
    linear_code: LinearCode | None = None

    def __init__(self, **objective: Any) -> None:
        self.objective = Objective(**objective)
        if isinstance(self.objective.penalty, KLSparsity) and not self.is_within_unit_interval:
            raise ValueError(
                "`KLSparsity` needs encodings in [0, 1], because it compares the mean activity of each unit with a "
                'target between 0 and 1. Use `DenseLevel(…, activation="sigmoid")`, or another penalty such as '
                f"`keras.regularizers.L1(1e-4)`. Received: penalty={self.objective.penalty!r} for a "
                f"{type(self).__name__} whose encodings have no such bounds"
            )

    @property
    @abstractmethod
    def factor(self) -> int:
        """Factor by which the encoder divides height and width."""

    @abstractmethod
    def build(self, input_shape: Shape, index: int = 0) -> None:
        """Creates `encoder` and `decoder`.

        Args:
            input_shape: shape of one input without the batch axis.
            index: level index, which becomes part of the names of the models.
        """

    @abstractmethod
    def adapt(self, stream: BatchFunction) -> LinearCode | None:
        """Initialises the linear paths with PCA of the inputs, computed in closed form.

        Args:
            stream: function that returns an iterable of float32 batches `(N, *input_shape)`. It may be called
                repeatedly.

        Returns:
            The PCA of whole inputs or of their patches, with which the error budget compares the level. `None` if there
            is no such PCA.
        """

    @property
    def starts_with_pca(self) -> bool:
        """Whether a new level computes PCA, and minimises the mean squared error that PCA minimises."""
        return False

    @property
    def neighbour_layer(self) -> keras.layers.Layer | None:
        """The last layer that `initialise_neighbour_decoder` sets; `None` if the level has no such initialisation."""
        return None

    def initialise_neighbour_decoder(self, stream: Stream) -> None:
        """Improves the decoder after `adapt`, so that it computes each patch of an image from 3x3 encodings.

        With zeros as weights of `neighbour_layer`, the decoder is again that of PCA.

        Args:
            stream: batches of the same inputs as for `adapt`.
        """
        raise NotImplementedError(f"The decoder of a {type(self).__name__} doesn't read neighbouring encodings.")

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor as plain values, from which the level can be created again."""

    @property
    def is_within_unit_interval(self) -> bool:
        """Whether all values of the encodings lie in [0, 1] for any weights."""
        return False

    @property
    def is_judged_by_image(self) -> bool:
        """Whether the loss of a batch is the mean of the losses of its images."""
        return not isinstance(self.objective.penalty, KLSparsity) and self.fill_values is None

    @property
    def network(self) -> str:
        """Size of the networks, for `Autoencoder.summary`."""
        return ""

    def tied_layers(self) -> dict[str, keras.layers.Layer]:
        """Returns the tied layers: name of the decoder's layer → the encoder's layer that provides its kernel."""
        return {}

    def input_layers(self) -> list[tuple[keras.layers.Layer, int]]:
        """Returns the layers, or cells, whose kernels multiply the inputs of the level.

        With each, the number of leading rows of the kernel that multiply something else.
        """
        return []

    def reconstruction_unit(self, deviation: float) -> float:
        """Returns the `Units.size` of the layers that output reconstructions.

        Args:
            deviation: standard deviation of the inputs.
        """
        return deviation

    def reconstruction_layers(self) -> list[keras.layers.Layer]:
        """Returns the layers whose outputs are reconstructions, or summands of them."""
        return [model.get_layer(name) for model in self.decoders() for name in self.output_layers[1]]

    def sizes(self, input_shape: Shape) -> set[int]:
        """Returns side lengths that must occur among the shapes of the decoder's weights.

        `Autoencoder.load` checks them in the saved file before it builds the level.
        """
        return set()

    def models(self) -> dict[str, keras.Model]:
        """Returns the models that are saved, by name."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def decoders(self) -> list[keras.Model]:
        """Returns the models that are saved, except the encoder."""
        return [model for name, model in self.models().items() if name != "encoder"]

    def prepare_for(self, above: Level) -> None:  # noqa: B027  most levels need no change
        """Prepares this level for another level on top of it, where that is necessary.

        Args:
            above: the level that is added on top.

        Raises:
            ValueError: this level can no longer be changed.
        """

    def encoder_inputs(self, inputs: Any) -> Any:
        """Returns the encoder's input for a batch, both in training and in validation."""
        return inputs

    def loss_mask(self, inputs: Any) -> Any:
        """Returns a boolean mask of the values that count in the loss, or `None` if all count.

        The mask has the shape `(N, timesteps)`, or the shape of the inputs if values can be missing.
        """
        return None if self.fill_values is None else self.is_there(inputs)

    def is_there(self, inputs: Any) -> Any:
        """Returns a boolean mask, in the shape of the inputs, of the values that are neither missing nor padding."""
        return ops.logical_not(ops.isnan(inputs))

    def filled(self, inputs: Any) -> Any:
        """Returns the inputs with `fill_values` in place of missing values."""
        return inputs if self.fill_values is None else without_missing(inputs, self.fill_values)

    def measure_fill_values(self, batches: Iterable[np.ndarray]) -> None:
        """Sets `fill_values` to the mean of each channel or column, computed over the values that are present.

        Args:
            batches: float arrays `(N, *input_shape)` in which NaN marks missing values.

        Raises:
            ValueError: all values of a channel or column are missing.
        """
        total, count = np.zeros_like(self.fill_values), np.zeros_like(self.fill_values)
        for batch in batches:
            is_there = np.asarray(self.is_there(batch)).reshape(-1, batch.shape[-1])
            values = batch.reshape(is_there.shape)
            total += np.sum(values, axis=0, dtype=np.float64, where=is_there)
            count += is_there.sum(axis=0)
        empty = np.flatnonzero(count == 0).tolist()
        if empty:
            raise ValueError(
                f"All values are missing in channels or columns {empty} of `images` (counted from 0). Remove them with "
                f"`np.delete(images, {empty}, axis=-1)`, and create an Autoencoder for the remaining "
                f"{len(count) - len(empty)}. Received: {len(count)} channels or columns"
            )
        self.fill_values = total / count

    @property
    def encoding_shape(self) -> Shape:
        """Shape of one encoding without the batch axis."""
        return tuple(self.encoder.output_shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether encodings have the shape `(height, width, channels)`, so that they can be cut into tiles."""
        return len(self.encoding_shape) == 3

    def encode(self, inputs: np.ndarray | tf.Tensor) -> np.ndarray:
        """Encodes one batch: `(N, *input_shape)` → `(N, *encoding_shape)`. Compiled once for all batch sizes."""
        return self._encode(self.filled(inputs))

    def decode(self, encodings: np.ndarray) -> np.ndarray:
        """Decodes one batch: `(N, *encoding_shape)` → `(N, *input_shape)`. Compiled once for all batch sizes."""
        return self._decode(encodings)

    @cached_property
    def _encode(self) -> Inference:
        return Inference(self.encoder, self.output_layers[0])

    @cached_property
    def _decode(self) -> Inference:
        return Inference(self.decoder, self.output_layers[1], patch_by_patch)

    def truncated(self, n_out: int) -> Level:
        """Creates a copy of the level whose encodings have only the leading features.

        Args:
            n_out: number of features to keep.

        Raises:
            ValueError: `n_out` is out of range, or the decoder can't do without the other features.
        """
        n_out = features_to_keep(n_out, self.encoding_shape[-1])
        if not self.started:
            raise ValueError(
                f"`truncated` needs a trained level, because the features of a new one have no order. Call `train` "
                f"first. Received: n_out={n_out} for level {self.index}, which has not been trained"
            )
        if not self.objective.nested and self.is_image:
            raise ValueError(
                "`truncated` needs a level that was created with `nested=True`, because other convolutional decoders "
                "expect the mean of the missing features. Use `encode(…, n_out=…)` and `decode`, which supply it, or "
                f"train a level with `nested=True`. Received: n_out={n_out} for {self!r}"
            )
        level = type(self)(**self.get_config() | self.config_with(n_out))
        level.fill_values = self.fill_values
        level.build(self.input_shape, self.index)
        level.set_weights(_leading(self.get_weights(), level.get_weights()))
        for layer in level.decoder_input_layers():
            kernel, bias = self.decoder.get_layer(layer.name).get_weights()
            layer.bias.assign(bias + self.mean[n_out:] @ kernel[n_out:])
        level.started, level.mean, level.std = True, self.mean[:n_out], self.std[:n_out]
        level.linear_code = self.linear_code and self.linear_code.leading(n_out)
        return level

    def config_with(self, n_out: int) -> dict[str, Any]:
        """Returns the arguments of the constructor that determine the number of features, for another number."""
        raise ValueError(f"A {type(self).__name__} can't be truncated. Received: n_out={n_out}")

    def decoder_input_layers(self) -> list[keras.layers.Layer]:
        """Returns the layers of the decoder that multiply the encodings, if these are vectors."""
        return []

    def rebuild(self, input_shape: Shape, index: int) -> Shape:
        """Builds the models for another input shape, keeps the weights and returns the new encoding shape."""
        weights = self.get_weights()
        self.__dict__.pop("_encode", None)
        self.__dict__.pop("_decode", None)
        self.build(input_shape, index)
        self.set_weights(weights)
        return self.encoding_shape

    def measure(self, batches: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Sets `mean` and `std` from a sample of inputs, and returns the encodings of the sample."""
        encodings = [self.encode(batch) for batch in batches]
        values = np.concatenate([batch.reshape(-1, batch.shape[-1]) for batch in encodings])
        self.mean, self.std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        self.std[self.std == 0] = 1.0
        return encodings

    def get_state(self) -> dict[str, Any]:
        """Returns the entry of this level in `autoencoder.json`."""
        statistics = {name: None if value is None else value.tolist() for name, value in self.statistics().items()}
        if self.fill_values is not None:
            statistics["fill_values"] = self.fill_values.tolist()
        return {"kind": self.kind, "config": self.get_config(), "started": self.started, **statistics}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self.started = bool(state["started"])
        for name in self.statistics():
            setattr(self, name, None if state[name] is None else np.asarray(state[name], np.float64))
        if self.fill_values is not None:
            self.fill_values = np.asarray(state["fill_values"], np.float64)

    def get_weights(self) -> dict[str, list[np.ndarray]]:
        """Returns all weights of the level as lists of arrays.

        The keys are the names in `models`, `"training"` (weights that only training uses) and `"corruption"` (state of
        the random numbers of the corruption layer).
        """
        weights = {name: model.get_weights() for name, model in self.models().items()}
        states = [np.asarray(state) for state in self._corruption_states()]
        return {**weights, TRAINING: self.get_training_weights(), CORRUPTION: states}

    def set_weights(self, weights: dict[str, list[np.ndarray]]) -> None:
        """Restores what `get_weights` returned."""
        for name, model in self.models().items():
            model.set_weights(weights[name])
        self.set_training_weights(weights[TRAINING])
        for variable, value in zip(self._corruption_states(), weights[CORRUPTION], strict=True):
            variable.assign(value)

    def _corruption_states(self) -> list[keras.Variable]:
        return [] if self.objective.corruption is None else self.objective.corruption.variables

    def __getstate__(self) -> dict[str, Any]:
        # Keras would pickle each model separately, although a posterior shares its layers with the encoder.
        kept = {name: value for name, value in vars(self).items() if not isinstance(value, (keras.Model, Inference))}
        return {"attributes": kept, "weights": None if self.encoder is None else self.get_weights()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        check_not_forked()
        vars(self).update(state["attributes"])
        if state["weights"] is not None:
            self.build(self.input_shape, self.index)
            self.set_weights(state["weights"])

    def get_training_weights(self) -> list[np.ndarray]:
        """Returns the weights that are trained but are not part of the saved encoder and decoder."""
        return [] if self.posterior is None else self.posterior.get_layer(LOG_VARIANCE).get_weights()

    def set_training_weights(self, weights: list[np.ndarray]) -> None:
        """Restores what `get_training_weights` returned."""
        if self.posterior is not None:
            self.posterior.get_layer(LOG_VARIANCE).set_weights(weights)

    def statistics(self) -> dict[str, np.ndarray | None]:
        """Returns the measured statistics of the encodings by name. They are `None` before training."""
        return {"mean": self.mean, "std": self.std}

    def count_params(self) -> int:
        """Returns the number of weights. Tied weights count once, although the saved decoder has a copy of them."""
        shared = sum(math.prod(layer.kernel.shape) for layer in self.tied_layers().values())
        return self.encoder.count_params() + self.decoder.count_params() - shared

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def _leading(weights: dict[str, list[np.ndarray]], smaller: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Returns the leading entries of weights along each axis, in the shapes of those of a smaller level."""
    return {
        name: [array[tuple(map(slice, other.shape))] for array, other in zip(arrays, smaller[name], strict=True)]
        for name, arrays in weights.items()
    }
