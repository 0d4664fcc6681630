import copy
import hashlib
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel
from stacked_autoencoder.pca import fit_linear_code, to_patches
from tests.conftest import blobs


def fingerprint(model):
    return hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()


def test_a_one_level_stack_takes_any_size():
    sae = Autoencoder(size=4, n_out=5, n_scalings=2)
    assert sae.shape == (None, None, 3)
    assert sae.encoding_shape == (None, None, 5)
    assert sae.encode(blobs(2, side=20)).shape == (2, 5, 5, 5)
    assert sae.encode(blobs(2, side=8)).shape == (2, 2, 2, 5)


def test_shapes_down_a_stack():
    sae = Autoencoder(shape=(64, 64, 3), size=4, n_out=6, n_scalings=2, n_levels=3, latent_dim=10)
    assert [level.encoding_shape for level in sae.levels] == [(16, 16, 6), (4, 4, 6), (10,)]
    assert sae.encoding_shape == (10,)
    assert sae.factor == 16  # a vector level doesn't halve inputs of 4x4
    assert sae.encoder.output_shape == (None, 10)
    assert sae.decoder.output_shape == (None, 64, 64, 3)
    assert sae.count_params() == sae.encoder.count_params() + sae.decoder.count_params()
    lines = []
    sae.summary(lines.append)
    weights = f"{sae.levels[2].count_params():,}"
    assert lines[3].split() == ["2", "conv", "4x4x6", "10", "1", "10", "1229", "3", "blocks", "of", "4", weights]


def test_every_level_starts_at_pca_of_what_it_sees_or_better(images, held_out):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=8, n_scalings=1, n_levels=3, latent_dim=6)
    sae.train(images, epochs=0, verbose=0)
    seen, seen_held_out = images, held_out
    budget = sae.evaluate(held_out, return_dict=True)
    for index, (level, factor) in enumerate(zip(sae.levels, (2, 2, None), strict=True)):
        code = fit_linear_code(lambda seen=seen: iter([seen]), factor, level.encoding_shape[-1])
        patches = to_patches(seen_held_out, factor)
        pca_loss = code.squared_error(patches) / patches.size
        if level.neighbour_layer is None:
            assert budget[index]["loss"] == pytest.approx(pca_loss, rel=0.01)
        else:
            assert budget[index]["loss"] < 0.99 * pca_loss
        seen, seen_held_out = level.encode(seen), level.encode(seen_held_out)


def test_the_budgets_pca_loss_is_that_of_images(images, held_out, trained):
    sae, _ = trained
    budget = sae.evaluate(held_out, return_dict=True)
    for index, factor in ((0, 4), (1, None)):
        code = fit_linear_code(lambda: iter([images]), factor, sae.levels[index].encoding_shape[-1])
        patches = to_patches(held_out, factor)
        assert budget[index]["pca_loss"] == pytest.approx(code.squared_error(patches) / patches.size, rel=1e-4)


def test_training_lowers_the_loss_and_returns_a_history_per_level(trained, held_out):
    sae, histories = trained
    assert len(histories) == 2
    for history in histories:
        assert isinstance(history, keras.callbacks.History)
        assert len(history.history["val_loss"]) == 2
    # Level 1 sees a few random waves, of which six values hold little more than PCA does: six steps gain nothing.
    budget = sae.evaluate(held_out, return_dict=True)[0]
    assert min(histories[0].history["val_loss"]) < budget["pca_loss"]
    assert budget["loss"] == pytest.approx(histories[0].best_loss, rel=1e-4)


