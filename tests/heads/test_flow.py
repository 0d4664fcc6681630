import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, heads
from stacked_autoencoder.heads.velocity import integrate
from stacked_autoencoder.optimizers import ConvMuon
from tests.conftest import assert_seeds_decide, run_without_this_package

CORNERS = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)


def mixture(count, seed=0):
    """Points near the corners of a square, and which corner it is."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(4, size=count)
    points = CORNERS[corner] + 0.1 * rng.standard_normal((count, 2))
    return (20 * points + [5, 0]).astype(np.float32), corner


def tilted(count):
    """Normal points whose values are correlated, and their covariance."""
    rng = np.random.default_rng(1)
    covariance = np.array([[4, 1.5, 0], [1.5, 1, 0.2], [0, 0.2, 0.25]])
    return rng.multivariate_normal([1, 2, 3], covariance, count).astype(np.float32), covariance


def off(points):
    """Distance of each point from the nearest corner."""
    points = (points - [5, 0]) / 20
    return np.linalg.norm(points[:, None] - CORNERS, axis=2).min(axis=1)


@pytest.fixture(scope="module")
def trained():
    """A flow to four corners, with classes. Not to be changed by tests."""
    keras.utils.set_random_seed(0)
    flow = heads.Flow((2,), n_classes=4, width=16, depth=2)
    points, corner = mixture(4000)
    history = flow.fit(points, corner, epochs=25, batch_size=128, validation_data=mixture(500, seed=1), verbose=0)
    return flow, history


@pytest.mark.parametrize(("shape", "n_classes"), [((6,), None), ((5, 3), 3), ((4, 4, 6), None)])
def test_encodings_of_any_shape(shape, n_classes):
    flow = heads.Flow(shape, n_classes=n_classes, width=4, depth=1)
    encodings = np.random.default_rng(0).normal(3, 2, size=(9, *shape)).astype(np.float32)
    labels = None if n_classes is None else np.arange(9) % 3
    history = flow.fit(encodings, None if labels is None else labels[:, None], batch_size=4, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    generated = flow.generate(5, seed=0, steps=2)
    assert generated.shape == (5, *shape)
    noise = np.random.default_rng(0).standard_normal((5, *shape), dtype=np.float32)
    inputs = noise if n_classes is None else [noise, np.full(5, n_classes)]
    np.testing.assert_allclose(flow.unrolled(steps=2)(inputs), generated, atol=1e-4)


def test_the_start_is_a_gaussian():
    points, covariance = tilted(8000)
    flow = heads.Flow((3,), width=4)
    flow.fit(points, epochs=0)
    generated = flow.generate(8000, seed=0)
    np.testing.assert_allclose(generated.mean(axis=0), [1, 2, 3], atol=0.1)
    np.testing.assert_allclose(np.cov(generated, rowvar=False), covariance, rtol=0.1, atol=0.1)


def test_the_loss_of_the_start_is_the_closed_form():
    points, _ = tilted(8000)
    flow = heads.Flow((3,), width=4)
    flow.fit(points, epochs=0)
    values = (points - points.mean(axis=0)) / np.sqrt(points.var(axis=0).mean())
    variances = np.linalg.eigvalsh(np.cov(values, rowvar=False))
    # What the values tell nothing of: the variance of the velocity, given them, at logit-normal times.
    time = 1 / (1 + np.exp(-np.random.default_rng(0).standard_normal((100_000, 1))))
    expected = np.mean(variances / ((1 - time) ** 2 + time**2 * variances))
    keras.utils.set_random_seed(0)
    found = np.mean([flow.evaluate(points, batch_size=1000, verbose=0) for _ in range(3)])
    assert found == pytest.approx(expected, rel=0.03)


def test_the_start_knows_the_classes():
    points, corner = mixture(2000)
    flow = heads.Flow((2,), n_classes=4, width=4)
    flow.fit(points, corner, epochs=0)
    for label in range(4):
        assert off(flow.generate(100, seed=0, labels=label)).mean() < 0.25
    assert off(flow.generate(500, seed=0)).mean() > 0.5  # of any class: around the mean of all


@pytest.mark.slow
def test_it_learns_a_mixture(trained):
    flow, history = trained
    assert history.history["val_loss"][-1] < history.history["val_loss"][0]
    generated = flow.generate(1000, seed=0)  # of any class
    gaussian = np.random.default_rng(0).multivariate_normal([5, 0], np.cov(mixture(4000)[0], rowvar=False), 1000)
    assert off(generated).mean() < off(gaussian).mean() / 2
    nearest = np.linalg.norm(((generated - [5, 0]) / 20)[:, None] - CORNERS, axis=2).argmin(axis=1)
    assert np.bincount(nearest, minlength=4).min() > 150  # all four, not one


@pytest.mark.slow
def test_it_draws_the_class_that_is_asked_for(trained):
    flow, _ = trained
    labels = np.arange(400) % 4
    for guidance in (1.0, 2.0):
        generated = (flow.generate(400, seed=0, labels=labels, guidance=guidance) - [5, 0]) / 20
        near = np.linalg.norm(generated[:, None] - CORNERS, axis=2).argmin(axis=1) == labels
        assert near.mean() > 0.99
    np.testing.assert_array_equal(flow.generate(8, seed=1, labels=2), flow.generate(8, seed=1, labels=np.full(8, 2)))


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_a_straight_line_is_followed_to_its_end(sampler):
    target = np.array([3.0, -1.0])
    values = integrate(lambda values, time: (target - values) / (1 - time), np.zeros(2), 7, sampler)
    np.testing.assert_allclose(values, target)


def test_heun_needs_fewer_steps():
    """To the end of a curve whose formula is known."""

    def velocity(values, time):
        return values * np.cos(6 * time)

    wanted = np.exp(np.sin(6) / 6)
    euler, heun = (abs(integrate(velocity, np.ones(1), 20, sampler)[0] - wanted) for sampler in ("euler", "heun"))
    assert heun < euler / 2


def test_what_never_changes_is_drawn_as_it_is():
    encodings = np.random.default_rng(0).normal(size=(64, 4, 4, 2)).astype(np.float32)
    encodings[..., 1] = 7
    flow = heads.Flow((4, 4, 2), width=4, depth=1)
    flow.fit(encodings, epochs=0)
    np.testing.assert_allclose(flow.generate(4, seed=0)[..., 1], 7, atol=1e-2)


def test_the_average_of_weights_follows_its_rule():
    keras.utils.set_random_seed(0)
    flow, seen = heads.Flow((3,), width=2, depth=1), []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(flow.network.get_weights())
    )
    flow.fit(tilted(40)[0], epochs=1, batch_size=10, callbacks=[keep], verbose=0)
    expected = seen[0]
    for step, weights in enumerate(seen[1:], start=2):
        kept = (1 - 1 / step) ** 7.94
        expected = [kept * old + (1 - kept) * new for old, new in zip(expected, weights, strict=True)]
    for found, wanted in zip(flow.averaged.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert any((old != new).any() for old, new in zip(seen[-1], expected, strict=True))


def test_only_the_network_is_trained():
    flow = heads.Flow((4, 4, 2), width=4, depth=1)
    assert {id(weight) for weight in flow.trainable_weights} == {id(weight) for weight in flow.network.weights}


def test_of_several_labels_one_is_chosen(tmp_path):
    images = np.random.default_rng(0).uniform(-1, 1, (12, 8, 8, 3)).astype(np.float32)
    sae = Autoencoder(shape=(8, 8, 3), size=4, n_out=2, n_scalings=2)
    labels = {"age": np.arange(12), "kind": np.arange(12) % 3}
    store = sae.encode_to(tmp_path, (images, labels), verbose=0)
    flow = heads.Flow(sae.encoding_shape, 3, width=4, depth=1)
    for x, y in ((store, None), (store.dataset(4), None), (store[:], labels)):
        with pytest.raises(
            ValueError, match=r"`dataset\.map\(lambda z, labels: \(z, labels\['age'\]\)\)`.*'age', 'kind'"
        ):
            flow.fit(x, y, verbose=0)
    flow.fit(store.dataset(4).map(lambda z, labels: (z, labels["kind"])), epochs=1, verbose=0)
    flow.fit(store[:].astype(np.float32), store.labels["kind"], epochs=1, verbose=0)
    heads.Flow(sae.encoding_shape, width=4, depth=1).fit(store, epochs=1, verbose=0)  # leaves all of them out


def test_datasets_with_labels():
    points, corner = mixture(64)
    flow = heads.Flow((2,), n_classes=4, width=4, depth=1)
    flow.fit(tf.data.Dataset.from_tensor_slices((points, corner)).batch(16), epochs=1, verbose=0)
    np.testing.assert_allclose(np.asarray(flow.mean), points.mean(axis=0), atol=1e-4)
    without = heads.Flow((2,), width=4, depth=1)  # leaves the labels out
    without.fit(tf.data.Dataset.from_tensor_slices((points, corner)).batch(16), epochs=1, verbose=0)


def test_one_seed_one_sample(trained):
    assert_seeds_decide(trained[0])


def test_one_seed_one_training():
    drawn = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        flow = heads.Flow((2,), width=2, depth=1)
        flow.fit(mixture(64)[0], epochs=1, batch_size=16, verbose=0)
        drawn.append(flow.generate(4, seed=0))
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 6)])
def test_a_nested_flow_learns_random_numbers_of_leading_features(shape):
    keras.utils.set_random_seed(0)
    flow = heads.Flow(shape, width=4, depth=1, nested=True)
    kept = np.asarray(flow._leading_features(2000))
    assert kept.shape == (2000, *(1 for _ in shape[1:]), 6)
    counts = kept.reshape(2000, 6).sum(axis=1)
    np.testing.assert_array_equal(kept.reshape(2000, 6), np.arange(6) < counts[:, None])
    shares = np.bincount(counts.astype(int), minlength=7) / 2000
    np.testing.assert_allclose(shares, [0, *[1 / 12] * 5, 7 / 12], atol=0.03)
    encodings = np.random.default_rng(0).normal(3, 2, size=(64, *shape)).astype(np.float32)
    flow.fit(encodings, batch_size=16, verbose=0)
    assert flow.generate(4, seed=0, steps=2).shape == (4, *shape)
    assert heads.Flow.from_config(flow.get_config()).nested
    assert "nested" not in heads.Flow(shape).get_config()  # earlier versions load other flows


def test_the_loss_of_a_nested_flow_leaves_out_features_that_are_cut(monkeypatch):
    keras.utils.set_random_seed(0)
    encodings = np.random.default_rng(0).normal(size=(512, 4)).astype(np.float32)
    encodings[:, 2:] *= 0.01  # their velocity is nearly that of the noise, so the loss depends on them
    flow = heads.Flow((4,), width=4, depth=1, nested=True)
    flow.fit(encodings, epochs=1, verbose=0)
    whole = float(flow.compute_loss(tf.constant(encodings), training=False))
    monkeypatch.setattr(flow, "_leading_features", lambda count: tf.constant([[1.0, 1.0, 0.0, 0.0]]))
    leading = float(flow.compute_loss(tf.constant(encodings), training=True))
    changed = encodings.copy()
    changed[:, 2:] = 100.0
    keras.utils.set_random_seed(0)
    flow.seed_generator.state.assign([0, 0])
    first = float(flow.compute_loss(tf.constant(encodings), training=True))
    flow.seed_generator.state.assign([0, 0])
    assert float(flow.compute_loss(tf.constant(changed), training=True)) == pytest.approx(first, rel=1e-5)
    assert abs(leading - whole) > 0.05


def test_saved_and_loaded_it_goes_on(trained, tmp_path):
    flow, _ = trained
    flow.save(tmp_path / "flow.keras")
    loaded = keras.saving.load_model(tmp_path / "flow.keras")
    np.testing.assert_array_equal(loaded.generate(6, seed=0, labels=1), flow.generate(6, seed=0, labels=1))
    assert isinstance(loaded.optimizer, ConvMuon)
    assert int(loaded.optimizer.iterations) == int(flow.optimizer.iterations)
    loaded.fit(*mixture(64), epochs=1, verbose=0)
    assert float(loaded.step) == float(flow.step) + 1


@pytest.mark.slow
def test_generator_loads_without_this_package(tmp_path):
    encodings = np.random.default_rng(0).normal(3, 2, size=(32, 4, 4, 3)).astype(np.float32)
    flow = heads.Flow((4, 4, 3), n_classes=2, width=4, depth=1)
    flow.fit(encodings, np.arange(32) % 2, epochs=1, verbose=0)
    flow.unrolled(steps=4).save(tmp_path / "generator.keras")
    noise = np.random.default_rng(5).standard_normal((6, 4, 4, 3), dtype=np.float32)
    np.save(tmp_path / "noise.npy", noise)
    program = f"""
