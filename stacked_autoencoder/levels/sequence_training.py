"""A SequenceLevel as it trains: with teacher forcing where it is conditional, and with its second decoder."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import layers, ops

from stacked_autoencoder.level import EXACT
from stacked_autoencoder.levels.sequence import SequenceLevel, delayed
from stacked_autoencoder.reconstruction import LevelInTraining


class SequenceInTraining(LevelInTraining):
    """Adds to the loss that of the predictor, where there are two decoders.

    Args:
        level: gives its weights.
    """

    def __init__(self, level: SequenceLevel) -> None:
        super().__init__(level)
        self.predictor = level.predictor
        self.forced = self.forced_predictor = None
        if level.conditional:
            self.forced = TeacherForcing(level, level.decoder, reverse=level.reverse and level.target != "next")
            self.forced_predictor = level.predictor and TeacherForcing(level, level.predictor, reverse=False)

    def encode(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        self.truth = inputs
        code = super().encode(inputs, training)
        if self.predictor is not None:
            before = delayed(inputs)
            if self.corruption is not None:
                before = self.corruption(before, training=True)
            before = self.encoder(before, training=training)
            if self.forced_predictor is not None and training:
                predicted = self.forced_predictor(before, inputs)
            else:
                predicted = self.predictor(before, training=training)
            self.terms["prediction"] = self.objective.of_reconstruction(inputs, predicted, self.level.following(inputs))
        return code

    def decode(self, encodings: tf.Tensor, training: bool) -> tf.Tensor:
        if self.forced is not None and training:
            return self.forced(encodings, self.truth)
        return super().decode(encodings, training)


class TeacherForcing(layers.Layer):
    """What a conditional decoder writes if each step is given the true one before, in one sweep.

    Args:
        level: that the decoder belongs to.
        decoder: gives its layers, and so its weights.
        reverse: whether it writes from the last step to the first.

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
        """`(N, units)` and `(N, steps, features)` → `(N, steps, features)`, in the order of the truth."""
        linear = ops.reshape(self.linear(encodings), ops.shape(truth))
        truth = ops.flip(truth, axis=1) if self.reverse else truth
        states = [[layer(encodings) for layer in parts] for parts in self.states]
        first = states[-1][0][:, None]
        before = truth[:, :-1]
        hidden = ops.concatenate([ops.repeat(encodings[:, None], before.shape[1], axis=1), before], axis=-1)
        for recurrent, state in zip(self.recurrent, states, strict=True):
            hidden = recurrent(hidden, initial_state=state)
        residual = self.residual(ops.concatenate([first, hidden], axis=1))
        return linear + (ops.flip(residual, axis=1) if self.reverse else residual)
