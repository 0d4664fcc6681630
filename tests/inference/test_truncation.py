import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel
from stacked_autoencoder.training.model import ReconstructionModel
from tests.conftest import blobs, waves


def loss(images, reconstructions):
    return float(np.mean(np.square(images - reconstructions)))


STACKS = {
    "image": (lambda: Autoencoder(size=8, n_out=8), blobs),
    "two levels": (lambda: Autoencoder(shape=(16, 16, 3), size=8, n_out=8, n_levels=2), blobs),
    "vector": (lambda: Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(latent_dim=8, size=8)]), blobs),
    "dense": (lambda: Autoencoder(shape=(16, 16, 3), levels=[DenseLevel(8)]), blobs),
    "sequence": (lambda: Autoencoder(shape=(10, 2), levels=[SequenceLevel(8)]), waves),
}


@pytest.mark.parametrize(("make", "data"), STACKS.values(), ids=STACKS)
def test_encodings_are_cut_and_decoded_with_the_mean(make, data):
    images = data(96)
    sae = make()
    sae.train(images, epochs=0, verbose=0)
    whole = sae.encode(images)
    cut = sae.encode(images, n_out=3)
    np.testing.assert_array_equal(cut, whole[..., :3])
    completed = whole.copy()
    completed[..., 3:] = sae.levels[-1].mean[3:]
    decoded = sae.decode(cut)
    np.testing.assert_allclose(decoded, sae.decode(completed), atol=1e-5)
    np.testing.assert_allclose(sae.reconstruct(images, n_out=3), decoded, atol=1e-5)
    losses = [loss(images, sae.reconstruct(images, n_out=n)) for n in (1, 3, 8)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] == pytest.approx(loss(images, sae.reconstruct(images)), rel=1e-6)


@pytest.mark.parametrize("name", ["image", "two levels", "vector", "dense"])
def test_rates_are_compared_with_pca_of_each_size(name):
    make, data = STACKS[name]
    images, held_out = data(96), data(40, seed=1)
    sae = make()
    sae.train(images, epochs=0, verbose=0)
    rates = sae.evaluate(held_out, n_out=[8, 2, 4])
    assert [*rates] == [2, 4, 8]
    budget = [*sae.evaluate(held_out, return_dict=True).values()][-1]
    for column in ("full_loss", "pca_loss", "psnr", "ssim", "values", "ratio"):
        assert rates[8][column] == pytest.approx(budget[column], rel=1e-4)
    for n, row in rates.items():
        assert row["full_loss"] == pytest.approx(loss(held_out, sae.reconstruct(held_out, n_out=n)), rel=1e-4)
        assert row["values"] == budget["values"] * n / 8
        assert row["ratio"] == pytest.approx(budget["ratio"] * 8 / n)
        if name in ("vector", "dense"):  # they start as PCA, whose errors on new images differ a little
            assert row["full_loss"] == pytest.approx(row["pca_loss"], rel=0.05)


def test_encodings_of_several_sizes_and_of_another_level(images):
    sae = Autoencoder(size=4, levels=[ConvLevel(4, 1, 4), ConvLevel(6, 1, 4)])
    sae.train(images, epochs=0, verbose=0)
    mixed = [*blobs(2, 8), *blobs(1, 12)]
    assert [z.shape for z in sae.encode(mixed, n_out=5)] == [(2, 2, 5), (2, 2, 5), (3, 3, 5)]
    assert [x.shape for x in sae.decode(sae.encode(mixed, n_out=5))] == [(8, 8, 3), (8, 8, 3), (12, 12, 3)]
    assert sae.encode(images, level=0, n_out=2).shape == (96, 8, 8, 2)
    assert sae.decode(sae.encode(images, level=0, n_out=2), level=0).shape == images.shape
    with pytest.raises(ValueError, match=r"They fit level 0: `decode\(encodings, level=0\)`"):
        sae.decode(sae.encode(images, level=0))  # four features, but of another level
    assert sae.reconstruct(images, n_out=4).shape == images.shape
    with pytest.raises(ValueError, match=r"have the shape \(N, any, any, 6\).*Received: shape=\(1, 2, 2, 7\)"):
        sae.decode(np.zeros((1, 2, 2, 7)))


