import keras
import numpy as np
import pytest
from keras import layers

from stacked_autoencoder import heads
from stacked_autoencoder.heads.wgan import gradient_penalty
from tests.conftest import assert_seeds_decide, bow, off_the_bow


@pytest.fixture(scope="module")
def trained():
    """A WGAN of points along a bent line. Not to be changed by tests."""
    keras.utils.set_random_seed(0)
    wgan = heads.WGAN((4,), latent_dim=4, width=16)
    history = wgan.fit(bow(4000), epochs=30, batch_size=64, validation_data=bow(500, seed=1), verbose=0)
    return wgan, history


@pytest.mark.parametrize("shape", [(5, 3), (9, 9, 2)])
def test_encodings_of_any_shape(shape):
    wgan = heads.WGAN(shape, latent_dim=2, critic_steps=2, width=4)
    encodings = np.random.default_rng(0).normal(3, 2, size=(9, *shape)).astype(np.float32)
    history = wgan.fit(encodings, batch_size=3, verbose=0)
    assert np.isfinite(history.history["distance"]).all()
    assert wgan.generate(5).shape == (5, *shape)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in wgan.critic.layers)


def test_the_penalty_of_a_linear_critic():
    inputs = keras.Input((3, 2))
    critic = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(inputs)))
    kernel = np.arange(6, dtype=np.float32)[:, None]
    critic.set_weights([kernel, np.ones(1)])
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(2, 5, 3, 2)).astype(np.float32)
    found = gradient_penalty(critic, real, made, rng.uniform(size=5).astype(np.float32))
    assert float(found) == pytest.approx((np.linalg.norm(kernel) - 1) ** 2, rel=1e-5)


def test_the_penalty_is_taken_between_real_and_made():
    """Of a critic whose gradient is the place itself."""
    inputs = keras.Input((2,))
    critic = keras.Model(inputs, keras.ops.sum(inputs * inputs, axis=1, keepdims=True) / 2)
    real, made = np.array([[3, 0]], np.float32), np.array([[0, 4]], np.float32)
    share = np.array([0.25], np.float32)
    place = 0.25 * real + 0.75 * made
    found = gradient_penalty(critic, keras.ops.convert_to_tensor(real), keras.ops.convert_to_tensor(made), share)
    assert float(found) == pytest.approx((np.linalg.norm(place) - 1) ** 2, rel=1e-5)


def test_the_distance_is_that_of_mean_ratings():
    wgan, points = heads.WGAN((4,), latent_dim=2, width=4), bow(64)
    wgan.compile("sgd")
    wgan.fit(points, epochs=0)
    linear = wgan.restorer.get_layer("linear")
    linear.kernel.assign(np.zeros((2, 4)))  # whatever the draws
    made = np.asarray(linear.bias)[None]
    ratings = [np.asarray(wgan.critic(each)).mean() for each in (np.asarray(wgan.standardised(points)), made)]
    found = wgan.evaluate(points, batch_size=16, verbose=0, return_dict=True)
    assert float(found["distance"]) == pytest.approx(ratings[0] - ratings[1], abs=1e-5)


def test_the_generator_moves_once_for_so_many_steps_of_the_critic():
    wgan, moved = heads.WGAN((4,), latent_dim=2, critic_steps=3, width=4), []
    seen = [wgan.critic.get_weights()[0], wgan.network.get_weights()[0]]

    def compare(batch, logs):
        now = [wgan.critic.get_weights()[0], wgan.network.get_weights()[0]]
        moved.append([bool((old != new).any()) for old, new in zip(seen, now, strict=True)])
        seen[:] = now

    wgan.fit(bow(70), batch_size=10, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=compare)], verbose=0)
    assert [critic for critic, _ in moved] == [True] * 7
    # The first batch also starts the generator, and its hidden layers move once its last one has left zero.
    assert [generator for _, generator in moved[3:]] == [False, False, True, False]


def test_the_start_is_a_gaussian():
    wgan, points = heads.WGAN((4,), latent_dim=4, width=4), bow(4000)
    wgan.fit(points, epochs=0)
    generated = wgan.generate(4000, seed=0)
    wanted = np.cov(points, rowvar=False)
    np.testing.assert_allclose(generated.mean(axis=0), points.mean(axis=0), atol=0.1 * points.std(axis=0).max())
    np.testing.assert_allclose(np.cov(generated, rowvar=False), wanted, atol=0.06 * np.abs(wanted).max())


@pytest.mark.slow
def test_it_learns_what_a_gaussian_does_not(trained):
    wgan, history = trained
    assert abs(history.history["val_distance"][-1]) < max(history.history["val_distance"])
    points = bow(2000, seed=2)
    gaussian = np.random.default_rng(0).multivariate_normal(points.mean(axis=0), np.cov(points, rowvar=False), 2000)
    generated = wgan.generate(2000, seed=0)
    assert off_the_bow(generated) < off_the_bow(gaussian) / 3
    assert generated[:, 0].std() > 0.7 * points[:, 0].std()  # all along, not at one place


def test_one_seed_one_sample(trained):
    assert_seeds_decide(trained[0])


def test_saved_and_loaded_it_goes_on(trained, tmp_path):
    wgan, _ = trained
    wgan.save(tmp_path / "wgan.keras")
    loaded = keras.saving.load_model(tmp_path / "wgan.keras")
    assert (loaded.critic_steps, loaded.penalty, loaded.width) == (3, 10.0, 16)
    np.testing.assert_array_equal(loaded.generate(6, seed=0), wgan.generate(6, seed=0))
    assert int(loaded.optimizer.iterations) == int(wgan.optimizer.iterations)
    loaded.fit(bow(64), epochs=1, verbose=0)
    assert float(loaded.step) == float(wgan.step) + 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: heads.WGAN((None, None, 8)), "`encoding_shape` must be the shape of one encoding with known sides"),
        (lambda: heads.WGAN((4,), latent_dim=0), "`latent_dim` must be a whole number"),
        (lambda: heads.WGAN((4,), critic_steps=0), "`critic_steps` must be a whole number"),
        (lambda: heads.WGAN((4,), penalty=-1), "`penalty` must be a number of at least 0"),
        (lambda: heads.WGAN((4,)).fit(np.zeros((8, 7, 7, 4))), r"created for encodings of shape \(4,\).*\(7, 7, 4\)"),
    ],
)
def test_wrong_inputs(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
