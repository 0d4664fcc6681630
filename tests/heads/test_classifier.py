import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, DenseLevel, heads
from tests.conftest import blobs

IMAGES = blobs(240, 8, 1)
LABELS = (IMAGES[:, :4].mean(axis=(1, 2, 3)) > IMAGES[:, 4:].mean(axis=(1, 2, 3))).astype(int)


@pytest.mark.parametrize("shape", [(6,), (5, 3), (4, 4, 6), (None, None, 6)])
def test_it_gives_probabilities_for_encodings_of_any_shape(shape):
    head = heads.classifier(shape, 3, hidden=(8,), dropout=0.2)
    encodings = np.random.default_rng(0).normal(size=(7, *(side or 4 for side in shape))).astype(np.float32)
    probabilities = head.predict(encodings, verbose=0)
    assert probabilities.shape == (7, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_encodings_are_standardised_if_their_statistics_are_given():
    rng = np.random.default_rng(0)
    encodings, mean, std = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=4), rng.uniform(1, 2, 4)
    plain, standardised = (heads.classifier((4,), 2, hidden=(), **more) for more in ({}, {"mean": mean, "std": std}))
    standardised.get_layer("probabilities").set_weights(plain.get_layer("probabilities").get_weights())
    np.testing.assert_allclose(standardised(encodings), plain((encodings - mean) / std), atol=1e-5)


@pytest.mark.parametrize(("side", "convolutions"), [(4, 2), (7, 2), (28, 2), (33, 3), (128, 4)])
def test_images_are_halved_until_a_dense_layer_can_see_all_places(side, convolutions):
    head = heads.classifier((side, side, 3), 5)
    layers = [layer for layer in head.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(layers) == convolutions
    (flat,) = [layer for layer in head.layers if isinstance(layer, keras.layers.Flatten)]
    assert flat.output.shape[1] <= 8 * 8 * 64


def test_one_standard_deviation_may_stand_for_all_channels():
    encodings = np.random.default_rng(0).normal(size=(9, 4, 4, 3)).astype(np.float32)
    each, one = (heads.classifier((4, 4, 3), 2, mean=np.ones(3), std=std) for std in (np.full(3, 2.0), 2.0))
    one.set_weights(each.get_weights())
    np.testing.assert_allclose(each(encodings), one(encodings), atol=1e-6)


@pytest.mark.slow
def test_a_softmax_on_a_greedy_stack_is_fine_tuned_whole():
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(24), DenseLevel(8)])
    sae.train(IMAGES, epochs=2, verbose=0)
    head = heads.classifier(sae.encoding_shape, 2, hidden=())
    head.fit(sae.encode(IMAGES), LABELS, epochs=3, verbose=0)
    whole = keras.Sequential([sae.encoder, head])
    whole.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    before, kernel = whole.evaluate(IMAGES, LABELS, verbose=0), sae.levels[0].encoder.get_weights()[0]
    whole.fit(IMAGES, LABELS, epochs=5, verbose=0)
    after = whole.evaluate(IMAGES, LABELS, verbose=0)
    assert after[0] < before[0]
    assert after[1] >= before[1]
    assert (sae.levels[0].encoder.get_weights()[0] != kernel).any()  # one set of weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), 3), "`encoding_shape` must be the shape of one encoding"),
        (((4, None), 3), "`encoding_shape` must be the shape of one encoding"),
        (((4,), 1), "`n_classes` must be a whole number of at least 2"),
        (((4,), 3, (8,), 0.0, np.zeros(4)), "`mean` and `std` must be given together"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        heads.classifier(*arguments)
