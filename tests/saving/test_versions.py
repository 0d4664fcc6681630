"""Files that version 0.1.0 saved load, give the same numbers, and train further."""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, EncodingStore, heads

FIXTURE = Path(__file__).parent.parent / "fixtures" / "saved_by_0_1_0.zip"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    with zipfile.ZipFile(FIXTURE) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("kind", ["conv", "tied", "variational", "sequence"])
def test_a_stack_of_version_0_1_loads_and_trains_further(saved, kind):
    sae, expected = Autoencoder.load(saved / kind), np.load(saved / f"{kind}.npz")
    np.testing.assert_allclose(sae.encode(expected["inputs"]), expected["encodings"], atol=1e-5)
    np.testing.assert_allclose(sae.reconstruct(expected["inputs"]), expected["reconstructions"], atol=1e-5)
    before = sae.stack.fingerprint(len(sae.levels) - 1)
    sae.train(np.tile(expected["inputs"], (16, *[1] * (expected["inputs"].ndim - 1))), epochs=2, verbose=0)
    assert sae.stack.fingerprint(len(sae.levels) - 1) != before


def test_a_store_of_version_0_1_is_read_and_trains_the_level_above(saved):
    sae, store = Autoencoder.load(saved / "conv"), EncodingStore(saved / "store")
    inputs = np.load(saved / "conv.npz")["inputs"]
    np.testing.assert_allclose(store[: len(inputs)], sae.encode(inputs, level=0), atol=2e-3)
    sae.train(store, epochs=1, levels=[1], verbose=0)


@pytest.mark.parametrize("name", ["Flow", "VAE", "WGAN", "BEGAN"])
def test_a_head_of_version_0_1_generates_and_trains_further(saved, name):
    head, encodings = keras.models.load_model(saved / f"{name}.keras"), EncodingStore(saved / "store")[:]
    assert isinstance(head, getattr(heads, name))
    steps = int(head.optimizer.iterations)
    assert steps > 0
    assert head.generate(4, seed=0).shape == (4, *encodings.shape[1:])
    head.fit(encodings, epochs=1, batch_size=32, verbose=0)
    assert int(head.optimizer.iterations) > steps
    assert np.isfinite(head.generate(4, seed=0)).all()
