import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from stacked_autoencoder import Autoencoder, heads
from stacked_autoencoder.heads import BEGAN
from stacked_autoencoder.heads.began import SPEED
from tests.conftest import assert_seeds_decide, blobs, bow


@pytest.fixture(scope="module")
def trained():
    """A BEGAN of points along a bent line. Not to be changed by tests."""
    keras.utils.set_random_seed(0)
    began = BEGAN((4,), latent_dim=2, width=16)
    began.fit(bow(400), epochs=2, batch_size=64, verbose=0)
    return began


def errors(began, values):
    return float(np.mean(began.errors(values, began.encoder(values), False)))


@pytest.mark.parametrize("shape", [(5, 3), (4, 4, 2)])
def test_encodings_of_any_shape(shape):
    began = BEGAN(shape, latent_dim=2, width=4)
    encodings = np.random.default_rng(0).normal(3, 2, size=(9, *shape)).astype(np.float32)
    history = began.fit(encodings, batch_size=4, verbose=0)
    assert np.isfinite(history.history["convergence"]).all()
    assert began.generate(5).shape == (5, *shape)


def test_the_discriminator_starts_as_principal_component_analysis():
    began = BEGAN((4, 4, 2), latent_dim=8, width=4)
    encodings = blobs(200, 4, 2)
    began.fit(encodings, epochs=0)
    values = np.asarray(began.standardised(encodings))
    flat = values.reshape(200, -1).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    vectors = np.linalg.svd(centred, full_matrices=False)[2][:8]
    error = np.abs(centred - centred @ vectors.T @ vectors).mean()
    assert errors(began, values) == pytest.approx(error, rel=1e-3)


def test_the_constraint_holds_codes_where_they_start():
    began = BEGAN((4, 4, 2), latent_dim=3, width=4, constraint=0.0)
    began.fit(blobs(200, 4, 2), epochs=0)
    draws = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    codes = np.asarray(began.encoder(began.network(draws)))
    kernel, bias = np.asarray(began.code_kernel), np.asarray(began.code_bias)
    np.testing.assert_allclose(draws @ kernel + bias, codes, atol=1e-4)  # both networks start linear
    began.draws = lambda values: tf.convert_to_tensor(draws)
    began.code_bias.assign(bias + np.array([0.5, 0.0, 0.0]))
    terms = began._terms(np.zeros((50, 4, 4, 2), np.float32), began.network, False)
    assert float(terms[2]) == pytest.approx((0.25 / 3) / np.square(kernel).sum(axis=0).mean(), rel=1e-3)


def test_codes_stay_nearer_to_the_start_the_more_they_are_held():
    off = []
    for constraint in (0.0, 10.0):
        keras.utils.set_random_seed(0)
        began = BEGAN((4,), latent_dim=2, width=16, constraint=constraint)
        off.append(began.fit(bow(400), epochs=20, verbose=0).history["constraint"][-1])
    assert off[1] < off[0] / 2


@pytest.mark.parametrize(("k", "gamma"), [(0.0, 0.0), (0.3, 0.5), (0.99999, 1.0)])
def test_the_equilibrium_term_follows_its_rule(k, gamma):
    began, points = BEGAN((4,), latent_dim=1, gamma=gamma, width=4), bow(64)
    began.fit(points, epochs=0)
    began.k.assign(k)
    if gamma == 1.0:
        began.network.get_layer("linear").kernel.assign(np.zeros((1, 4)))  # restored far better than real ones
    for _ in range(3):
        before = float(began.k)
        began.reset_metrics()
        logs = began.train_on_batch(points, return_dict=True)
        expected = np.clip(before + SPEED * (gamma * logs["real"] - logs["made"]), 0, 1)
        assert float(began.k) == pytest.approx(expected, abs=1e-7)
        assert logs["convergence"] == pytest.approx(logs["real"] + abs(gamma * logs["real"] - logs["made"]), rel=1e-5)
        assert 0 <= float(began.k) <= 1
    if gamma in (0.0, 1.0):
        assert float(began.k) == gamma  # at either end


