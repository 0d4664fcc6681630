import re

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, heads
from tests.conftest import blobs

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


# === What made the encodings ===


def stack(n_levels=1, seed=0):
    keras.utils.set_random_seed(seed)
    levels = [{"n_scalings": 1}] + [{"n_scalings": 0}] * (n_levels - 1)  # encodings of one shape
    sae = Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(n_out=2, size=4, **each) for each in levels])
    sae.train(blobs(32, 8, 1, seed), epochs=0, verbose=0)
    return sae


def fitted(kind, encodings, **options):
    head = kind((4, 4, 2), width=8)
    head.fit(encodings, verbose=0, **{"epochs": 0, **options})
    return head


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["store", "origin"])
def test_a_head_remembers_what_made_its_encodings(kind, source, tmp_path):
    sae, images = stack(), blobs(32, 8, 1)
    if source == "store":
        head = fitted(kind, sae.encode_to(tmp_path / "store", images, verbose=0), epochs=1)
    else:
        head = fitted(kind, sae.encode(images), origin=sae.stack.fingerprint(0), epochs=1)
    head.save(tmp_path / "head.keras")
    for each in (head, keras.models.load_model(tmp_path / "head.keras")):
        assert each.origin == sae.stack.fingerprint(0)
        each.check_origin(sae.stack, 0)
        with pytest.raises(ValueError, match=f"This {kind.__name__} was fitted on encodings of another stack"):
            each.check_origin(stack(seed=1).stack, 0)


def test_levels_that_are_put_on_top_change_nothing_for_a_head():
    sae = stack()
    head = fitted(heads.VAE, sae.encode(blobs(32, 8, 1)), origin=sae.stack.fingerprint(0))
    sae.add(ConvLevel(n_out=2, n_scalings=1, size=4))
    assert sae.stack.factor == 4
    head.check_origin(sae.stack, 0)


def test_a_head_of_another_level_is_told_which():
    sae = stack(n_levels=2)
    assert sae.levels[0].encoding_shape == sae.levels[1].encoding_shape
    head = fitted(heads.VAE, sae.encode(blobs(32, 8, 1), level=0), origin=sae.stack.fingerprint(0))
    with pytest.raises(
        ValueError, match=r"encodings of level 0\. Decode the generated encodings with `level=0`"
    ) as error:
        head.check_origin(sae.stack, 1)
    head.check_origin(sae.stack, int(re.search(r"`level=(\d)`", str(error.value))[1]))


def test_following_what_is_said_of_a_head_of_another_stack_works(tmp_path):
    sae, images = stack(), blobs(32, 8, 1)
    head = fitted(heads.VAE, sae.encode_to(tmp_path / "before", images, verbose=0))
    residual = sae.levels[0].encoder.get_layer("residual")
    residual.set_weights([weight + 0.1 for weight in residual.get_weights()])  # as training does
    with pytest.raises(ValueError, match="Encode the images with this stack and fit a head on these encodings"):
        head.check_origin(sae.stack, 0)
    fitted(heads.VAE, sae.encode_to(tmp_path / "after", images, verbose=0)).check_origin(sae.stack, 0)


def test_a_head_of_unknown_origin_warns_and_says_how_it_knows():
    sae, images = stack(), blobs(32, 8, 1)
    head = fitted(heads.VAE, sae.encode(images))
    assert "origin" not in head.get_config()  # as earlier versions saved heads, and load them
    with pytest.warns(UserWarning, match=r"can't be checked whether this VAE .* `fit\(…, origin=(.*)\)`") as told:
        head.check_origin(sae.stack, 0)
    advice = re.search(r"origin=(.*\))\)`", str(told[0].message))[1]
    head.fit(sae.encode(images), epochs=0, verbose=0, origin=eval(advice, {"sae": sae, "level": 0}))
    head.check_origin(sae.stack, 0)
    head.fit(sae.encode(images), epochs=0, verbose=0)
    assert head.origin is None  # these could be any


def test_origins_that_cant_be_are_told(tmp_path):
    sae, images = stack(), blobs(32, 8, 1)
    store = sae.encode_to(tmp_path / "store", images, verbose=0)
    with pytest.raises(ValueError, match=r"`origin` differs from the encoder of this store\. Leave it out"):
        fitted(heads.VAE, store, origin="0" * 64)
    for wrong in ("faces", 3, store):
        with pytest.raises(ValueError, match=r"`store\.encoder` of an EncodingStore, or `sae\.stack\.fingerprint"):
            fitted(heads.VAE, sae.encode(images), origin=wrong)
    fitted(heads.VAE, sae.encode(images), origin=store.encoder).check_origin(sae.stack, 0)


def test_numbers_as_users_write_them():
    encodings = np.random.default_rng(0).standard_normal((32, 4), dtype=np.float32)
    head = heads.VAE((np.int64(4),), latent_dim=2.0, width=np.float32(8))
    history = head.fit(encodings, batch_size=16.0, epochs=np.float64(2), steps_per_epoch=np.int64(2), verbose=0)
    assert len(history.epoch) == 2
    assert head.generate(np.int64(3)).shape == (3, 4)
    for name, value in (("batch_size", 0), ("epochs", -1), ("epochs", 1.5), ("steps_per_epoch", 0)):
        with pytest.raises(ValueError, match=rf"`{name}` must be a whole number.*Received: {name}={value}"):
            head.fit(encodings, verbose=0, **{name: value})
