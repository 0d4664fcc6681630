import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, Mask, SaltAndPepper
from stacked_autoencoder.training.model import ReconstructionModel
from tests.conftest import blobs

VALUES = np.random.default_rng(0).uniform(-0.9, 0.9, (200, 10, 10, 1)).astype(np.float32)
SIGMAS = 5 * np.sqrt(0.3 * 0.7 / VALUES.size)  # five standard deviations of the share of 0.3


def test_mask_leaves_the_expected_share_as_it_was():
    masked = np.asarray(Mask(0.3)(VALUES, training=True))
    gone = masked == 0
    assert gone.mean() == pytest.approx(0.3, abs=SIGMAS)
    np.testing.assert_array_equal(masked[~gone], VALUES[~gone])  # not rescaled


def test_salt_and_pepper_are_the_extremes_and_as_many_of_each():
    spoiled = np.asarray(SaltAndPepper(0.3)(VALUES, training=True))
    salt, pepper = spoiled == VALUES.max(), spoiled == VALUES.min()
    assert salt.mean() == pytest.approx(0.15, abs=SIGMAS)
    assert pepper.mean() == pytest.approx(0.15, abs=SIGMAS)
    np.testing.assert_array_equal(spoiled[~salt & ~pepper], VALUES[~salt & ~pepper])


@pytest.mark.parametrize("kind", [Mask, SaltAndPepper])
def test_corruption_acts_in_training_alone_and_anew_each_time(kind):
    layer = kind(0.5)
    np.testing.assert_array_equal(np.asarray(layer(VALUES)), VALUES)
    first, second = (np.asarray(layer(VALUES, training=True)) for _ in range(2))
    assert (first != second).any()
    seeded = [np.asarray(kind(0.5, seed=3)(VALUES, training=True)) for _ in range(2)]
    np.testing.assert_array_equal(*seeded)


@pytest.mark.parametrize(("rate", "unchanged"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_ends_of_the_rate(rate, unchanged):
    assert (np.asarray(Mask(rate)(VALUES, training=True)) == VALUES).mean() == unchanged


@pytest.mark.parametrize("kind", [Mask, SaltAndPepper])
def test_corruption_is_a_keras_layer_that_saves_with_a_model(kind, tmp_path):
    model = keras.Sequential([keras.Input((10, 10, 1)), kind(0.25, seed=1)])
    model.save(tmp_path / "model.keras")
    layer = keras.models.load_model(tmp_path / "model.keras").layers[0]
    assert (type(layer), layer.rate, layer.seed) == (kind, 0.25, 1)


@pytest.mark.parametrize("rate", [-0.1, 1.5, "much", True, None])
def test_a_rate_that_is_no_share_is_told(rate):
    with pytest.raises(
        ValueError, match=r"`rate` must be a number from 0 to 1, the share of values to change\. Received: rate="
    ):
        Mask(rate)


def test_the_loss_is_against_the_clean_input():
    """A level that sees nothing at all can only learn the mean of the clean images."""
    level = DenseLevel(4, None, corruption=Mask(1.0))
    level.build(VALUES.shape[1:])
    level.decoder.get_layer("dense0").set_weights([np.zeros((4, 100)), VALUES.mean(axis=0).ravel()])
    model = ReconstructionModel([level])
    loss = model.compute_loss(VALUES, None, model(VALUES))
    assert float(loss) == pytest.approx(VALUES.var(axis=0).mean(), rel=1e-5)


@pytest.mark.slow
def test_a_level_with_room_for_everything_learns_to_repair():
    """Its start restores clean images exactly, so that the scale of its steps must come from corrupted ones."""
    images = blobs(256, 8, 1)
    sae = Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(8, 1, 16, corruption=Mask(0.25))])
    (history,) = sae.train(images, epochs=15, validation_data=images[:64], verbose=0)
    assert min(history.history["val_loss"]) < 0.5 * history.start_loss


def test_a_denoising_level_is_judged_on_corrupted_images():
    level = ConvLevel(4, 1, 4, corruption=Mask(1.0))
    level.build((10, 10, 1))
    model = ReconstructionModel([level])
    blind = np.asarray(model(VALUES, training=False))
    np.testing.assert_array_equal(blind, np.asarray(model(0 * VALUES, training=False)))
