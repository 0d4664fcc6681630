"""Epochs have the steps that they should, whatever runs at once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.training.model import ExactSteps
from tests.conftest import blobs


class Counting(ExactSteps):
    """Its one weight is the number of steps, and its loss the mean of its inputs."""

    def __init__(self):
        super().__init__()
        self.count = self.add_weight(initializer="zeros", trainable=False)

    def call(self, inputs):
        return inputs

    def train_step(self, data):
        self.count.assign_add(1.0)
        self._loss_tracker.update_state(tf.reduce_mean(data))
        return {"loss": self._loss_tracker.result()}


@pytest.mark.parametrize(("steps", "at_once"), [(20, 16), (16, 16), (5, 5), (7, 2), (3, 1)])
def test_an_epoch_takes_its_batches_and_no_more(steps, at_once):
    numbers = np.arange(3 * steps, dtype=np.float32)
    model = Counting()
    model.compile("sgd", "mse", steps_per_execution=at_once)
    data = tf.data.Dataset.from_tensor_slices(numbers).batch(1).repeat()
    history = model.fit(data, epochs=3, steps_per_epoch=steps, shuffle=False, verbose=0)
    assert model.count == 3 * steps
    np.testing.assert_allclose(history.history["loss"], numbers.reshape(3, steps).mean(1))


def test_steps_that_were_done_take_no_data():
    model = Counting()
    model.compile("sgd", "mse", steps_per_execution=2)
    model.passed = 4
    data = tf.data.Dataset.range(4, 100, output_type=tf.float32).batch(1)
    history = model.fit(data, epochs=2, steps_per_epoch=7, shuffle=False, verbose=0)
    assert model.count == 3 + 7
    np.testing.assert_allclose(history.history["loss"], [5.0, 10.0])


def test_an_epoch_that_was_stopped_does_not_shorten_the_next():
    model = Counting()
    model.compile("sgd", "mse", steps_per_execution=2)
    data = tf.data.Dataset.range(100, output_type=tf.float32).batch(1)
    stop = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", True))
    model.fit(data, steps_per_epoch=5, shuffle=False, verbose=0, callbacks=[stop])
    assert model.count == 2
    model.fit(data, steps_per_epoch=5, shuffle=False, verbose=0)
    assert model.count == 7


class Rates(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.steps = int(self.model.optimizer.iterations)
        self.rate = float(self.model.optimizer.learning_rate)


def test_the_rate_reaches_zero_in_the_last_step(capsys):
    rates = Rates()
    levels = [ConvLevel(n_out=4, size=4, n_scalings=1)]
    Autoencoder(shape=(8, 8, 1), levels=levels).train(blobs(60, 8, 1), epochs=2, batch_size=3, callbacks=[rates])
    assert rates.steps == 40
    assert rates.rate == pytest.approx(0, abs=1e-7)
    assert "20/20" in capsys.readouterr().out
