"""Levels encode and decode what their models do, in less time where a path has no effect."""

from functools import partial

import keras
import numpy as np
import pytest

from benchmarks.harness.clocks import best_times
from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel
from stacked_autoencoder.levels.inference import LINEAR, RESIDUAL, Inference
from tests.conftest import blobs, waves

LEVELS = {
    "conv": lambda: ConvLevel(4, 2, 8),
    "grown, in [0, 1]": lambda: ConvLevel(4, 2, 8, upsampling="nearest", output_activation="sigmoid"),
    "to a vector": lambda: ConvLevel(4, 2, 8, latent_dim=5),
    "recurrent": lambda: SequenceLevel(4),
    "reversed": lambda: SequenceLevel(4, target="both"),
}


@pytest.fixture(params=LEVELS)
def level_and_data(request):
    keras.utils.set_random_seed(0)
    level = LEVELS[request.param]()
    data = waves(32) if isinstance(level, SequenceLevel) else blobs(32)
    sae = Autoencoder(shape=data.shape[1:], levels=[level])
    sae.train(data[:4], epochs=0, verbose=0)  # too few for a decoder that reads neighbouring encodings
    return level, data


def test_levels_give_what_their_models_do_before_training_and_after(level_and_data):
    level, data = level_and_data

    def check(path):
        encodings = level.encode(data)
        np.testing.assert_allclose(encodings, level.encoder.predict(data, verbose=0), atol=1e-5)
        restored = level.decoder.predict(encodings, verbose=0)
        np.testing.assert_allclose(level.decode(encodings), restored, atol=1e-5)
        assert list(level._encode.calls) == list(level._decode.calls) == [path]
        return encodings, restored

    before = check(LINEAR)
    for model in (level.encoder, level.decoder):
        kernel, bias = model.get_layer("residual").get_weights()
        model.get_layer("residual").set_weights([kernel + 0.1, bias])  # as training does, or the user
    after = check(RESIDUAL)
    for one, other in zip(before, after, strict=True):
        assert np.abs(one - other).max() > 1e-3


def test_a_bias_alone_counts(level_and_data):
    level, data = level_and_data
    before = level.encode(data)
    kernel, bias = level.encoder.get_layer("residual").get_weights()
    level.encoder.get_layer("residual").set_weights([kernel, bias + 1])
    np.testing.assert_allclose(level.encode(data), before + 1, atol=1e-5)


def test_conditional_decoders_and_dense_nets_have_no_linear_path():
    for sae, ends in (
        (Autoencoder(shape=(10, 2), levels=[SequenceLevel(4, conditional=True)]), ("linear", "residual")),
        (Autoencoder(shape=(4, 4, 1), levels=[DenseLevel(4)]), ()),
    ):
        assert Inference(sae.levels[0].decoder, ends).residual is None


@pytest.mark.slow
def test_the_linear_path_alone_takes_less():
    level = ConvLevel(16, 2, 64)
    images = blobs(256, side=32)
    Autoencoder(shape=(32, 32, 3), levels=[level]).train(images, epochs=0, verbose=0)
    times = best_times(
        {"level": partial(level.encode, images), "whole": partial(Inference(level.encoder, ()), images)}, 5
    )
    assert times["level"] < 0.5 * times["whole"]