@pytest.mark.parametrize("n_out", [0, 9, -1, 2.5, "3", True])
def test_a_wrong_number_of_features_is_refused(n_out, images):
    sae = Autoencoder(size=4, n_out=8)
    for call in (sae.encode, sae.reconstruct):
        with pytest.raises(ValueError, match=r"`n_out` must be a whole number from 1 to 8.*Received: n_out="):
            call(images, n_out=n_out)
    with pytest.raises(ValueError, match="`n_out` must be"):
        sae.evaluate(images, n_out=[n_out])


def test_an_untrained_level_has_no_mean(images):
    sae = Autoencoder(size=4, n_out=8)
    with pytest.raises(ValueError, match=r"with 3 of 8 features can't be decoded.*Call `train` first"):
        sae.decode(np.zeros((1, 2, 2, 3)))
    assert sae.encode(images, n_out=3).shape == (96, 4, 4, 3)


# === Nested levels ===

NESTED = {
    "image": (lambda **more: Autoencoder(shape=(16, 16, 3), size=8, n_out=8, **more), blobs),
    "two levels": (lambda **more: Autoencoder(shape=(16, 16, 3), size=8, n_out=8, n_levels=2, **more), blobs),
    "vector": (lambda **more: Autoencoder(shape=(16, 16, 3), size=8, n_levels=2, latent_dim=8, **more), blobs),
    "dense": (lambda **more: Autoencoder(shape=(16, 16, 3), levels=[DenseLevel([30, 8], **more)]), blobs),
    "variational": (
        lambda **more: Autoencoder(shape=(16, 16, 3), levels=[DenseLevel(8, kl_weight=0.1, **more)]),
        blobs,
    ),
    "tied": (lambda **more: Autoencoder(shape=(16, 16, 3), levels=[DenseLevel(8, "tanh", tied=True, **more)]), blobs),
}


@pytest.fixture(scope="module", params=NESTED)
def trained(request):
    make, data = NESTED[request.param]
    keras.utils.set_random_seed(0)
    sae = make(nested=True)
    sae.train(data(192), epochs=3, verbose=0)
    return sae, data(20, seed=1)


def test_a_truncated_stack_computes_what_the_cut_encodings_are(trained, tmp_path):
    sae, images = trained
    before = sae.stack.fingerprint(len(sae.levels) - 1)
    small = sae.truncated(3)
    encodings = sae.encode(images, n_out=3)
    np.testing.assert_allclose(small.encode(images), encodings, atol=1e-6)
    np.testing.assert_allclose(small.decode(encodings), sae.decode(encodings), atol=1e-5)
    np.testing.assert_allclose(small.levels[-1].mean, sae.levels[-1].mean[:3])
    assert small.levels[-1].get_config() == sae.levels[-1].get_config() | small.levels[-1].config_with(3)
    cut, small_budget = sae.evaluate(images, n_out=[3])[3], [*small.evaluate(images, return_dict=True).values()][-1]
    for column in ("full_loss", "pca_loss", "psnr", "ssim", "values", "ratio"):
        assert small_budget[column] == pytest.approx(cut[column], rel=1e-4)
    small.save(tmp_path / "small")
    index = len(sae.levels) - 1
    decoder = keras.saving.load_model(tmp_path / "small" / f"decoder{index}")
    np.testing.assert_allclose(decoder.predict(encodings, verbose=0), small.levels[-1].decode(encodings), atol=1e-5)
    loaded = Autoencoder.load(tmp_path / "small")
    np.testing.assert_allclose(loaded.decode(encodings), sae.decode(encodings), atol=1e-5)
    small.train(blobs(64), epochs=1, verbose=0)
    assert sae.stack.fingerprint(index) == before  # the stack itself has not changed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image", "dense"])
