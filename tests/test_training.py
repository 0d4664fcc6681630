import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel, training
from stacked_autoencoder.images import as_source
from stacked_autoencoder.training import KeepBest, LevelMuon, Reconstruction, step_scales, warm_cosine
from tests.conftest import blobs


def test_the_loss_is_the_mean_squared_error_and_needs_no_target(images):
    level = ConvLevel(n_out=4, size=4)
    level.build((16, 16, 3))
    model = Reconstruction(level.encoder, level.decoder)
    model.compile(optimizer="sgd")
    restored = level.decode(level.encode(images))
    loss = model.evaluate(tf.data.Dataset.from_tensor_slices(images).batch(32), verbose=0)
    assert loss == pytest.approx(np.mean(np.square(restored - images)), rel=1e-5)


def test_the_schedule_warms_up_and_ends_at_zero():
    schedule = warm_cosine(0.01, 200)
    rates = [float(schedule(step)) for step in range(201)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(0.01, rel=1e-3)
    assert np.argmax(rates) == 10
    assert rates[200] == pytest.approx(0, abs=1e-7)


def test_biases_and_layers_that_write_an_output_take_adams_steps_scaled():
    free, held = keras.Variable(np.zeros(3, np.float32)), keras.Variable(np.zeros((3, 3), np.float32))
    optimizer = LevelMuon(0.1, scales={id(held): 0.01}, unit=1.0)
    optimizer.apply([tf.ones(3), tf.ones((3, 3))], [free, held])
    np.testing.assert_allclose(free.numpy(), -0.1, rtol=1e-4)
    np.testing.assert_allclose(held.numpy(), -0.001, rtol=1e-4)


@pytest.mark.parametrize("size", [1.0, 1e-10])
def test_kernels_move_by_a_nearly_orthogonal_matrix(size):
    kernel = keras.Variable(np.zeros((3, 3, 2, 4), np.float32))
    gradient = np.random.default_rng(0).standard_normal((18, 4)) * [10, 3, 1, 0.3]  # directions unlike in strength
    optimizer = LevelMuon(0.1, scales={}, unit=1000.0)
    optimizer.apply([tf.constant(size * gradient.reshape(3, 3, 2, 4), tf.float32)], [kernel])
    moved = kernel.numpy().reshape(18, 4)
    strengths = np.linalg.svd(moved, compute_uv=False) / (0.1 * 0.2 * np.sqrt(18))
    assert np.all((strengths > 0.3) & (strengths < 1.3))
    assert np.sum(moved * gradient) < 0  # downhill


def test_only_muons_kernels_decay():
    kernel, end, bias = (keras.Variable(np.ones(shape, np.float32)) for shape in ((3, 3), (3, 3), (3,)))
    optimizer = LevelMuon(0.1, scales={id(end): 1.0}, unit=1.0)
    optimizer.apply([tf.zeros((3, 3)), tf.zeros((3, 3)), tf.zeros(3)], [kernel, end, bias])
    np.testing.assert_allclose(kernel.numpy(), 1 - 0.1 * training.WEIGHT_DECAY, rtol=1e-6)
    np.testing.assert_array_equal(end.numpy(), 1)
    np.testing.assert_array_equal(bias.numpy(), 1)


def test_step_scales_are_those_of_the_layers_that_write_an_output(images):
    level = ConvLevel(n_out=4, size=4)
    level.build((16, 16, 3))
    level.start(lambda: iter([images]))
    scales = step_scales([level], images, 0.01)
    assert len(scales) == 8  # kernel and bias of linear and residual, both ways
    relative = 0.1 / images.std()
    for model, spread in ((level.encoder, level.encode(images).std()), (level.decoder, images.std())):
        kernel = model.get_layer("residual").kernel
        assert scales[id(kernel)] == pytest.approx(relative * spread, rel=1e-5)


def test_a_divergent_run_ends_with_the_start(images, held_out):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    (history,) = sae.train(images, epochs=2, learning_rate=1e6, validation_data=held_out, verbose=0)
    assert not history.history["val_loss"][-1] < history.start_loss
    assert sae.evaluate(held_out) == pytest.approx(history.start_loss, rel=1e-5)


def test_a_loss_that_is_not_a_number_is_never_the_best():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    keep = KeepBest(None, start_loss=1.0)
    keep.set_model(model)
    keep.on_train_begin()
    good = model.get_weights()
    model.set_weights([np.full((1, 1), np.nan, np.float32), np.zeros(1, np.float32)])
    keep.on_epoch_end(0, {"val_loss": 0.5})  # finite loss, broken weights
    keep.on_epoch_end(1, {"val_loss": float("nan")})
    keep.on_train_end()
    np.testing.assert_array_equal(model.get_weights()[0], good[0])


def test_without_validation_data_a_sample_of_the_training_data_decides(images):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    (history,) = sae.train(images, epochs=3, verbose=0)
    assert sae.evaluate(images) <= history.start_loss
    (again,) = sae.train(images, epochs=1, learning_rate=1e5, verbose=0)
    assert sae.evaluate(images) <= again.start_loss * (1 + 1e-6)


def test_the_progress_bar_names_the_level(images, capsys):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_levels=2)
    sae.train(images, epochs=1, verbose=2)
    printed = capsys.readouterr().out
    assert "Level 0 (16x16x3 -> 4x4x4), epoch 1/1" in printed
    assert "Level 1 (4x4x4 -> 1x1x4), epoch 1/1" in printed
    sae.train(images, epochs=1, verbose=0)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_fit_costs_little_more_than_the_bare_step():
    """The bare step and `fit` in turns; the best of each, since anything else on the machine only adds."""
    images = blobs(32 * 48, side=32)
    level = ConvLevel(n_out=32, size=64)
    level.build((32, 32, 3))
    model = Reconstruction(level.encoder, level.decoder)
    optimizer = LevelMuon(1e-4, scales=step_scales([level], images[:32], 1.0), unit=1.0)
    model.compile(optimizer=optimizer, steps_per_execution=training.STEPS_PER_EXECUTION)
    batches = [tf.constant(images[start : start + 32]) for start in range(0, len(images), 32)]
    step = tf.function(model.train_step)
    dataset = as_source(images, (32, 32, 3)).dataset(32, shuffle=True).repeat()
    model.fit(dataset, steps_per_epoch=48, shuffle=False, verbose=0)
    step(batches[0])
    fit_times, bare_times = [], []
    for _ in range(4):
        began = time.perf_counter()
        for batch in batches:
            step(batch)
        bare_times.append(time.perf_counter() - began)
        began = time.perf_counter()
        model.fit(dataset, steps_per_epoch=48, shuffle=False, verbose=0)
        fit_times.append(time.perf_counter() - began)
    assert min(fit_times) <= 1.7 * min(bare_times)  # the benchmark holds it to 1.2; a busy machine needs slack
