import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder.optimizers import (
    WEIGHT_DECAY,
    ConvMuon,
    LevelMuon,
    Units,
    WarmCosine,
    muon_step_of_shape,
    orthogonalised,
)


class AllMuon(ConvMuon):
    """Muon for matrices, too, as Keras's."""

    def uses_adam(self, variable):
        return False


def test_the_schedule_warms_up_and_ends_at_zero():
    schedule = WarmCosine(0.01, 200)
    rates = [float(schedule(step)) for step in range(201)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(0.01, rel=1e-3)
    assert np.argmax(rates) == 10
    assert rates[200] == pytest.approx(0, abs=1e-7)
    keras_own = keras.optimizers.schedules.CosineDecay(0.0, 190, warmup_target=0.01, warmup_steps=10)
    np.testing.assert_allclose(rates, [float(keras_own(step)) for step in range(201)], atol=1e-8)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [float(again(step)) for step in range(201)] == rates


def test_biases_and_layers_that_write_an_output_take_adams_steps_scaled():
    free, held = keras.Variable(np.zeros(3, np.float32)), keras.Variable(np.zeros((3, 3), np.float32))
    optimizer = LevelMuon(0.1, scales={id(held): 0.01}, start_loss=1.0)
    optimizer.apply([tf.ones(3), tf.ones((3, 3))], [free, held])
    np.testing.assert_allclose(free.numpy(), -0.1, rtol=1e-4)
    np.testing.assert_allclose(held.numpy(), -0.001, rtol=1e-4)


@pytest.mark.parametrize("size", [1.0, 1e-10])
def test_kernels_move_by_a_nearly_orthogonal_matrix(size):
    kernel = keras.Variable(np.zeros((3, 3, 2, 4), np.float32))
    gradient = np.random.default_rng(0).standard_normal((18, 4)) * [10, 3, 1, 0.3]  # directions unlike in strength
    optimizer = LevelMuon(0.1, scales={}, start_loss=1000.0)
    optimizer.apply([tf.constant(size * gradient.reshape(3, 3, 2, 4), tf.float32)], [kernel])
    moved = kernel.numpy().reshape(18, 4)
    strengths = np.linalg.svd(moved, compute_uv=False) / (0.1 * 0.2 * np.sqrt(18))
    assert np.all((strengths > 0.3) & (strengths < 1.3))
    assert np.sum(moved * gradient) < 0  # downhill


@pytest.mark.parametrize("size", [0.0, 1e-25, 1e-21, 1e-18])
def test_kernels_with_next_to_no_gradient_hardly_move(size):
    kernel = keras.Variable(np.ones((3, 4), np.float32))
    optimizer = LevelMuon(0.1, scales={}, start_loss=1.0)
    optimizer.apply([tf.fill((3, 4), tf.constant(size, tf.float32))], [kernel])
    np.testing.assert_allclose(kernel.numpy(), 1 - 0.1 * WEIGHT_DECAY, rtol=1e-5)


@pytest.mark.parametrize("clip", [{"global_clipnorm": 0.5}, {"global_clipnorm": None}])
def test_adams_steps_and_clipping_are_keras_own(clip):
    rng = np.random.default_rng(0)
    ours, theirs = (keras.Variable(np.ones((4, 5), np.float32)) for _ in range(2))
    optimizers = ConvMuon(0.01, **clip), keras.optimizers.Adam(0.01, **clip)
    for optimizer, variable in zip(optimizers, (ours, theirs), strict=True):
        optimizer.build([variable])
    for size in (1.0, 1e-3, 10.0, 1.0):
        gradient = tf.constant(size * rng.standard_normal((4, 5)), tf.float32)
        for optimizer, variable in zip(optimizers, (ours, theirs), strict=True):
            optimizer.apply([gradient], [variable])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


@pytest.mark.skipif(
    "rms_rate" not in inspect.signature(keras.optimizers.Muon).parameters, reason="Keras's Muon has another rate here"
)
@pytest.mark.parametrize("nesterov", [True, False])
def test_muons_steps_are_keras_own(nesterov):
    options = {"weight_decay": 0.1, "nesterov": nesterov, "ns_steps": 3}
    ours, theirs = (keras.Variable(np.ones((5, 4), np.float32)) for _ in range(2))
    optimizers = AllMuon(0.01, global_clipnorm=None, **options), keras.optimizers.Muon(0.01, rms_rate=0.2, **options)
    rng = np.random.default_rng(0)
    for _ in range(4):
        gradient = tf.constant(rng.standard_normal((5, 4)), tf.float32)
        for optimizer, variable in zip(optimizers, (ours, theirs), strict=True):
            optimizer.apply([gradient], [variable])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 3, 8, 6), (4, 30), (5, 5)])
