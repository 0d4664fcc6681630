"""Levels in training: with corruption, penalties, tied kernels, teacher forcing and a second decoder."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops, random

from stacked_autoencoder.layers.noise import sample_normal
from stacked_autoencoder.layers.patches import trained_by_patch
from stacked_autoencoder.layers.penalties import divergence
from stacked_autoencoder.layers.prefixes import random_prefixes
from stacked_autoencoder.layers.tied import tied
from stacked_autoencoder.levels.base import EXACT, Level
from stacked_autoencoder.levels.sequence import SequenceLevel, delayed


class TrainableLevel(layers.Layer):
    """Keras layer that computes a level in training.

    ```
    inputs ─▶ corruption ─▶ encoder ─┬─▶ draw from N(mean, variance) ─▶ encodings ─▶ prefixes ─▶ decoder
                                     └─▶ penalty, divergence                         (tied: uses the encoder's kernels)
    ```

    Args:
        level: the level, whose weights are used. Corruption and random draws are also active in validation, so that
            validation measures the task that is trained. Random prefixes are not.

    Attributes:
        terms: further terms of the loss of the last batch, by name.
        prefix_weights: `(features,)` float32, weight of the loss with one, two, … features, if the level is nested.
        loss_weights: `(N,)` weights of the reconstruction losses of the last batch, or `None`.
    """

    def __init__(self, level: Level) -> None:
        super().__init__(dtype="float32")  # no rounding of inputs before layers that compute in another dtype
        self.level = level
        self.objective = level.objective
        self.encoder = trained_by_patch(level.encoder if level.posterior is None else level.posterior)
        self.decoder = tied(level.decoder, level.tied_layers())
        self.corruption = level.objective.corruption
        self.seed_generator = random.SeedGenerator(name="sampling")
        self.terms: dict[str, tf.Tensor] = {}
        self.loss_weights: tf.Tensor | None = None
        self.prefix_weights = np.ones(level.encoding_shape[-1], np.float32)
        self.built = True

    def encode(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        """Encodes a batch and sets `terms`."""
        inputs = self.level.filled(self.level.encoder_inputs(inputs))
        if self.corruption is not None:
            inputs = self.corruption(inputs, training=True)
        code = self.encoder(inputs, training=training)
        terms = {}
        if isinstance(code, (list, tuple)):
            mean, log_variance = code
            values = ops.cast(ops.size(inputs) // ops.shape(inputs)[0], mean.dtype)
            terms["kl"] = self.objective.kl_weight * divergence(mean, log_variance) / values
            code = sample_normal(mean, log_variance, self.seed_generator)
        if self.objective.penalty is not None:
            terms["penalty"] = self.objective.of_code(code)
        self.terms = terms
        return code

    def cut(self, encodings: tf.Tensor, training: bool) -> tf.Tensor:
        """Sets `loss_weights`, and replaces a random number of the last features of each encoding if nested."""
        self.loss_weights = None
        if self.objective.nested and training:
            encodings, kept = random_prefixes(encodings, self.seed_generator)
            self.loss_weights = ops.take(ops.convert_to_tensor(self.prefix_weights), kept - 1)
        return encodings

    def decode(self, encodings: tf.Tensor, training: bool) -> tf.Tensor:
        """Decodes a batch."""
        return self.decoder(encodings, training=training)


class TrainableSequenceLevel(TrainableLevel):
    """Adds teacher forcing and the loss of the second decoder (`predictor`).

    Args:
        level: the level, whose weights are used.
    """

    def __init__(self, level: SequenceLevel) -> None:
        super().__init__(level)
        self.predictor = level.predictor
        self.forced = self.forced_predictor = None
        if level.conditional:
            self.forced = TeacherForcing(level, level.decoder, reverse=level.reverse and level.target != "next")
            self.forced_predictor = level.predictor and TeacherForcing(level, level.predictor, reverse=False)

    def encode(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        self.truth = complete = self.level.filled(inputs)
        code = super().encode(inputs, training)
        if self.predictor is not None:
            earlier = delayed(complete)
            if self.corruption is not None:
                earlier = self.corruption(earlier, training=True)
            earlier = self.encoder(earlier, training=training)
            if self.forced_predictor is not None and training:
                predicted = self.forced_predictor(earlier, complete)
            else:
                predicted = self.predictor(earlier, training=training)
            self.terms["prediction"] = self.objective.of_reconstruction(inputs, predicted, self.level.following(inputs))
        return code

    def decode(self, encodings: tf.Tensor, training: bool) -> tf.Tensor:
        if self.forced is not None and training:
            return self.forced(encodings, self.truth)
        return super().decode(encodings, training)


class TeacherForcing(layers.Layer):
    """Computes a conditional decoder in one pass, with the true previous step as input of each step.

    Args:
        level: the level of the decoder.
        decoder: the decoder, whose layers and weights are used.
        reverse: whether it generates steps from the last to the first.

    Reference:
        Williams and Zipser 1989, "A learning algorithm for continually running fully recurrent neural networks".
    """

    def __init__(self, level: SequenceLevel, decoder: keras.Model, *, reverse: bool) -> None:
        super().__init__(dtype=EXACT)
        depths = list(reversed(range(len(level.units))))
        self.states = [[decoder.get_layer(f"state{depth}_{part}") for part in range(level.parts)] for depth in depths]
        self.recurrent = [layers.RNN(decoder.get_layer(f"cell{depth}"), return_sequences=True) for depth in depths]
        self.linear, self.residual = decoder.get_layer("linear"), decoder.get_layer("residual")
        self.reverse = reverse
        self.built = True

    def call(self, encodings: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        """Decodes a batch.

        Args:
            encodings: `(N, units)`.
            truth: the true sequences, `(N, timesteps, features)`.

        Returns:
            `(N, timesteps, features)`, in the order of `truth`.
        """
        linear = ops.reshape(self.linear(encodings), ops.shape(truth))
        truth = ops.flip(truth, axis=1) if self.reverse else truth
        states = [[layer(encodings) for layer in parts] for parts in self.states]
        first = states[-1][0][:, None]
        earlier = truth[:, :-1]
        hidden = ops.concatenate([ops.repeat(encodings[:, None], earlier.shape[1], axis=1), earlier], axis=-1)
        for recurrent, state in zip(self.recurrent, states, strict=True):
            hidden = recurrent(hidden, initial_state=state)
        residual = self.residual(ops.concatenate([first, hidden], axis=1))
        return linear + (ops.flip(residual, axis=1) if self.reverse else residual)


def trainable(level: Level) -> TrainableLevel:
    """Returns the layer that `train` fits for a level."""
    return TrainableSequenceLevel(level) if isinstance(level, SequenceLevel) else TrainableLevel(level)
