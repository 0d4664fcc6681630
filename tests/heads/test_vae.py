import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, DenseLevel, EncodingStore, heads
from tests.conftest import assert_seeds_decide, blobs, bow, off_the_bow, run_without_this_package


@pytest.fixture(scope="module")
def trained():
    """A VAE of points along a bent line. Not to be changed by tests."""
    keras.utils.set_random_seed(0)
    vae = heads.VAE((4,), latent_dim=1)
    history = vae.fit(bow(4000), epochs=12, batch_size=64, validation_data=bow(500, seed=1), verbose=0)
    return vae, history


@pytest.mark.parametrize("shape", [(6,), (5, 3), (4, 4, 6)])
def test_encodings_of_any_shape(shape):
    vae = heads.VAE(shape, latent_dim=2, width=8)
    encodings = np.random.default_rng(0).normal(3, 2, size=(9, *shape)).astype(np.float32)
    vae.fit(encodings, batch_size=4, verbose=0)
    assert vae.predict(encodings, verbose=0).shape == encodings.shape
    assert vae.encode(encodings).shape == (9, 2)
    assert vae.generate(5).shape == (5, *shape)
    assert vae.interpolate(encodings[0], encodings[1], 3).shape == (3, *shape)


def test_networks_see_standardised_encodings():
    vae = heads.VAE((4, 4, 3), width=8)
    encodings = np.random.default_rng(0).normal([1, 0, -5], [1, 10, 0.1], size=(32, 4, 4, 3)).astype(np.float32)
    encodings[..., 0] = 7  # always
    vae.fit(encodings, epochs=1, verbose=0)
    values = np.asarray(vae.standardised(encodings))
    np.testing.assert_allclose(values.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    assert values.var(axis=(0, 1, 2)).mean() == pytest.approx(1, rel=1e-4)  # in one unit for all channels
    np.testing.assert_allclose(values[..., 1] * float(vae.std), encodings[..., 1], atol=1)
    restored = keras.Sequential([keras.Input((4, 4, 3)), vae.generator.get_layer("units")])(values)
    np.testing.assert_allclose(restored, encodings, rtol=1e-4, atol=1e-4)


def test_the_loss_is_that_of_the_paper():
    vae = heads.VAE((4,), latent_dim=2, beta=0.5, width=8)
    vae.posterior.get_layer("log_variance").set_weights(
        [np.zeros((16, 2), np.float32), np.full(2, -40, np.float32)]  # draws are the means
    )
    x = bow(8)
    mean = np.asarray(vae.posterior(x)[0], np.float64)
    kl = np.mean(np.sum(mean**2 + np.exp(-40) + 40 - 1, axis=1)) / 2
    error = np.mean(np.square(x - vae.predict(x, verbose=0)))
    vae.compile("sgd")
    found = vae.evaluate(x, x, verbose=0, return_dict=True)
    assert found["kl"] == pytest.approx(kl, rel=1e-4)
    assert found["reconstruction"] == pytest.approx(error, rel=1e-4)
    assert found["loss"] == pytest.approx(np.log(error) / 2 + 0.5 * kl / 4, rel=1e-4)


def test_the_start_is_the_best_linear_model():
    vae, points = heads.VAE((4,), latent_dim=2), bow(2000)
    vae.compile("sgd")
    vae.fit(points, epochs=0)
    values = np.asarray(vae.standardised(points), np.float64)
    variances = np.linalg.eigvalsh(np.cov(values, rowvar=False, ddof=0))[::-1]
    noise = variances[2:].mean()
    mean, log_variance = (np.asarray(each) for each in vae.posterior(values))
    # Of probabilistic PCA: what draws from the posterior are spread like the prior.
    np.testing.assert_allclose(mean.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(mean.var(axis=0) + np.exp(log_variance[0]), 1, rtol=1e-3)
    np.testing.assert_allclose(np.exp(log_variance[0]), noise / variances[:2], rtol=1e-3)
    generated = np.asarray(vae.standardised(vae.generate(20_000, seed=0)), np.float64)
    found = np.linalg.eigvalsh(np.cov(generated, rowvar=False))[::-1]
    np.testing.assert_allclose(found, [*(variances[:2] - noise), 0, 0], atol=0.05)


@pytest.mark.slow
def test_it_learns_what_a_gaussian_does_not(trained):
    vae, history = trained
    assert history.history["loss"][-1] < history.history["loss"][0]
    points = bow(2000, seed=2)
    gaussian = np.random.default_rng(0).multivariate_normal(points.mean(axis=0), np.cov(points, rowvar=False), 2000)
    generated = vae.generate(2000, seed=0)
    assert off_the_bow(generated) < off_the_bow(gaussian) / 10
    assert generated[:, 0].std() > 0.6  # all along, not at one place


def test_one_seed_one_sample(trained):
    assert_seeds_decide(trained[0])


def test_interpolation_goes_from_one_to_the_other(trained):
    vae, _ = trained
    points = bow(2)
    path = vae.interpolate(*points, n=5)
    np.testing.assert_allclose(path[[0, -1]], vae.predict(points, verbose=0), rtol=1e-4, atol=1e-4)


def test_saved_and_loaded_it_generates_the_same(trained, tmp_path):
    vae, _ = trained
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    np.testing.assert_array_equal(loaded.generate(6, seed=0), vae.generate(6, seed=0))
    np.testing.assert_allclose(loaded.encode(bow(5)), vae.encode(bow(5)), atol=1e-6)
    before = np.asarray(loaded.mean)
    loaded.fit(bow(64) + 100, epochs=1, verbose=0)  # goes on with the units it has learnt in
    np.testing.assert_array_equal(loaded.mean, before)


@pytest.mark.slow
def test_generator_and_decoder_load_without_this_package(tmp_path):
    images = blobs(64, 8, 1)
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(6)])
    sae.train(images, epochs=1, verbose=0)
    vae = heads.VAE(sae.encoding_shape, latent_dim=3, width=8)
    vae.fit(sae.encode(images), epochs=1, verbose=0)
    keras.Sequential([vae.generator, sae.decoder]).save(tmp_path / "both.keras")
    draws = np.random.default_rng(0).standard_normal((4, 3), dtype=np.float32)
    np.save(tmp_path / "draws.npy", draws)
    program = f"""
import keras, numpy as np
images = keras.saving.load_model("{tmp_path}/both.keras").predict(np.load("{tmp_path}/draws.npy"), verbose=0)
np.save("{tmp_path}/images.npy", images)
"""
    run_without_this_package(program)
    expected = sae.decode(vae.generator.predict(draws, verbose=0))
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), expected, atol=1e-5)