def test_the_orthogonal_matrix_is_keras_own(shape):
    rng = np.random.default_rng(0)
    tall = rng.standard_normal((int(np.prod(shape[:-1])), shape[-1]))
    left, strengths, right = np.linalg.svd(tall, full_matrices=False)
    matrix = left * np.logspace(0, -5, len(strengths)) @ right  # directions down to what float32 can tell
    keras_own = keras.optimizers.Muon()
    expected = keras_own.zeropower_via_newtonschulz5(tf.constant(matrix, tf.float32), 3)
    factors = keras_own.muon_a, keras_own.muon_b, keras_own.muon_c
    ours = orthogonalised(tf.constant(matrix, tf.float32), 3, factors)
    np.testing.assert_allclose(ours.numpy(), expected, atol=2e-5)


def test_muons_step_is_traced_once_for_kernels_of_a_shape():
    def step_all(optimizer, kernels):
        optimizer.build(kernels)
        tf.function(lambda: optimizer.apply([tf.ones(kernel.shape) for kernel in kernels], kernels))()
        return muon_step_of_shape((3, 3, 2, 7)).experimental_get_tracing_count()

    kernels = [keras.Variable(np.zeros((3, 3, 2, 7), np.float32)) for _ in range(3)]
    assert step_all(LevelMuon(0.1, scales={}, start_loss=1.0), kernels) == 1
    assert step_all(LevelMuon(0.2, scales={}, start_loss=0.1), kernels) == 1
    assert step_all(ConvMuon(0.1), kernels) == 1


def test_only_muons_kernels_decay():
    kernel, end, bias = (keras.Variable(np.ones(shape, np.float32)) for shape in ((3, 3), (3, 3), (3,)))
    optimizer = LevelMuon(0.1, scales={id(end): 1.0}, start_loss=1.0)
    optimizer.apply([tf.zeros((3, 3)), tf.zeros((3, 3)), tf.zeros(3)], [kernel, end, bias])
    np.testing.assert_allclose(kernel.numpy(), 1 - 0.1 * WEIGHT_DECAY, rtol=1e-6)
    np.testing.assert_array_equal(end.numpy(), 1)
    np.testing.assert_array_equal(bias.numpy(), 1)


@pytest.mark.parametrize("kind", ["muon", "adam"])
@pytest.mark.parametrize("biases", [1, 2], ids=["one bias", "a GRU's biases"])
def test_a_layer_moves_as_if_its_data_were_normalised(kind, biases):
    """Steps on data of mean 50, deviation 1000 and outputs of deviation 0.01, against steps on normalised data."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((64, 3)), rng.standard_normal((64, 2))
    mean, deviation, written = np.array([50.0, -20.0, 0.0]), 1000.0, 0.01

    def trained(inputs, targets, kernel, bias, size, **units):
        kernel, bias = keras.Variable(kernel.astype(np.float32)), keras.Variable(bias.astype(np.float32), name="bias")
        scales = {id(kernel): 0.5} if kind == "adam" else {}
        if units:
            units = {id(kernel): Units(size, units["mean"], bias), id(bias): Units(written)}
        optimizer = LevelMuon(0.05, scales=scales, start_loss=np.mean(np.square(targets)), units=units)
        x, y = (tf.constant(each, tf.float32) for each in (inputs, targets))
        for _ in range(8):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(x @ kernel + tf.reduce_sum(tf.reshape(bias, (biases, 2)), 0) - y))
            optimizer.apply(tape.gradient(loss, [kernel.value, bias.value]), [kernel, bias])
        return kernel.numpy(), bias.numpy()

    start, zeros = rng.standard_normal((3, 2)), np.zeros((biases, 2)[biases == 1 :])
    kernel, bias = trained(inputs, targets, start, zeros, 1.0)
    shift = np.zeros_like(zeros)
    shift.reshape(biases, 2)[0] = -(mean / deviation) @ start * written
    raw_kernel, raw_bias = trained(
        mean + deviation * inputs,
        written * targets,
        start * written / deviation,
        zeros + shift,
        written / deviation,
        mean=mean.astype(np.float32)[:, None],
    )
    np.testing.assert_allclose(raw_kernel * deviation / written, kernel, rtol=1e-3, atol=1e-4)
    moved = raw_bias / written
    moved.reshape(biases, 2)[0] += mean / written @ raw_kernel
    np.testing.assert_allclose(moved, bias, rtol=1e-3, atol=1e-4)
