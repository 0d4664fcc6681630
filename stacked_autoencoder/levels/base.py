"""What every kind of level is: an encoder, a decoder, and a closed-form start."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops

from stacked_autoencoder.distribution import BatchFunction
from stacked_autoencoder.layers.patches import patch_by_patch
from stacked_autoencoder.layers.penalties import KLSparsity
from stacked_autoencoder.levels.inference import Inference
from stacked_autoencoder.levels.objective import Objective
from stacked_autoencoder.pca import LinearCode
from stacked_autoencoder.utils.forks import check_not_forked
from stacked_autoencoder.utils.images import Shape, without_missing

LOG_VARIANCE = "log_variance"  # name of the layer that only a posterior has
TRAINING, CORRUPTION = "training", "corruption"  # of `Level.get_weights`, beside the models' names
EXACT = "float32"  # of the layers that write a level's output, and of linear paths, whatever Keras's dtype policy is


class Level(ABC):
    """One encoder and one decoder, both plain uncompiled Functional `keras.Model`s of built-in Keras layers.

    A level is described first (`ConvLevel(n_out=32)`) and gets its models when an `Autoencoder` takes it in and calls
    `build` with the shape of what the level will see.

    A level can be pickled and copied. Its models are built again from its arguments and get the same weights.

    Args:
        loss, penalty, corruption, kl_weight: as in `Objective`.

    Attributes:
        encoder: `keras.Model`, input `(N, *input_shape)` → encoding `(N, *encoding_shape)`.
        decoder: `keras.Model`, the way back.
        factor: by how much the encoder divides height and width.
        input_shape: shape of one input, `None` where any size will do.
        index: its place in the stack, 0 at the bottom.
        encoding_shape: shape of one encoding.
        started: whether the linear start has been set (it happens once).
        mean: `(channels,)` mean of the encodings, over a sample of the training data, for models that need
            standardised input.
        std: `(channels,)` their standard deviation; 1 where a channel never changes, so that it can be divided by.
        fill_values: `(channels,)`, what the level sees in place of NaN: the means of its training data, 0 before
            training; `None` where values can't be missing.
        linear_code: the best linear code of the *images* with as many values, which the level is held against.
        objective: what it is trained for, by what; not saved with the pair.
        posterior: the encoder with the code's logarithmic variance as a second output, where `kl_weight` asks for one.
        output_layers: names of the encoder's and of the decoder's layers that write its output, and start near where
            they are to stay. A layer `encoding` or `decoding` adds what `linear` and `residual` give; `residual` isn't
            computed as long as it is zero.
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
                "`KLSparsity` compares the mean activity of each unit with a target between 0 and 1, so the code must "
                'lie in [0, 1]: take a `DenseLevel(…, activation="sigmoid")`, or another penalty, such as '
                f"`keras.regularizers.L1(1e-4)`. Received: penalty={self.objective.penalty!r} for a "
                f"{type(self).__name__} whose code has no such bounds"
            )

    @property
    @abstractmethod
    def factor(self) -> int: ...

    @abstractmethod
    def build(self, input_shape: Shape, index: int = 0) -> None:
        """Makes `encoder` and `decoder` for inputs of this shape (without the batch axis), named by their index."""

    @abstractmethod
    def adapt(self, stream: BatchFunction) -> LinearCode | None:
        """Sets the linear paths to the best linear code of a stream of inputs.

        Returns:
            That code, if it is one of whole inputs or of patches of them.
        """

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The arguments that make this level again, as plain values."""

    @property
    def is_within_unit_interval(self) -> bool:
        """Whether every value of the code lies in [0, 1], whatever the weights."""
        return False

    @property
    def is_judged_by_image(self) -> bool:
        """Whether its loss for a batch is the mean of those for its images."""
        return not isinstance(self.objective.penalty, KLSparsity) and self.fill_values is None

    def tied_layers(self) -> dict[str, keras.layers.Layer]:
        """Names of the decoder's layers that use an encoder's kernel in training, and the layers whose it is."""
        return {}

    def sizes(self, input_shape: Shape) -> set[int]:
        """Sides that weights of its decoder must have: what is read from a file is held to them before it is built."""
        return set()

    def models(self) -> dict[str, keras.Model]:
        """What is saved, by name."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def prepare_for(self, above: Level) -> None:  # noqa: B027  most levels need no change
        """Makes this level one on top of which another can be put.

        Raises:
            ValueError: it can't be changed any more.
        """

    def encoder_inputs(self, inputs: Any) -> Any:
        """What the encoder is given of a batch, in training and where it is measured."""
        return inputs

    def loss_mask(self, inputs: Any) -> Any:
        """Which of it counts in a loss: `(N, timesteps)`, or of its own shape where values can be missing; `None` for
        all."""
        return None if self.fill_values is None else self.is_there(inputs)

    def is_there(self, inputs: Any) -> Any:
        """Which values are neither missing nor padding, in the shape of the inputs."""
        return ops.logical_not(ops.isnan(inputs))

    def filled(self, inputs: Any) -> Any:
        """Inputs with `fill_values` in place of what is missing."""
        return inputs if self.fill_values is None else without_missing(inputs, self.fill_values)

    def measure_fill_values(self, batches: Iterable[np.ndarray]) -> None:
        """Sets `fill_values` to the mean of each channel or column over the values that are there.

        Raises:
            ValueError: a channel or column has none.
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
                f"All values are missing in channels or columns {empty} of `images`, counted from 0. Leave them out "
                f"with `np.delete(images, {empty}, axis=-1)`, and make the Autoencoder for as many as are left. "
                f"Received: {len(count)} channels or columns"
            )
        self.fill_values = total / count

    @property
    def encoding_shape(self) -> Shape:
        return tuple(self.encoder.output_shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether the encoding is image-shaped: it grows with the image, and can be cut into tiles."""
        return len(self.encoding_shape) == 3

    def encode(self, inputs: np.ndarray) -> np.ndarray:
        """One batch `(N, *input_shape)` → `(N, *encoding_shape)`, compiled once for any batch size."""
        return self._encode(self.filled(inputs))

    def decode(self, encodings: np.ndarray) -> np.ndarray:
        """One batch `(N, *encoding_shape)` → `(N, *input_shape)`, compiled once for any batch size."""
        return self._decode(encodings)

    @cached_property
    def _encode(self) -> Inference:
        return Inference(self.encoder, self.output_layers[0])

    @cached_property
    def _decode(self) -> Inference:
        return Inference(self.decoder, self.output_layers[1], patch_by_patch)

    def rebuild(self, input_shape: Shape, index: int) -> Shape:
        """Builds for inputs of another size and keeps the weights; returns the new encoding shape."""
        weights = self.get_weights()
        self.__dict__.pop("_encode", None)
        self.__dict__.pop("_decode", None)
        self.build(input_shape, index)
        self.set_weights(weights)
        return self.encoding_shape

    def measure(self, batches: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Sets `mean` and `std` from a sample of inputs; returns their encodings."""
        encodings = [self.encode(batch) for batch in batches]
        values = np.concatenate([batch.reshape(-1, batch.shape[-1]) for batch in encodings])
        self.mean, self.std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        self.std[self.std == 0] = 1.0
        return encodings

    def get_state(self) -> dict[str, Any]:
        """What `autoencoder.json` says of this level."""
        statistics = {name: None if value is None else value.tolist() for name, value in self.statistics().items()}
        if self.fill_values is not None:
            statistics["fill_values"] = self.fill_values.tolist()
        return {"kind": self.kind, "config": self.get_config(), "started": self.started, **statistics}

    def set_state(self, state: dict[str, Any]) -> None:
        self.started = bool(state["started"])
        for name in self.statistics():
            setattr(self, name, None if state[name] is None else np.asarray(state[name], np.float64))
        if self.fill_values is not None:
            self.fill_values = np.asarray(state["fill_values"], np.float64)

    def get_weights(self) -> dict[str, list[np.ndarray]]:
        """Weights of each of `models`, those that only train, and the state of the random numbers that corrupt."""
        weights = {name: model.get_weights() for name, model in self.models().items()}
        states = [np.asarray(state) for state in self._corruption_states()]
        return {**weights, TRAINING: self.get_training_weights(), CORRUPTION: states}

    def set_weights(self, weights: dict[str, list[np.ndarray]]) -> None:
        """Takes over what `get_weights` returned."""
        for name, model in self.models().items():
            model.set_weights(weights[name])
        self.set_training_weights(weights[TRAINING])
        for variable, value in zip(self._corruption_states(), weights[CORRUPTION], strict=True):
            variable.assign(value)

    def _corruption_states(self) -> list[keras.Variable]:
        return [] if self.objective.corruption is None else self.objective.corruption.variables

    def __getstate__(self) -> dict[str, Any]:
        # Keras would pickle each model by itself, though a posterior shares its layers with the encoder.
        kept = {name: value for name, value in vars(self).items() if not isinstance(value, (keras.Model, Inference))}
        return {"attributes": kept, "weights": None if self.encoder is None else self.get_weights()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        check_not_forked()
        vars(self).update(state["attributes"])
        if state["weights"] is not None:
            self.build(self.input_shape, self.index)
            self.set_weights(state["weights"])

    def get_training_weights(self) -> list[np.ndarray]:
        """What trains, and isn't in the saved pair."""
        return [] if self.posterior is None else self.posterior.get_layer(LOG_VARIANCE).get_weights()

    def set_training_weights(self, weights: list[np.ndarray]) -> None:
        if self.posterior is not None:
            self.posterior.get_layer(LOG_VARIANCE).set_weights(weights)

    def statistics(self) -> dict[str, np.ndarray | None]:
        """What was measured of its encodings, by name; `None` before training."""
        return {"mean": self.mean, "std": self.std}

    def count_params(self) -> int:
        """Number of weights that train; tied ones count once, though the saved decoder has a copy of them."""
        shared = sum(math.prod(layer.kernel.shape) for layer in self.tied_layers().values())
        return self.encoder.count_params() + self.decoder.count_params() - shared

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