def test_both_networks_move_as_the_paper_says():
    """By plain gradient descent: the level by that of `real - k made`, the generator by that of `made`."""
    began, points = BEGAN((4,), latent_dim=2, width=4, constraint=0.0), bow(512)
    began.compile(keras.optimizers.SGD(1e-2))
    began.fit(points, epochs=0)
    logs = [began.train_on_batch(points, return_dict=True) for _ in range(2)]
    assert logs[1]["real"] < logs[0]["real"]  # k is 0 yet
    draws = np.random.default_rng(0).normal(size=(512, 2)).astype(np.float32)
    before = errors(began, began.network(draws))
    judge = began.encoder.get_weights() + began.decoder.get_weights()
    for _ in range(5):
        began.train_on_batch(points)
    began.encoder.set_weights(judge[: len(began.encoder.weights)])
    began.decoder.set_weights(judge[len(began.encoder.weights) :])
    assert errors(began, began.network(draws)) < before


def test_one_seed_one_sample(trained):
    assert_seeds_decide(trained)


def test_saved_and_loaded_it_goes_on(trained, tmp_path):
    began = trained
    began.save(tmp_path / "began.keras")
    loaded = keras.saving.load_model(tmp_path / "began.keras")
    np.testing.assert_array_equal(loaded.generate(6, seed=0), began.generate(6, seed=0))
    assert float(loaded.k) == float(began.k)
    before = loaded.encoder.get_weights()[0]
    loaded.fit(bow(64), epochs=1, verbose=0)
    assert np.abs(loaded.encoder.get_weights()[0] - before).max() < 0.01  # isn't started anew


@pytest.fixture(scope="module")
def small_stack():
    sae = Autoencoder(shape=(8, 8, 1), size=4, n_out=3, n_scalings=1)
    sae.train(blobs(40, 8, 1), epochs=0, verbose=0)
    return sae, sae.encode(blobs(40, 8, 1))


def test_errors_can_be_those_of_images(small_stack):
    sae, encodings = small_stack
    began = BEGAN(sae.encoding_shape, latent_dim=2, width=4)
    began.compile(keras.optimizers.SGD(0.0))
    before = sae.decoder.get_weights()
    through = began.fit(encodings, batch_size=40, epochs=1, decoder=sae.decoder, verbose=0).history["real"][0]
    plain = began.fit(encodings, batch_size=40, epochs=1, verbose=0).history["real"][0]
    values = np.asarray(began.standardised(encodings))
    restored = np.asarray(began.decoder(began.encoder(values)))
    images = [sae.decode(np.asarray(began.in_units(each))) for each in (values, restored)]
    assert through == pytest.approx(np.abs(images[0] - images[1]).mean(), rel=1e-4)
    assert plain == pytest.approx(np.abs(values - restored).mean(), rel=1e-4)
    for old, new in zip(before, sae.decoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not {id(weight) for weight in sae.decoder.weights} & {id(weight) for weight in began.weights}


def test_a_vae_can_be_refined_through_the_decoder(small_stack):
    sae, encodings = small_stack
    vae = heads.VAE(sae.encoding_shape, latent_dim=2, width=8)
    vae.posterior.get_layer("log_variance").kernel.assign(np.zeros_like(vae.posterior.get_layer("log_variance").kernel))
    vae.fit(encodings, epochs=0)
    vae.posterior.get_layer("log_variance").bias.assign([-40.0, -40.0])  # draws are the means
    vae.compile(keras.optimizers.SGD(0.0))
    found = vae.fit(encodings, batch_size=40, epochs=1, decoder=sae.decoder, verbose=0).history["reconstruction"][0]
    images = [sae.decode(each) for each in (encodings, vae.predict(encodings, verbose=0))]
    assert found == pytest.approx(np.square(images[0] - images[1]).mean(), rel=1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: BEGAN((None, None, 8)), "`encoding_shape` must be the shape of one encoding with known sides"),
        (lambda: BEGAN((4,), gamma=1.5), "`gamma` must be between 0 and 1"),
        (lambda: BEGAN((4,), gamma=-0.5), "`gamma` must be a number of at least 0"),
        (lambda: BEGAN((4,), constraint=-1), "`constraint` must be a number of at least 0"),
        (
            lambda: BEGAN((4,)).fit(np.zeros((8, 4)), decoder=keras.Sequential([keras.Input((9,)), layers.Dense(1)])),
            r"created for encodings of shape \(4,\).*`decoder` of encodings of shape \(9,\)",
        ),
    ],
)
def test_wrong_inputs(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