def test_nested_training_makes_prefixes_better(name):
    make, data = NESTED[name]
    images, held_out, losses = data(512), data(100, seed=1), {}
    for nested in (False, True):
        keras.utils.set_random_seed(0)
        sae = make(nested=nested)
        sae.train(images, epochs=12, verbose=0)
        losses[nested] = {n: row["full_loss"] for n, row in sae.evaluate(held_out, n_out=[4, 6, 8]).items()}
    assert losses[True][4] < losses[False][4]
    assert losses[True][6] < losses[False][6]
    assert losses[True][8] < 1.3 * losses[False][8]


def test_nested_training_is_reproducible_and_the_argument_is_saved(tmp_path):
    stacks = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, nested=True)
        sae.train(blobs(64), epochs=2, verbose=0)
        stacks.append(sae)
    assert stacks[0].stack.fingerprint(0) == stacks[1].stack.fingerprint(0)
    loaded = Autoencoder.load(sae.save(tmp_path / "model"))
    assert loaded.levels[0].objective.nested
    assert loaded.levels[0].get_config() == sae.levels[0].get_config()
    plain = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    assert "nested" not in plain.levels[0].get_config()  # readable by earlier versions


def test_only_the_last_level_is_cut_in_fine_tuning():
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_levels=2, nested=True)
    sae.train(blobs(64), epochs=0, verbose=0)
    model, cut = ReconstructionModel(sae.levels), []
    for part in model.parts:
        part.cut = lambda encodings, training, part=part: cut.append(part) or encodings
    model(blobs(4), training=True)
    assert cut == model.parts[-1:]


def test_all_prefixes_contribute_equally_at_first():
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=8, nested=True)
    images = blobs(64)
    sae.train(images, epochs=0, verbose=0)
    model = ReconstructionModel(sae.levels)
    np.testing.assert_array_equal(model.parts[0].prefix_weights, 1)
    model.weigh_prefixes(images, images)
    losses = np.array([loss(images, sae.reconstruct(images, n_out=n)) for n in range(1, 9)])
    np.testing.assert_allclose(model.parts[0].prefix_weights, losses[-1] / losses, rtol=0.15)


def test_validation_uses_all_features():
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, nested=True)
    sae.train(blobs(64), epochs=0, verbose=0)
    model, images = ReconstructionModel(sae.levels), blobs(8)
    np.testing.assert_allclose(np.asarray(model(images, training=False)), sae.reconstruct(images), atol=1e-5)
    assert np.abs(np.asarray(model(images, training=True)) - sae.reconstruct(images)).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "n_out", "message"),
    [
        (lambda: Autoencoder(shape=(16, 16, 3), size=4, n_out=4), 2, r"`nested=True`.*`encode\(…, n_out=…\)`"),
        (lambda: Autoencoder(shape=(10, 2), levels=[SequenceLevel(4)]), 2, "SequenceLevel can't be truncated"),
        (lambda: Autoencoder(shape=(16, 16, 3), size=4, n_out=4, nested=True), 5, "whole number from 1 to 4"),
    ],
)
def test_what_cannot_be_truncated_is_refused(make, n_out, message):
    sae = make()
    with pytest.raises(ValueError, match=message if n_out == 5 else "Call `train` first"):
        sae.truncated(n_out)
    sae.train(waves(32) if len(sae.shape) == 2 else blobs(32), epochs=0, verbose=0)
    with pytest.raises(ValueError, match=message):
        sae.truncated(n_out)


def test_nested_is_an_argument_of_levels():
    with pytest.raises(ValueError, match=r"`nested` can't be combined with `levels`.*nested=True"):
        Autoencoder(levels=[ConvLevel()], nested=True)