class Batches(keras.utils.PyDataset):
    def __init__(self, encodings):
        super().__init__()
        self.encodings = encodings

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.encodings[20 * index : 20 * index + 20]


def test_arrays_datasets_and_stores_give_the_same_statistics(tmp_path):
    sae = Autoencoder(shape=(8, 8, 1), size=4, n_out=3, n_scalings=1)
    sae.train(blobs(40, 8, 1), epochs=0, verbose=0)
    sae.encode_to(tmp_path / "store", blobs(40, 8, 1), dtype="float32", verbose=0)
    store = EncodingStore(tmp_path / "store")
    labelled = tf.data.Dataset.from_tensor_slices((store[:], np.arange(40))).batch(16)
    means = []
    for encodings in (store, store[:], labelled, Batches(store[:])):
        vae = heads.VAE(sae.encoding_shape, latent_dim=2, width=4)
        vae.fit(encodings, epochs=1, verbose=0, validation_data=store)
        means.append(np.asarray(vae.mean))
    np.testing.assert_allclose(means[1], store.mean, atol=1e-5)
    np.testing.assert_allclose(means, [means[1]] * 4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: heads.VAE((None, None, 8)), "`encoding_shape` must be the shape of one encoding with known sides"),
        (lambda: heads.VAE((4,), latent_dim=0), "`latent_dim` must be a whole number"),
        (lambda: heads.VAE((4,), beta=-1), "`beta` must be a number of at least 0"),
        (lambda: heads.VAE((4,)).fit(np.zeros((8, 7, 7, 4))), r"created for encodings of shape \(4,\).*\(7, 7, 4\)"),
        (lambda: heads.VAE((4,)).encode(np.zeros((8, 5))), r"created for encodings of shape \(4,\)"),
        (lambda: heads.VAE((4,)).fit(np.zeros((0, 4))), "`x` must contain at least one encoding"),
        (lambda: heads.VAE((4,)).generate(0), "`n` must be a whole number"),
    ],
)
def test_wrong_inputs(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
