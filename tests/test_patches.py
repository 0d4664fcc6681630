import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from stacked_autoencoder.patches import PatchByPatch, patch_by_patch


def model_of(layer, inputs=(None, None, 6)):
    inputs = keras.Input(inputs)
    return keras.Model(inputs, layer(inputs))


def fast_layers(model):
    return [layer for layer in model.layers if isinstance(layer, PatchByPatch)]


@pytest.mark.parametrize(
    ("kernel", "arguments"),
    [
        (2, {}),
        (8, {"padding": "same"}),
        ((2, 3), {"bias_initializer": "ones"}),
        (4, {"use_bias": False}),
        (4, {"activation": "silu"}),
    ],
)
@pytest.mark.parametrize("sides", [(5, 7), (None, None)])
def test_patch_by_patch_computes_the_same_values_and_gradients(kernel, arguments, sides):
    model = model_of(layers.Conv2DTranspose(3, kernel, strides=kernel, **arguments), (*sides, 6))
    fast = patch_by_patch(model)
    assert len(fast_layers(fast)) == 1
    assert fast.output_shape == model.output_shape
    inputs = tf.random.normal((4, 5, 7, 6), seed=0)
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


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2DTranspose(3, 4, strides=2),  # patches that overlap
        layers.Conv2DTranspose(3, 2, strides=3),  # with gaps
        layers.Conv2DTranspose(3, 2, strides=2, output_padding=1),
        layers.Conv2D(3, 2, strides=2),
    ],
)
def test_other_layers_are_left_as_they_are(layer):
    model = model_of(layer, (6, 6, 6))
    assert patch_by_patch(model).layers[1] is layer


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
