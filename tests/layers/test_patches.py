import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from stacked_autoencoder import ConvLevel
from stacked_autoencoder.layers.patches import PatchLayer, patch_by_patch, trained_by_patch
from stacked_autoencoder.levels.trainable import trainable


def model_of(layer, inputs=(None, None, 6)):
    inputs = keras.Input(inputs)
    return keras.Model(inputs, layer(inputs))


def fast_layers(model):
    return [layer for layer in model.layers if isinstance(layer, PatchLayer)]


def computes_the_same(fast, model, inputs):
    """With the same weights, forward and backward."""
    assert len(fast_layers(fast)) == 1
    assert fast.output_shape == model.output_shape
    values, gradients = [], []
    for each in (model, fast):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = each(inputs)
            loss = tf.reduce_sum(tf.sin(outputs))
        values.append(outputs)
        gradients.append(tape.gradient(loss, [inputs, *(weight.value for weight in model.weights)]))
    np.testing.assert_allclose(values[1], values[0], rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(gradients[1], gradients[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


ARGUMENTS = [
    (2, {}),
    ((2, 3), {"bias_initializer": "ones"}),
    (4, {"use_bias": False}),
    (4, {"activation": "silu"}),
]


@pytest.mark.parametrize(("kernel", "arguments"), [*ARGUMENTS, (8, {"padding": "same"})])
@pytest.mark.parametrize("sides", [(5, 7), (None, None)])
def test_transposed_convolutions_compute_the_same_values_and_gradients(kernel, arguments, sides):
    model = model_of(layers.Conv2DTranspose(3, kernel, strides=kernel, **arguments), (*sides, 6))
    computes_the_same(patch_by_patch(model), model, tf.random.normal((4, 5, 7, 6), seed=0))


@pytest.mark.parametrize(("kernel", "arguments"), [*ARGUMENTS, (1, {}), (1, {"padding": "same", "activation": "silu"})])
@pytest.mark.parametrize("sides", [(8, 12), (9, 13), (None, None)])
def test_convolutions_train_to_the_same_values_and_gradients(kernel, arguments, sides):
    model = model_of(layers.Conv2D(3, kernel, strides=kernel, **arguments), (*sides, 6))
    computes_the_same(
        trained_by_patch(model), model, tf.random.normal((4, *(sides if sides[0] else (8, 11)), 6), seed=0)
    )


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2DTranspose(3, 4, strides=2),  # patches that overlap
        layers.Conv2DTranspose(3, 2, strides=3),  # with gaps
        layers.Conv2DTranspose(3, 2, strides=2, output_padding=1),
        layers.Conv2D(3, 2, strides=2),  # inference gains nothing
    ],
)
def test_other_layers_are_left_as_they_are(layer):
    model = model_of(layer, (6, 6, 6))
    assert patch_by_patch(model).layers[1] is layer


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(3, 4, strides=2),
        layers.Conv2D(3, 1, strides=2),  # with gaps
        layers.Conv2D(3, 4, strides=4, padding="same"),  # which adds to 6 pixels
        layers.Conv2D(3, 2, strides=2, groups=3),
        layers.Dense(3),
    ],
)
def test_a_model_without_such_layers_trains_as_it_is(layer):
    model = model_of(layer, (6, 6, 6))
    assert trained_by_patch(model) is model


def test_low_rank_additions_to_a_kernel_are_trained():
    model = model_of(layers.Conv2D(3, 2, strides=2), (6, 6, 6))
    assert trained_by_patch(model) is not model
    model.layers[1].enable_lora(2)
    assert trained_by_patch(model) is model


def test_a_level_trains_by_patches_but_for_its_3x3_kernels():
    level = ConvLevel(n_out=4, n_scalings=4, size=4)
    level.build((32, 32, 3))
    training = trainable(level)
    for model in (training.encoder, training.decoder):
        slow = [layer for layer in model.layers if layer.weights and not isinstance(layer, PatchLayer)]
        assert len(fast_layers(model)) >= 5  # linear, residual, patchify or its like, two of blocks
        assert {layer.kernel_size for layer in slow} == {(3, 3)}
    assert {id(weight) for weight in training.trainable_weights} == {
        id(weight) for model in (level.encoder, level.decoder) for weight in model.trainable_weights
    }


def test_the_weights_are_shared_also_within_models_of_models():
    inner = model_of(layers.Conv2DTranspose(3, 2, strides=2))
    outer = keras.Sequential([keras.Input((4, 4, 6)), inner])
    fast = patch_by_patch(outer)
    assert [id(weight) for weight in fast.trainable_weights] == [id(weight) for weight in inner.trainable_weights]
    inputs = np.ones((1, 4, 4, 6), np.float32)
    before = fast(inputs)
    inner.layers[1].kernel.assign(inner.layers[1].kernel * 2)
    np.testing.assert_allclose(fast(inputs), before * 2, rtol=1e-6)
    assert fast(inputs).shape == (1, 8, 8, 3)
    inner.trainable = False
    assert fast.trainable_weights == []
