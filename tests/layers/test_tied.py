import keras
import numpy as np
import pytest
from keras import layers

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel
from stacked_autoencoder.layers.tied import TransposedDense, tied
from tests.conftest import blobs


def test_the_counts_of_the_published_net_are_exact():
    for tie, count in ((False, 770_084), (True, 385_924)):
        sae = Autoencoder(shape=(28, 28, 1), levels=[DenseLevel([392, 196], "selu", tied=tie)])
        assert sae.count_params() == count
        assert sae.levels[0].encoder.count_params() + sae.levels[0].decoder.count_params() == 770_084  # what is saved


def test_the_counts_of_several_tied_levels_are_those_of_one_deep_one():
    several = Autoencoder(shape=(28, 28, 1), levels=[DenseLevel(392, tied=True), DenseLevel(196, tied=True)])
    assert several.count_params() == 385_924


@pytest.mark.slow
@pytest.mark.parametrize(
    "level",
    [
        lambda: DenseLevel([24, 8], tied=True),
        lambda: DenseLevel([24, 8], "sigmoid", tied=True),
        lambda: ConvLevel(4, 2, 8, tied=True),
        lambda: ConvLevel(8, 4, 4, tied=True),
        lambda: ConvLevel(4, 2, 8, latent_dim=5, tied=True),
    ],
)
def test_tied_kernels_are_transposes_after_training_and_after_loading(level, images, tmp_path):
    sae = Autoencoder(shape=(16, 16, 3), levels=[level()])
    before = [np.zeros(1)]
    for _ in range(2):
        sae.train(images, epochs=20, verbose=0)
        ties = sae.levels[0].tied_layers()
        assert ties
        for name, mirrored in ties.items():
            own, other = (np.asarray(layer.kernel) for layer in (sae.levels[0].decoder.get_layer(name), mirrored))
            np.testing.assert_array_equal(own, other.T if own.ndim == 2 else other)
        weights = sae.levels[0].encoder.get_weights()
        assert any((one != two).any() for one, two in zip(before, weights, strict=False))  # it has learnt
        before = weights
        sae = Autoencoder.load(sae.save(tmp_path / "tied"))
        assert sae.levels[0].tied


def test_a_resolution_of_its_own_is_tied_too():
    level = ConvLevel(8, 4, 4, tied=True)
    level.build((None, None, 3))
    assert set(level.tied_layers()) == {"linear", "double1"}


def test_an_encoder_that_was_trained_elsewhere_is_tied_again(images):
    sae = Autoencoder(shape=(16, 16, 3), levels=[DenseLevel(8, tied=True)])
    sae.train(images, epochs=0, verbose=0)
    kernel = sae.levels[0].encoder.get_layer("dense0").kernel
    kernel.assign(kernel * 1.1)
    sae.train(images, epochs=0, verbose=0)
    np.testing.assert_array_equal(sae.levels[0].decoder.get_layer("dense0").kernel, np.asarray(kernel).T)


@pytest.mark.parametrize("activation", ["linear", "silu"])
def test_a_transposed_layer_computes_and_learns_as_the_kernel_would(activation):
    mirrored, own = layers.Dense(3), layers.Dense(5, activation)
    inputs = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    code = mirrored(inputs)
    own(code)
    own.kernel.assign(np.asarray(mirrored.kernel).T)
    layer = TransposedDense(own, mirrored)
    np.testing.assert_allclose(layer(code), own(code), atol=1e-6)
    assert {id(weight) for weight in layer.trainable_weights} == {id(mirrored.kernel), id(own.bias)}


def test_unequal_shapes_are_told():
    encoder = keras.Sequential([keras.Input((12,)), layers.Dense(4, name="down")])
    decoder = keras.Sequential([keras.Input((4,)), layers.Dense(10, name="up")], name="decoder0")
    with pytest.raises(
        ValueError, match=r"mirrors the encoder.*layer 'up' of decoder0 with a kernel of shape \(4, 10\).*\(4, 12\)"
    ):
        tied(decoder, {"up": encoder.get_layer("down")})


@pytest.mark.parametrize("tie", [False, True])
def test_a_linear_level_starts_as_the_linear_code(tie):
    images = blobs(200, 8, 1)
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(6, None, tied=tie)])
    sae.train(images, epochs=0, verbose=0)
    budget = sae.evaluate(images, return_dict=True)[0]
    assert budget["full_loss"] == pytest.approx(budget["pca_loss"], rel=0.01)