@pytest.mark.slow
def test_a_vector_level_learns_what_no_linear_code_can():
    """A bump anywhere: where it is and its colour are five values; PCA needs many more."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    centre = rng.uniform(0, 16, (2, 1280, 1, 1))
    bumps = np.exp(-(np.square(y - centre[0]) + np.square(x - centre[1])) / 8)[..., None]
    images = (2 * bumps * rng.uniform(0.5, 1, (1280, 1, 1, 3)) - 1).astype(np.float32)
    sae = Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(8, 2, 8), ConvLevel(n_scalings=0, size=32, latent_dim=6)])
    _, history = sae.train(images[:1024], epochs=[0, 12], validation_data=images[1024:], verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert min(history.history["val_loss"]) < history.start_loss
    budget = sae.evaluate(images[1024:], return_dict=True)[1]
    assert budget["full_loss"] < 0.5 * budget["pca_loss"]


def test_the_budget_is_what_numpy_says(trained, held_out):
    sae, _ = trained
    budget = sae.evaluate(held_out, return_dict=True)
    assert list(budget) == [0, 1]
    restored = [sae.reconstruct(held_out, level=index) for index in range(2)]
    for index in range(2):
        assert budget[index]["full_loss"] == pytest.approx(np.mean(np.square(restored[index] - held_out)), rel=1e-5)
    assert budget[1]["full_loss"] == pytest.approx(sae.evaluate(held_out), rel=1e-6)
    encodings = sae.encode(held_out, level=0)
    again = sae.levels[1].decode(sae.levels[1].encode(encodings))
    assert budget[1]["loss"] == pytest.approx(np.mean(np.square(again - encodings)), rel=1e-5)
    assert (budget[0]["values"], budget[0]["ratio"]) == (4 * 4 * 8, 16 * 16 * 3 / 128)
    assert (budget[1]["values"], budget[1]["ratio"]) == (6, 128)
    assert isinstance(sae.evaluate(held_out), float)


def test_evaluate_averages_over_values_not_over_batches(trained):
    sae, _ = trained
    images = np.concatenate([blobs(64, seed=2), 0.01 * blobs(1, seed=3)])  # a last batch of one easy picture
    assert sae.evaluate(images) == pytest.approx(np.mean(np.square(sae.reconstruct(images) - images)), rel=1e-5)
    sizes = Autoencoder(size=4, n_out=2, n_scalings=2)
    mixed = [*blobs(2, side=8), *blobs(1, side=32)]
    errors = [np.sum(np.square(a - b)) for a, b in zip(sizes.reconstruct(mixed), mixed, strict=True)]
    assert sizes.evaluate(mixed) == pytest.approx(sum(errors) / sum(image.size for image in mixed), rel=1e-5)


def test_lower_levels_are_untouched_by_the_training_above(images):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_levels=2)
    sae.train(images, epochs=1, levels=[0], verbose=0)
    below = fingerprint(sae.levels[0].encoder), fingerprint(sae.levels[0].decoder)
    above = fingerprint(sae.levels[1].encoder)
    sae.train(images, epochs=1, levels=[1], verbose=0)
    assert (fingerprint(sae.levels[0].encoder), fingerprint(sae.levels[0].decoder)) == below
    assert fingerprint(sae.levels[1].encoder) != above


def test_a_level_added_later_trains_alone(images):
    sae = Autoencoder(size=4, n_out=4)
    sae.train(images, epochs=1, verbose=0)
    below = fingerprint(sae.levels[0].encoder)
    sae.add(ConvLevel(n_out=5, n_scalings=1, size=4))
    (history,) = sae.train(images, epochs=1, levels=[-1], verbose=0)
    assert fingerprint(sae.levels[0].encoder) == below
    assert sae.encode(images).shape == (96, 2, 2, 5)
    assert history.start_loss > 0


def test_training_again_goes_on_and_starts_only_once(images, held_out):
    sae = Autoencoder(shape=(16, 16, 3), size=8, n_out=4)
    (first,) = sae.train(images, epochs=2, validation_data=held_out, verbose=0)
    (second,) = sae.train(images, epochs=2, validation_data=held_out, verbose=0)
    assert second.start_loss == pytest.approx(first.best_loss, rel=1e-4)


def test_fine_tune_trains_all_levels_on_the_image_loss(images, held_out):
    sae = Autoencoder(shape=(16, 16, 3), size=16, n_out=12, n_scalings=1, n_levels=2)
    sae.train(images, epochs=0, verbose=0)
    before, weights = sae.evaluate(held_out), [fingerprint(level.encoder) for level in sae.levels]
    mean = sae.levels[1].mean.copy()
    history = sae.fine_tune(images, epochs=20, validation_data=held_out, verbose=0)
    assert history.start_loss == pytest.approx(before, rel=1e-5)
    assert sae.evaluate(held_out) < before
    assert all(fingerprint(level.encoder) != old for level, old in zip(sae.levels, weights, strict=True))
    assert not np.array_equal(sae.levels[1].mean, mean)


def test_the_same_seed_gives_the_same_numbers(images):
    def run():
        keras.utils.set_random_seed(7)
        sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_levels=2)
        sae.train(images, epochs=2, verbose=0)
        return fingerprint(sae.encoder), fingerprint(sae.decoder)

    assert run() == run()


@pytest.mark.parametrize("kind", ["mixed list", "tf.data", "endless", "PyDataset", "folder"])
def test_two_levels_train_on_every_kind_of_data(kind, tmp_path):
    from PIL import Image

    from tests.data.test_adapters import Batches

    pixels = ((blobs(24) + 1) * 127.5).astype(np.uint8)
    options = {}
    data = {
        "mixed list": [image[: 16 - 4 * (index % 2)] for index, image in enumerate(pixels)],
        "tf.data": tf.data.Dataset.from_tensor_slices((pixels, np.arange(24))).batch(8),
        "endless": tf.data.Dataset.from_tensor_slices(pixels).repeat().batch(8),
        "PyDataset": Batches(pixels),
        "folder": tmp_path,
    }[kind]
    if kind == "endless":
        options["steps_per_epoch"] = 3
    if kind == "folder":
        for index, image in enumerate(pixels):
            Image.fromarray(image[:, : 16 - index % 3]).save(tmp_path / f"{index}.png")
    sae = Autoencoder(size=4, n_out=4, n_scalings=1, n_levels=2)
    histories = sae.train(data, epochs=[1, 2], batch_size=8, verbose=0, **options)
    assert [len(history.history["loss"]) for history in histories] == [1, 2]
    assert np.isfinite([history.history["loss"][-1] for history in histories]).all()
    assert sae.levels[1].std.shape == (4,)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (9, 6), (16, 13), (17, 31)])
@pytest.mark.parametrize("shape_is_open", [True, False])
def test_odd_sizes_come_back_as_they_were(size, shape_is_open):
    images = blobs(3, side=32)[:, : size[0], : size[1]]
    shape = (None, None, 3) if shape_is_open else images.shape[1:]
    sae = Autoencoder(shape=shape, size=4, n_out=48, n_scalings=2)  # as many values as pixels: the start is exact
    sae.train(images, epochs=0, verbose=0)
    assert sae.reconstruct(images).shape == images.shape
    np.testing.assert_allclose(sae.reconstruct(images), images, atol=1e-4)
    z = sae.encode(images)
    assert z.shape == (3, -(-size[0] // 4), -(-size[1] // 4), 48)
    decoded = sae.decode(z)
    np.testing.assert_allclose(decoded[:, : size[0], : size[1]], images, atol=1e-4)
    assert decoded.shape == images.shape or shape_is_open


def test_a_level_that_asks_for_more_padding_keeps_the_weights_below(images):
    sae = Autoencoder(shape=(28, 28, 1), size=4, n_out=4, n_scalings=2)
    before = sae.encode(blobs(2, 28, 1))
    assert before.shape == (2, 7, 7, 4)
    sae.add(ConvLevel(n_out=4, n_scalings=1, size=4))
    assert [level.input_shape for level in sae.levels] == [(32, 32, 1), (8, 8, 4)]  # 28 padded to a multiple of 8
    after = sae.encode(blobs(2, 28, 1), level=0)
    assert after.shape == (2, 8, 8, 4)
    assert sae.reconstruct(blobs(2, 28, 1)).shape == (2, 28, 28, 1)
    np.testing.assert_allclose(after[:, :2, :2], before[:, :2, :2], atol=1e-5)


def test_mixed_sizes_encode_and_decode_as_lists():
    sae = Autoencoder(size=4, n_out=4)
    mixed = [*blobs(2, side=8), *blobs(1, side=12)]
    encodings = sae.encode(mixed)
    assert [z.shape for z in encodings] == [(2, 2, 4), (2, 2, 4), (3, 3, 4)]
    for image, z in zip(mixed, encodings, strict=True):
        np.testing.assert_allclose(sae.encode(image[None])[0], z, atol=1e-6)
    assert [x.shape for x in sae.decode(encodings)] == [(8, 8, 3), (8, 8, 3), (12, 12, 3)]


def test_a_stack_introduces_itself(images):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_levels=2)
    lines = []
    sae.summary(lines.append)
    headline = "Autoencoder(shape=(16, 16, 3), value_range=(-1, 1), n_levels=2), trained levels: none"
    assert repr(sae).splitlines() == [headline, *lines]
    sae.train(images, epochs=0, levels=[0], verbose=0)
    assert "trained levels: 0\n" in repr(sae)
    html = sae._repr_html_()
    assert html.count("<tr>") == 3
    assert html.count("<th>") == len(lines[0].split())
    assert "<td>16x16x3</td><td>4x4x4</td><td>4</td><td>64</td><td>12</td>" in html
    assert f"Total weights: {sae.count_params():,}" in html
    assert "None" in repr(Autoencoder(size=4, n_out=4))  # open sides


def test_encoder_and_decoder_compose_with_keras(images):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_levels=2)
    classifier = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
    model = keras.Sequential([sae.encoder, classifier])
    assert model(images[:2]).shape == (2, 2)
    generator = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Reshape((1, 1, 4))])
    assert keras.Sequential([generator, sae.decoder])(np.zeros((2, 3))).shape == (2, 16, 16, 3)
    np.testing.assert_allclose(sae.encoder.predict(images[:2], verbose=0), sae.encode(images[:2]), atol=1e-5)
    np.testing.assert_allclose(sae.decoder(sae.encode(images[:2])), sae.reconstruct(images[:2]), atol=1e-5)


def test_statistics_are_those_of_the_encodings(trained, images):
    sae, _ = trained
    z = sae.encode(images, level=0).reshape(-1, 8)
    np.testing.assert_allclose(sae.levels[0].mean, z.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(sae.levels[0].std, z.std(axis=0), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"size": (64, 64)},
            r"`size` must be one whole number, the width of the network.*size=\(64, 64\)",
        ),
        ({"shape": (64, 64)}, r"`shape=\(height, width, channels\)` for images.*Received: shape=\(64, 64\)"),
        ({"shape": (2, 64, 64, 3)}, r"`shape` must be the shape of one image.*Received: shape=\(2, 64, 64, 3\)"),
        ({"shape": (None, None, None)}, "`shape` must be the shape of one image"),
        ({"n_levels": 0}, "`n_levels` must be a whole number"),
        ({"latent_dim": 4}, "`latent_dim=4` needs images of one known size"),
        ({"levels": []}, "at least one level"),
        ({"levels": [3]}, r"`level` must be a level, such as `ConvLevel\(n_out=32\)`\. Received: level=3"),
        ({"shape": (8, 8, 3), "n_scalings": 2, "n_levels": 2}, "at least 16 pixels high and wide"),
    ],
)
def test_wrong_stacks_raise_an_error(arguments, text):
    with pytest.raises(ValueError, match=f"(?s){text}"):
        Autoencoder(**arguments)


def test_wrong_calls_raise_an_error(trained, images):
    sae, _ = trained
    z = sae.encode(images[:2])
    for call, text in (
        (lambda: sae.decode(z[0]), r"add the batch axis with `encoding\[None\]`.*Received: shape=\(6,\)"),
        (
            lambda: sae.decode(np.zeros((2, 7))),
            r"Encodings of level 1 have the shape \(N, 6\)\. Received: shape=\(2, 7\)",
        ),
        (lambda: sae.decode(sae.encode(images[:2], level=0)), r"They fit level 0: `decode\(encodings, level=0\)`"),
        (lambda: sae.decode(z, level=2), r"`level` must be an index from 0 to 1.*Received: 2"),
        (
            lambda: sae.train(images, epochs=[1], verbose=0),
            r"`epochs` must be one number, or a sequence of 2, one for each trained level",
        ),
        (lambda: sae.train(images, epochs=-1, verbose=0), r"`epochs` must be a whole number of at least 0"),
        (lambda: sae.train(images, batch_size=0, verbose=0), "`batch_size` must be a whole number"),
        (lambda: sae.train(images, levels=[5], verbose=0), "`levels` must be an index"),
        (lambda: sae.train(images, levels=[], verbose=0), r"at least one index.*Received: levels=\[\]"),
        (lambda: sae.add(sae.levels[0]), "in the stack already"),
        (lambda: sae.add(ConvLevel()), "use a DenseLevel after a level that outputs vectors"),
    ):
        with pytest.raises(ValueError, match=f"(?s){text}"):
            call()


def test_a_level_above_an_untrained_one_is_refused(images):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_levels=2)
    with pytest.raises(ValueError, match=r"level 0 hasn't been trained yet\. Include 0 in `levels`.*levels=\[1\]"):
        sae.train(images, epochs=1, levels=[1], verbose=0)


def test_fine_tuning_levels_that_were_never_trained_is_refused(images):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_scalings=1, n_levels=2)
    sae.train(images, epochs=0, levels=[0], verbose=0)
    with pytest.raises(
        ValueError, match=r"level 1 has never been trained\. Call `train` first.*`train\(images, epochs=0\)`"
    ):
        sae.fine_tune(images, epochs=1, verbose=0)


def test_an_unwritable_save_path_is_found_before_training(tmp_path, images):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "model"):
        sae = Autoencoder(shape=(16, 16, 3), size=4, save_path=path)
        with pytest.raises(OSError, match=r"`save_path` can't be written.*Choose another folder"):
            sae.train(images, epochs=1, verbose=0)
        assert not sae.levels[0].started


def test_only_documented_names_are_public():
    """What tab completion and the API page show."""
    sae = Autoencoder(shape=(8, 8, 1), size=4, n_out=2)
    names = {name for name in dir(sae) if not name.startswith("_")}
    assert names == {
        *("levels", "shape", "check_range", "value_range", "missing", "factor", "encoding_shape", "encoder"),
        *(
            "decoder",
            "stack",
            "train",
            "fine_tune",
            "evaluate",
            "errors",
            "error_maps",
            "encode",
            "encode_to",
            "truncated",
            "decode",
            "reconstruct",
            "sample",
            "add",
        ),
        *("sample", "add", "save", "save_path", "load", "export", "summary", "count_params"),
    }
    assert all(getattr(Autoencoder, name).__doc__ for name in names - {"stack"})
    assert "stack:" in Autoencoder.__doc__


# === Copies ===


def test_a_stack_of_several_levels_can_be_copied_and_pickled(trained, held_out):
    sae, _ = trained
    encodings, budget = sae.encode(held_out), sae.evaluate(held_out, return_dict=True)
    for again in (copy.deepcopy(sae), pickle.loads(pickle.dumps(sae))):
        np.testing.assert_array_equal(again.encode(held_out), encodings)
        assert again.evaluate(held_out, return_dict=True) == budget
        assert again.stack.fingerprint(1) == sae.stack.fingerprint(1)
        assert (again.save_path, again.value_range, again.shape) == (sae.save_path, sae.value_range, sae.shape)
        again.add(DenseLevel(3))
        assert len(sae.levels) == 2
