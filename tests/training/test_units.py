"""Training in any unit of the data, and the warnings about units that a level can't learn."""

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel
from stacked_autoencoder.training.units import scales_and_units
from tests.conftest import blobs, waves

IMAGES, SERIES = blobs(288, 8, 1), waves(288)
VECTORS = IMAGES.reshape(288, 64) + IMAGES.reshape(288, 64)[::-1] ** 2
KINDS = {
    "conv": (lambda: [ConvLevel(4, 2, size=16)], IMAGES),
    "conv vector": (lambda: [ConvLevel(latent_dim=6, n_scalings=1, size=16)], IMAGES),
    "dense": (lambda: [DenseLevel([32, 12], activation=["tanh", "relu"]), DenseLevel(4)], VECTORS),
    "lstm": (lambda: [SequenceLevel(8)], SERIES),
    "conditional gru": (lambda: [SequenceLevel([12, 8], conditional=True, target="both", cell="gru")], SERIES),
}


def relative_loss(kind, unit, offset):
    """The loss after training, divided by the variance of the data. `offset` is in standard deviations."""
    make, data = KINDS[kind]
    data = ((data + offset * data.std()) * unit).astype(np.float32)
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=data.shape[1:], levels=make(), check_range=False)
    sae.train(data[:256], epochs=4, batch_size=16, validation_data=data[256:], verbose=0)
    reconstructed = np.asarray(sae.reconstruct(data[256:]), np.float64)
    return np.mean(np.square(reconstructed - data[256:])) / np.var(data[256:], dtype=np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_training_is_independent_of_the_unit_and_the_offset_of_the_data(kind):
    expected = relative_loss(kind, 1.0, 0.0)
    others = ((1e6, -100.0),) if kind == "conditional gru" else ((1e-6, 0.0), (1e6, -100.0))
    for unit, offset in others:
        assert relative_loss(kind, unit, offset) == pytest.approx(expected, rel=0.05), (unit, offset)


def test_training_in_another_unit_learns_more_than_pca():
    data = 1e4 * IMAGES + 3e5
    sae = Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(4, 2, size=16)], check_range=False)
    keras.utils.set_random_seed(0)
    sae.train(data, epochs=4, batch_size=16, verbose=0)
    budget = sae.evaluate(data, return_dict=True)[0]
    assert budget["loss"] < 0.9 * budget["pca_loss"]


def test_output_layers_take_steps_proportional_to_the_error(images):
    level = ConvLevel(n_out=4, size=4)
    level.build((16, 16, 3))
    level.adapt(lambda: iter([images]))
    scales, units = scales_and_units([level], images, 0.01)
    assert len(scales) == 8  # kernel and bias of linear and residual, both ways
    deviation = np.sqrt(np.mean(np.square(images - images.mean(axis=(0, 1, 2)))))
    for model, spread in ((level.encoder, level.encode(images).std()), (level.decoder, deviation)):
        kernel = model.get_layer("residual").kernel
        assert scales[id(kernel)] == pytest.approx(0.1 / deviation, rel=1e-5)
        assert units[id(kernel)].size == pytest.approx(spread, rel=1e-5)
    patchify = level.encoder.get_layer("patchify")
    assert units[id(patchify.kernel)].size == pytest.approx(1 / deviation / np.sqrt(4 * 4 * 3 / 4), rel=1e-5)
    np.testing.assert_allclose(units[id(patchify.kernel)].mean[:, 0], images.mean(axis=(0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("shape", [(6,), (5, 6)])
def test_columns_that_hardly_count_are_named_and_the_advice_works(shape):
    table = np.random.default_rng(0).normal(size=(64, *shape)).astype(np.float32)
    table[..., 2] *= 1e4
    table[..., 4] = 0  # a constant column can't be standardised, and isn't named

    def train(table):
        level = DenseLevel(3) if len(shape) == 1 else SequenceLevel(3)
        Autoencoder(shape=shape, levels=[level]).train(table, epochs=1, verbose=0)

    with pytest.warns(UserWarning, match=r"as much as column 2, so they hardly .*: 0, 1, 3, 5 \(counted from 0\)"):
        train(table)
    normalization = keras.layers.Normalization()
    normalization.adapt(table)
    train(normalization(table).numpy())


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_tied_levels_warn_about_units_and_the_advice_works(unit):
    def train(table, **options):
        Autoencoder(shape=(64,), levels=[DenseLevel([8, 3], "tanh", **options)]).train(table, epochs=1, verbose=0)

    table = VECTORS * unit
    with pytest.warns(UserWarning, match=r"`tied=True` needs inputs with a standard deviation near 1"):
        train(table, tied=True)
    train(table / table.std(), tied=True)
    train(table)
