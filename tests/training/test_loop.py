"""Epochs have the steps that they should, whatever runs at once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.training.loop import run_epochs
from tests.conftest import blobs


class Counting(keras.Model):
    """Its one weight is the number of steps, and its loss the mean of its inputs."""

    def __init__(self, at_once):
        super().__init__()
        self.count = self.add_weight(initializer="zeros", trainable=False)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.compile("sgd", "mse", steps_per_execution=at_once)

    @property
    def metrics(self):
        return [self.loss_tracker]

    def call(self, inputs):
        return inputs

    def train_step(self, data):
        self.count.assign_add(1.0)
        self.loss_tracker.update_state(tf.reduce_mean(data))
        return self.get_metrics_result()


def run(model, data, epochs, steps, *callbacks, **first):
    history = keras.callbacks.History()
    run_epochs(model, data, epochs=epochs, steps=steps, callbacks=[history, *callbacks], **first)
    return history.history["loss"]


@pytest.mark.parametrize(("steps", "at_once"), [(20, 16), (16, 16), (5, 5), (7, 2), (3, 1)])
def test_an_epoch_takes_its_batches_and_no_more(steps, at_once):
    numbers, ends = np.arange(3 * steps, dtype=np.float32), []
    model = Counting(at_once)
    data = tf.data.Dataset.from_tensor_slices(numbers).batch(1).repeat()
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(batch))
    losses = run(model, data, 3, steps, note)
    assert model.count == 3 * steps
    np.testing.assert_allclose(losses, numbers.reshape(3, steps).mean(1))
    assert max(ends) == steps - 1


def test_steps_that_were_done_take_no_data():
    model = Counting(2)
    data = tf.data.Dataset.range(4, 100, output_type=tf.float32).batch(1)
    losses = run(model, data, 2, 7, first_step=4)
    assert model.count == 3 + 7
    np.testing.assert_allclose(losses, [5.0, 10.0])


def test_an_epoch_that_was_stopped_does_not_shorten_the_next():
    model = Counting(2)
    data = tf.data.Dataset.range(100, output_type=tf.float32).batch(1)
    stop = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", True))
    run(model, data, 1, 5, stop)
    assert model.count == 2
    run(model, data, 1, 5)
    assert model.count == 7


def test_users_callbacks_see_what_keras_fit_shows_them():
    """Names, order and arguments of the calls, and the logs, are those of Keras's own loop."""

    class Recorder(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.calls = []

        def __getattribute__(self, name):
            if name.startswith("on_") and "batch" not in name:
                return lambda *given, logs=None: self.calls.append((name, *given, logs and dict(logs)))
            return super().__getattribute__(name)

    data = tf.data.Dataset.range(100, output_type=tf.float32).batch(1).repeat()
    ours, theirs = Recorder(), Recorder()
    run(Counting(1), data, 2, 3, ours)
    Counting(1).fit(data, epochs=2, steps_per_epoch=3, verbose=0, shuffle=False, callbacks=[theirs])
    assert ours.calls == theirs.calls
    assert len(ours.calls) == 2 + 2 * 2
    assert {"epochs": 2, "steps": 3}.items() <= ours.params.items()


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
