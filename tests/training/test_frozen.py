"""Frozen levels: `sae.encoder.trainable` and `sae.decoder.trainable` act on the levels."""

import copy
import pickle

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel
from tests.conftest import blobs

IMAGES = blobs(48, 8, 1)


@pytest.fixture
def sae():
    keras.utils.set_random_seed(0)
    stack = Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(4, 1, size=4), DenseLevel(6)])
    stack.train(IMAGES, epochs=0, verbose=0)
    return stack


def weights_of(sae):
    return {name: [getattr(level, name).get_weights() for level in sae.levels] for name in ("encoder", "decoder")}


def changed(before, after):
    """Which of the encoder and the decoder of each level have changed."""
    return {
        name: [
            any(not np.array_equal(*pair) for pair in zip(*each, strict=True))
            for each in zip(before[name], after[name], strict=True)
        ]
        for name in before
    }


def test_the_whole_encoder_and_decoder_are_the_same_objects_at_each_access(sae):
    assert sae.encoder is sae.encoder
    assert sae.decoder is sae.decoder
    before = sae.encoder
    sae.add(DenseLevel(3))
    assert sae.encoder is not before
    assert sae.encoder.output_shape == (None, 3)
    for other in (copy.deepcopy(sae), pickle.loads(pickle.dumps(sae))):
        assert other.encoder is other.encoder
        assert other.encoder is not sae.encoder
        np.testing.assert_array_equal(other.encoder(IMAGES), sae.encoder(IMAGES))


def test_frozen_encoders_stay_and_train_again_after_unfreezing(sae):
    sae.encoder.trainable = False
    assert [bool(level.encoder.trainable_weights) for level in sae.levels] == [False, False]
    before = weights_of(sae)
    sae.fine_tune(IMAGES, epochs=5, batch_size=8, verbose=0)
    after = weights_of(sae)
    assert changed(before, after) == {"encoder": [False, False], "decoder": [True, True]}
    sae.encoder.trainable = True
    sae.fine_tune(IMAGES, epochs=5, batch_size=8, verbose=0)
    assert changed(after, weights_of(sae)) == {"encoder": [True, True], "decoder": [True, True]}


def test_two_phase_fine_tuning_in_a_model_of_the_user(sae):
    head = keras.layers.Dense(2)
    model = keras.Sequential([sae.encoder, head])
    labels = (IMAGES.mean(axis=(1, 2, 3)) > IMAGES.mean()).astype(int)

    def fit():
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(IMAGES, labels, epochs=1, verbose=0)

    sae.encoder.trainable = False
    before = weights_of(sae)
    fit()
    assert changed(before, weights_of(sae))["encoder"] == [False, False]
    sae.encoder.trainable = True
    fit()
    assert changed(before, weights_of(sae)) == {"encoder": [True, True], "decoder": [False, False]}


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_training_a_frozen_level_raises_an_error_and_the_advice_works(sae, name):
    model = getattr(sae.levels[0], name)
    model.trainable = False
    with pytest.raises(
        ValueError, match=rf"Level 0 can't be trained, because its {name} is frozen\..*Received: levels="
    ):
        sae.train(IMAGES, epochs=1, verbose=0)
    sae.train(IMAGES, epochs=1, levels=[1], verbose=0)
    sae.fine_tune(IMAGES, epochs=1, verbose=0)
    model.trainable = True
    sae.train(IMAGES, epochs=1, verbose=0)


def test_fine_tuning_a_stack_that_is_frozen_raises_an_error_and_the_advice_works(sae):
    sae.encoder.trainable = sae.decoder.trainable = False
    with pytest.raises(ValueError, match="All levels are frozen"):
        sae.fine_tune(IMAGES, epochs=1, verbose=0)
    sae.decoder.trainable = True
    sae.fine_tune(IMAGES, epochs=1, verbose=0)