import keras, numpy as np
noise = np.load("{tmp_path}/noise.npy")
generator = keras.saving.load_model("{tmp_path}/generator.keras")
np.save("{tmp_path}/encodings.npy", generator.predict([noise, np.ones(6, "int32")], verbose=0))
"""
    run_without_this_package(program)
    expected = flow.generate(6, seed=5, labels=1, steps=4)
    np.testing.assert_allclose(np.load(tmp_path / "encodings.npy"), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: heads.Flow((None, None, 8)), "`encoding_shape` must be the shape of one encoding with known sides"),
        (lambda: heads.Flow((2,), n_classes=1), "`n_classes` must be a whole number of at least 2"),
        (lambda: heads.Flow((2,), width=0), "`width` must be a whole number"),
        (lambda: heads.Flow((2,)).fit(np.zeros((8, 7, 7, 4))), r"created for encodings of shape \(2,\)"),
        (lambda: heads.Flow((2,), 3).fit(np.zeros((8, 2))), "so `fit` needs labels"),
        (lambda: heads.Flow((2,), 3).fit(np.zeros((4, 2)), [0, 1, 2, 3]), r"whole numbers from 0 to 2.*\[0, 1, 2, 3\]"),
        (lambda: heads.Flow((2,), 3).fit(np.zeros((2, 2)), np.ones(2)), "whole numbers from 0 to 2.*float64"),
        (lambda: heads.Flow((2,), 3).fit(np.zeros((3, 2)), np.eye(3)), r"`labels.argmax\(axis=1\)`.*\(3, 3\)"),
        (lambda: heads.Flow((2,)).fit(np.zeros((2, 2)), sample_weight=np.ones(2)), "Leave out `sample_weight`"),
        (lambda: heads.Flow((2,)).fit(np.zeros((4, 2)), [0, 1, 2, 3]), "uses no labels"),
        (lambda: heads.Flow((2,)).generate(4, labels=1), "created without classes"),
        (lambda: heads.Flow((2,)).generate(4, guidance=2.0), "`guidance` needs a Flow with classes"),
        (lambda: heads.Flow((2,), 3).generate(4, labels=[0, 1]), "one for each of n=4"),
        (lambda: heads.Flow((2,), 3).generate(4, labels=3), "whole numbers from 0 to 2"),
        (lambda: heads.Flow((2,)).generate(4, sampler="rk4"), "`sampler` must be one of"),
        (lambda: heads.Flow((2,)).generate(4, steps=0), "`steps` must be a whole number"),
    ],
)
def test_wrong_inputs(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
