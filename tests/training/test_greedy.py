import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.levels.base import Level
from tests.conftest import blobs

QUIET = {"verbose": 0}


def one_level(images):
    keras.utils.set_random_seed(0)
    sae = Autoencoder(size=4, n_out=4, n_scalings=1)
    sae.train(images, epochs=0, **QUIET)
    return sae


def test_a_store_of_the_stacks_own_encodings_trains_the_level_above_without_the_images(
    images, held_out, tmp_path, monkeypatch
):
    """The level is added after encoding, and ends as it does when it is trained from the images."""
    sae = one_level(images)
    store = sae.encode_to(tmp_path / "store", images, dtype="float32", **QUIET)
    valid = sae.encode_to(tmp_path / "valid", held_out, dtype="float32", **QUIET)
    encoded = []
    monkeypatch.setattr(
        Level, "encode", lambda self, inputs, encode=Level.encode: encoded.append(self) or encode(self, inputs)
    )
    losses = []
    for data, validation in ((store, valid), (store, held_out), (images, held_out)):
        keras.utils.set_random_seed(1)
        sae = one_level(images)
        sae.add(ConvLevel(4, 1, 4))
        encoded.clear()
        (history,) = sae.train(data, epochs=0, levels=[1], validation_data=validation, **QUIET)
        losses.append(history.start_loss)
        assert (sae.levels[0] in encoded) == (validation is held_out)
    np.testing.assert_allclose(losses, losses[2], rtol=1e-4)


def test_all_levels_above_a_store_are_trained_by_default(images, tmp_path):
    sae = one_level(images)
    store = sae.encode_to(tmp_path / "store", images, **QUIET)
    sae.add(ConvLevel(4, 1, 4))
    sae.add(ConvLevel(4, 1, 4))
    assert len(sae.train(store, epochs=0, **QUIET)) == 2
    assert sae.encode(images).shape == (96, 2, 2, 4)
    budget = sae.evaluate(images, return_dict=True)
    assert budget[0]["full_loss"] < budget[1]["full_loss"] < budget[2]["full_loss"]
    assert np.isnan(budget[2]["pca_loss"])  # of images that weren't there


def test_mixed_sizes_train_from_a_store(tmp_path):
    images = [blobs(1, side=side, seed=index)[0] for index, side in enumerate([16, 20, 18, 24, 16, 20] * 6)]
    sae = one_level(images)
    store = sae.encode_to(tmp_path / "store", images, **QUIET)
    sae.add(ConvLevel(4, 2, 4))
    sae.train(store, epochs=1, **QUIET)  # 9x9 encodings, padded to 12x12
    assert np.isfinite(sae.evaluate(images))


def test_what_a_store_cannot_train_raises_an_error(images, tmp_path):
    sae = one_level(images)
    store = sae.encode_to(tmp_path / "store", images, **QUIET)
    with pytest.raises(ValueError, match=r"`images` is a store of level 0, the last one.*Add one with `sae\.add"):
        sae.train(store, epochs=0, **QUIET)
    sae.add(ConvLevel(4, 1, 4))
    with pytest.raises(ValueError, match=r"`images` is a store with encodings of level 0.*Received: levels=\[0, 1\]"):
        sae.train(store, epochs=0, levels=[0, 1], **QUIET)
    with pytest.raises(
        ValueError, match=r"`validation_data` is a store with encodings of level 0.*Received: levels=\[0, 1\]"
    ):
        sae.train(images, epochs=0, validation_data=store, **QUIET)
    weights = sae.levels[0].encoder.get_weights()
    sae.levels[0].encoder.set_weights([weight + 0.1 for weight in weights])
    with pytest.raises(
        ValueError, match=r"`images` is a store of level 0 that another encoder wrote.*again with `encode_to`"
    ):
        sae.train(store, epochs=0, **QUIET)


def test_a_store_of_a_level_that_was_never_trained_raises_an_error(images, tmp_path):
    sae = Autoencoder(size=4, n_out=4, n_scalings=1)
    store = sae.encode_to(tmp_path / "store", images, **QUIET)
    sae.add(ConvLevel(4, 1, 4))
    with pytest.raises(ValueError, match=r"level 0 hasn't been trained yet.*Received: levels=\[1\]"):
        sae.train(store, epochs=0, **QUIET)


def test_a_store_of_vectors_trains_nothing(trained, images, tmp_path):
    sae, _ = trained
    store = sae.encode_to(tmp_path / "store", images, **QUIET)
    with pytest.raises(ValueError, match=r"`images` is a store of level 1, the last one"):
        sae.train(store, epochs=0, **QUIET)


def test_a_store_of_something_else_stands_for_images(images, tmp_path):
    """Encodings of another stack are what level 0 of this one sees."""
    store = one_level(images).encode_to(tmp_path / "store", images, **QUIET)
    sae = Autoencoder(shape=(8, 8, 4), size=4, n_out=4, n_scalings=1, check_range=False)
    assert len(sae.train(store, epochs=0, **QUIET)) == 1
    assert sae.evaluate(store) == pytest.approx(sae.evaluate(store[:].astype(np.float32)), rel=1e-6)
