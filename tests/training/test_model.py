import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel
from stacked_autoencoder.training.model import ReconstructionModel


def test_the_loss_is_the_mean_squared_error_and_needs_no_target(images):
    level = ConvLevel(n_out=4, size=4)
    level.build((16, 16, 3))
    model = ReconstructionModel([level])
    model.compile(optimizer="sgd")
    restored = level.decode(level.encode(images))
    loss = model.evaluate(tf.data.Dataset.from_tensor_slices(images).batch(32), verbose=0)
    assert loss == pytest.approx(np.mean(np.square(restored - images)), rel=1e-5)


def test_a_loss_of_another_name_is_that_loss(images):
    level = ConvLevel(n_out=4, size=4, loss="mae")
    level.build((16, 16, 3))
    model = ReconstructionModel([level])
    restored = level.decode(level.encode(images))
    assert float(model.compute_loss(images, None, model(images))) == pytest.approx(np.abs(restored - images).mean())


def test_targets_are_what_is_restored(images):
    level = DenseLevel(4)
    level.build((16, 16, 3))
    model = ReconstructionModel([level])
    targets = np.roll(images, 1, axis=0)
    expected = np.square(level.decode(level.encode(images)) - targets).mean()
    assert float(model.compute_loss(images, targets, model(images))) == pytest.approx(expected, rel=1e-5)


def test_penalties_of_all_levels_count_in_joint_training(images):
    weights = 0.25, 0.5
    sae = Autoencoder(
        shape=(16, 16, 3),
        levels=[
            DenseLevel(units, penalty=keras.regularizers.L1(weight))
            for units, weight in zip((8, 4), weights, strict=True)
        ],
    )
    model = ReconstructionModel(sae.levels)
    total = float(model.compute_loss(images, None, model(images)))
    penalties = [
        weight * np.abs(sae.encode(images, level=level)).sum(axis=1).mean() for level, weight in enumerate(weights)
    ]
    assert total == pytest.approx(sae.evaluate(images) + sum(penalties), rel=1e-4)
    assert [tracker.name for tracker in model.trackers] == ["reconstruction", "penalty"]


@pytest.mark.slow
def test_fine_tuning_keeps_what_each_level_is(images, held_out):
    sae = Autoencoder(shape=(16, 16, 3), levels=[DenseLevel(24, tied=True), DenseLevel(6, kl_weight=0.05)])
    sae.train(images, epochs=2, validation_data=held_out, verbose=0)
    history = sae.fine_tune(images, epochs=2, validation_data=held_out, verbose=0)
    assert {"loss", "kl", "reconstruction"} <= set(history.history)
    kernels = [np.asarray(model.get_layer("dense0").kernel) for model in (sae.levels[0].encoder, sae.levels[0].decoder)]
    np.testing.assert_array_equal(kernels[0], kernels[1].T)
    assert sae.sample(3).shape == (3, 16, 16, 3)
