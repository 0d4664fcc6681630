import keras
import numpy as np
import pytest

from stacked_autoencoder import heads

KINDS = [heads.VAE, heads.Flow, heads.WGAN, heads.BEGAN]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_traced_once(monkeypatch, kind):
    traced = []
    step = kind.train_step
    monkeypatch.setattr(kind, "train_step", lambda self, data: traced.append(data) or step(self, data))
    encodings = np.random.default_rng(0).standard_normal((150, 4), dtype=np.float32)
    kind((4,)).fit(encodings, epochs=2, verbose=0)  # batches of 128 and of 22
    assert len(traced) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_has_the_same_start_and_gives_float32(tmp_path, policy, name, kind):
    encodings = np.random.default_rng(0).normal(1.0, 2.0, (150, 4, 4, 3)).astype(np.float32)
    exact = kind((4, 4, 3), width=8)
    exact.fit(encodings, epochs=0)
    policy(name)
    head = kind((4, 4, 3), width=8)
    head.fit(encodings, epochs=0)
    start = head.generate(6, seed=0)
    np.testing.assert_allclose(start, exact.generate(6, seed=0), rtol=1e-3, atol=1e-4)
    history = head.fit(encodings, epochs=2, verbose=0).history
    assert np.isfinite(list(history.values())).all()
    made = head.generate(6, seed=0)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert np.abs(made - start).max() > 0
    assert head.generator.output.dtype == "float32"
    assert name.removeprefix("mixed_") in {layer.compute_dtype for layer in head.generator._flatten_layers()}
    head.save(tmp_path / "head.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "head.keras").generate(6, seed=0), made, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_a_classifier_in_mixed_precision_gives_probabilities_in_float32(policy, name):
    policy(name)
    head = heads.classifier((4, 4, 3), 5, mean=np.ones(3), std=np.ones(3))
    head.fit(np.ones((20, 4, 4, 3), np.float32), np.arange(20) % 5, verbose=0)
    given = head.predict(np.ones((3, 4, 4, 3), np.float32), verbose=0)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizer_of_the_users_own_scales_the_loss_in_float16(policy, kind):
    policy("mixed_float16")
    head = kind((4,))
    head.compile(optimizer=keras.optimizers.Adam(1e-3))
    assert isinstance(head.optimizer, keras.optimizers.LossScaleOptimizer)
    encodings = np.random.default_rng(0).standard_normal((32, 4), dtype=np.float32)
    for _ in range(4):  # the WGAN's generator moves in the third
        assert np.isfinite(head.train_on_batch(encodings)).all()


def test_numbers_as_users_write_them():
    encodings = np.random.default_rng(0).standard_normal((32, 4), dtype=np.float32)
    head = heads.VAE((np.int64(4),), latent_dim=2.0, width=np.float32(8))
    history = head.fit(encodings, batch_size=16.0, epochs=np.float64(2), steps_per_epoch=np.int64(2), verbose=0)
    assert len(history.epoch) == 2
    assert head.generate(np.int64(3)).shape == (3, 4)
    for name, value in (("batch_size", 0), ("epochs", -1), ("epochs", 1.5), ("steps_per_epoch", 0)):
        with pytest.raises(ValueError, match=rf"`{name}` must be a whole number.*Received: {name}={value}"):
            head.fit(encodings, verbose=0, **{name: value})
