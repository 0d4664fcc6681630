"""`missing="ignore"`: NaN and masked values are filled for the encoder and left out of the loss, for all kinds."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel, metrics
from stacked_autoencoder.training.model import ReconstructionModel
from stacked_autoencoder.utils.errors import LoadError
from tests.conftest import blobs, waves

MIXED = np.random.default_rng(5).normal(size=(3, 12))
VECTORS = (np.random.default_rng(6).normal(size=(256, 3)) @ MIXED + 4).astype(np.float32)
PADDING = -9.0


def padded(sequences):
    sequences = sequences.copy()
    sequences[::4, 7:] = PADDING
    return sequences


# Data without gaps, the shape of the stack, its levels.
KINDS = {
    "vectors": (VECTORS, (12,), lambda: [DenseLevel([16, 3])]),
    "vectors, two levels": (VECTORS, (12,), lambda: [DenseLevel(8), DenseLevel(3, loss="huber")]),
    "vectors, mae": (VECTORS, (12,), lambda: [DenseLevel(3, loss="mae", penalty="l1")]),
    "vectors, variational": (VECTORS, (12,), lambda: [DenseLevel([8, 3], kl_weight=0.1)]),
    "images": (blobs(48), (None, None, 3), lambda: [ConvLevel(8, 2, 8), ConvLevel(4, 1, 8)]),
    "images, padded": (blobs(48, side=15), (15, 15, 3), lambda: [ConvLevel(8, 2, 8)]),
    "sequences": (waves(96), (10, 2), lambda: [SequenceLevel(6)]),
    "sequences, next": (waves(96), (10, 2), lambda: [SequenceLevel(6, "next")]),
    "sequences, both, given": (waves(96), (10, 2), lambda: [SequenceLevel(6, "both", conditional=True)]),
    "sequences, of any length": (padded(waves(96)), (10, 2), lambda: [SequenceLevel(6, mask_value=PADDING)]),
}


def gaps_of(data, share=0.3):
    """Which values are missing: none of those that are padding."""
    return (np.random.default_rng(1).random(data.shape) < share) & (data != PADDING)


def with_gaps(data, share=0.3):
    return np.where(gaps_of(data, share), np.float32(np.nan), data)


@pytest.fixture(scope="module")
def trained():
    """Name of the kind → a stack that was trained on data with gaps, and its histories."""
    made = {}
    for name, (data, shape, levels) in KINDS.items():
        keras.utils.set_random_seed(0)
        sae = Autoencoder(shape=shape, levels=levels(), missing="ignore")
        gappy = with_gaps(data)
        made[name] = sae, sae.train(gappy, epochs=1, validation_data=gappy[::2], verbose=0)
    return made


@pytest.mark.parametrize("name", KINDS)
def test_the_whole_way_is_finite(trained, name):
    sae, histories = trained[name]
    gappy = with_gaps(KINDS[name][0])
    for history in histories:
        for losses in history.history.values():
            assert np.isfinite([history.start_loss, *losses]).all()
    assert np.isfinite(sae.encode(gappy)).all()
    restored = sae.reconstruct(gappy)
    assert restored.shape == gappy.shape
    assert np.isfinite(restored).all()


@pytest.mark.parametrize("name", KINDS)
def test_gaps_are_filled_by_the_means_of_what_is_there(trained, name):
    sae, _ = trained[name]
    data = KINDS[name][0]
    gappy = with_gaps(data)
    there = np.where(data == PADDING, np.nan, gappy)
    means = np.nanmean(there.reshape(-1, data.shape[-1]), axis=0)
    np.testing.assert_allclose(sae.levels[0].fill_values, means, rtol=1e-5, atol=1e-6)
    assert all(level.fill_values is None for level in sae.levels[1:])
    filled = np.where(np.isnan(gappy), means, gappy).astype(np.float32)
    np.testing.assert_allclose(sae.encode(gappy), sae.encode(filled), atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_losses_are_those_of_what_is_there(trained, name):
    """What `evaluate`, the error budget and the trained loss give, against numpy."""
    sae, _ = trained[name]
    data = KINDS[name][0]
    gappy = with_gaps(data)
    counts = ~np.isnan(gappy) & (data != PADDING)
    if "next" in name:
        counts[:, 0] = False
    errors = np.square(sae.reconstruct(gappy) - gappy)
    assert sae.evaluate(gappy) == pytest.approx(errors[counts].mean(), rel=1e-4)
    budget = sae.evaluate(gappy, return_dict=True)
    assert budget[len(sae.levels) - 1]["full_loss"] == pytest.approx(errors[counts].mean(), rel=1e-4)
    level = sae.levels[0]
    if level.objective.is_plain and "padded" not in name:
        model = ReconstructionModel([level])
        outputs = model(tf.constant(gappy))
        terms = model.terms_of(tf.constant(gappy), tf.constant(gappy), outputs)
        assert float(terms["reconstruction"]) == pytest.approx(budget[0]["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", lambda t, o: np.square(t - o)),
        ("mae", lambda t, o: np.abs(t - o)),
        ("huber", lambda t, o: np.where(np.abs(t - o) < 1, np.square(t - o) / 2, np.abs(t - o) - 0.5)),
        (keras.losses.MeanSquaredLogarithmicError(), lambda t, o: np.square(np.log1p(t) - np.log1p(o))),
        ("binary_crossentropy", lambda t, o: -t * np.log(o) - (1 - t) * np.log(1 - o)),
        ("poisson", lambda t, o: o - t * np.log(o + 1e-7)),
    ],
)
def test_a_loss_is_the_mean_over_the_values_that_count_and_so_is_its_gradient(loss, expected):
    rng = np.random.default_rng(0)
    targets, outputs = rng.uniform(0.1, 0.9, (2, 5, 4, 3)).astype(np.float32)
    counts = rng.random(targets.shape) < 0.6
    targets[~counts] = np.nan
    objective = DenseLevel(2, loss=loss).objective
    outputs = tf.Variable(outputs)
    with tf.GradientTape() as tape:
        value = objective.of_reconstruction(tf.constant(targets), outputs, tf.constant(counts))
    assert float(value) == pytest.approx(expected(targets, outputs.numpy())[counts].mean(), rel=1e-4)
    gradient = tape.gradient(value, outputs).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[~counts] == 0).all()
    assert (gradient[counts] != 0).all()


@pytest.mark.slow
def test_a_stack_with_gaps_learns_what_one_without_does():
    """The loss on what is there is near that of a stack that saw all, and the gaps are restored, not only filled."""
    data, shape, levels = KINDS["vectors"]
    losses = []
    for missing, seen in (("error", data), ("ignore", with_gaps(data, 0.3))):
        keras.utils.set_random_seed(0)
        sae = Autoencoder(shape=shape, levels=levels(), missing=missing)
        sae.train(seen, epochs=60, verbose=0)
        losses.append(sae.evaluate(seen))
    hidden = gaps_of(data, 0.3)
    error = np.square(sae.reconstruct(with_gaps(data, 0.3)) - data)[hidden].mean()
    by_mean = np.square(sae.levels[0].fill_values - data)[hidden].mean()
    assert losses[1] < 0.05 * data.var()
    assert error < 0.5 * by_mean


@pytest.mark.parametrize("name", ["vectors", "sequences"])
def test_complete_data_give_nearly_the_same_with_either(name):
    data, shape, levels = KINDS[name]
    results = []
    for missing in ("error", "ignore"):
        keras.utils.set_random_seed(0)
        sae = Autoencoder(shape=shape, levels=levels(), missing=missing)
        histories = sae.train(data, epochs=1, verbose=0)
        results.append([histories[0].start_loss, histories[0].history["loss"][0], sae.evaluate(data)])
    np.testing.assert_allclose(*results, rtol=1e-3)


def operations(missing):
    """Names of all operations of a training step's graph."""
    sae = Autoencoder(shape=(12,), levels=[DenseLevel(3)], missing=missing)
    model = ReconstructionModel(sae.levels)

    @tf.function
    def loss(values):
        return model.terms_of(values, values, model(values, training=True))

    graph = loss.get_concrete_function(tf.TensorSpec((None, 12))).graph
    return [operation.type for operation in graph.get_operations()]


def test_the_graph_of_data_without_gaps_has_no_operation_for_them():
    assert not {"IsNan", "Where", "Select", "SelectV2"} & set(operations("error"))
    assert {"IsNan", "SelectV2"} <= set(operations("ignore"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int32])
def test_what_is_masked_counts_as_missing(dtype):
    shape = (16, 16, 3) if dtype == np.uint8 else (12,)
    rng = np.random.default_rng(0)
    values = rng.integers(0, 100, (40, *shape)).astype(dtype)
    mask = rng.random(values.shape) < 0.2
    scaled = values / np.float32(127.5) - 1 if dtype == np.uint8 else values.astype(np.float32)
    sae = Autoencoder(shape=shape, levels=[DenseLevel(4)], missing="ignore")
    sae.train(np.ma.array(values, mask=mask), epochs=0, verbose=0)
    expected = sae.encode(np.where(mask, np.float32(np.nan), scaled))
    assert np.isfinite(expected).all()
    for given in (np.ma.array(values, mask=mask), list(np.ma.array(values, mask=mask)), Batches(values, mask)):
        np.testing.assert_allclose(sae.encode(given), expected, rtol=1e-5, atol=1e-5)
    unmasked = sae.encode(np.ma.array(values, mask=False))
    np.testing.assert_array_equal(unmasked, sae.encode(values))


class Batches(keras.utils.PyDataset):
    def __init__(self, values, mask):
        super().__init__()
        self.values = np.ma.array(values, mask=mask)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.values[index * 20 : (index + 1) * 20]


@pytest.mark.parametrize("wrap", [lambda given: given, list], ids=["array", "list"])
def test_what_is_masked_is_not_dropped_silently(wrap):
    masked = np.ma.masked_greater(VECTORS, 6)
    sae = Autoencoder(shape=(12,), levels=[DenseLevel(3)])
    message = r"is a masked array.*`images\.filled\(0\)`.*`missing=\"ignore\"`.*Received: \d+ masked values of \d+"
    with pytest.raises(ValueError, match=message):
        sae.train(wrap(masked), verbose=0)
    sae.train(masked.filled(0), epochs=0, verbose=0)
    Autoencoder(shape=(12,), levels=[DenseLevel(3)], missing="ignore").train(wrap(masked), epochs=0, verbose=0)


def test_infinite_values_stay_errors_and_the_advice_works():
    values = with_gaps(VECTORS)
    values[7, 3] = np.inf
    sae = Autoencoder(shape=(12,), levels=[DenseLevel(3)], missing="ignore")
    code = "np.where(np.isinf(images), np.nan, images)"
    with pytest.raises(ValueError, match="Vector 7 holds.*" + re.escape(f"`{code}`")):
        sae.train(values, verbose=0)
    sae.train(eval(code, {"np": np, "images": values}), epochs=0, verbose=0)


def test_a_column_without_any_value_is_named_and_the_advice_works():
    values = with_gaps(VECTORS)
    values[:, 3] = np.nan
    sae = Autoencoder(shape=(12,), levels=[DenseLevel(3)], missing="ignore")
    code = "np.delete(images, [3], axis=-1)"
    with pytest.raises(ValueError, match=re.escape(f"`{code}`")):
        sae.train(values, verbose=0)
    fewer = eval(code, {"np": np, "images": values})
    Autoencoder(shape=(11,), levels=[DenseLevel(3)], missing="ignore").train(fewer, epochs=0, verbose=0)


def test_a_row_without_any_value_is_taken_for_the_mean(trained):
    sae, _ = trained["vectors"]
    nothing = np.full((1, 12), np.nan, np.float32)
    mean = sae.levels[0].fill_values.astype(np.float32)[None]
    np.testing.assert_allclose(sae.encode(nothing), sae.encode(mean), atol=1e-5)


@pytest.mark.parametrize("name", ["images", "sequences"])
def test_a_saved_stack_gives_the_same(trained, name, tmp_path):
    sae, _ = trained[name]
    gappy = with_gaps(KINDS[name][0])
    again = Autoencoder.load(sae.save(tmp_path / "stack"))
    assert again.missing == "ignore"
    np.testing.assert_array_equal(again.levels[0].fill_values, sae.levels[0].fill_values)
    np.testing.assert_array_equal(again.encode(gappy), sae.encode(gappy))


def test_the_manifest_of_other_stacks_is_as_it_was(tmp_path):
    sae = Autoencoder(shape=(12,), levels=[DenseLevel(3)])
    manifest = json.loads((sae.save(tmp_path / "stack") / "autoencoder.json").read_text())
    assert set(manifest) == {"format", "id", "shape", "check_range", "value_range", "levels", "versions", "files"}
    assert set(manifest["levels"][0]) == {"kind", "config", "started", "mean", "std"}
    assert Autoencoder.load(tmp_path / "stack").missing == "error"


@pytest.mark.parametrize("wrong", [None, [1.0], ["a"] * 12, [float("nan")] * 12])
def test_a_damaged_file_is_refused(trained, tmp_path, wrong):
    path = trained["vectors"][0].save(tmp_path / "stack")
    manifest = json.loads((path / "autoencoder.json").read_text())
    manifest["levels"][0]["fill_values"] = wrong
    (path / "autoencoder.json").write_text(json.dumps(manifest))
    with pytest.raises(LoadError):
        Autoencoder.load(path)
    manifest["missing"] = "perhaps"
    (path / "autoencoder.json").write_text(json.dumps(manifest))
    with pytest.raises(LoadError, match="`missing` must be one of error, ignore"):
        Autoencoder.load(path)


def test_stores_tiles_and_streams_fill_alike(trained, tmp_path):
    sae, _ = trained["images"]
    gappy = with_gaps(KINDS["images"][0])
    expected = sae.encode(gappy)
    store = sae.encode_to(tmp_path / "store", gappy, dtype="float32", verbose=0)
    np.testing.assert_allclose(store[:], expected, atol=1e-4)
    np.testing.assert_allclose(sae.encode(gappy, tile=8), expected, atol=1e-4)
    np.testing.assert_allclose(sae.encode(tf.data.Dataset.from_tensor_slices(gappy)), expected, atol=1e-4)


def test_levels_above_see_complete_encodings_from_the_disk_too():
    data, shape, levels = KINDS["vectors, two levels"]
    sae = Autoencoder(shape=shape, levels=levels(), missing="ignore")
    histories = sae.train(tf.data.Dataset.from_tensor_slices(with_gaps(data)), epochs=1, memory_budget=0, verbose=0)
    assert np.isfinite([history.history["loss"][0] for history in histories]).all()
    assert np.isfinite(sae.fine_tune(with_gaps(data), epochs=1, verbose=0).history["loss"]).all()


def test_other_fill_values_are_another_encoder(trained):
    sae, _ = trained["vectors"]
    before, values = sae.stack.fingerprint(0), sae.levels[0].fill_values
    sae.levels[0].fill_values = values + 1
    assert sae.stack.fingerprint(0) != before
    sae.levels[0].fill_values = values


def test_a_killed_training_goes_on_with_the_same_fill_values(tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    gappy = with_gaps(VECTORS)

    def train(sae, **options):
        keras.utils.set_random_seed(0)
        sae.train(gappy, epochs=2, verbose=0, checkpoint_dir=tmp_path / "run", **options)

    def made():
        keras.utils.set_random_seed(0)
        return Autoencoder(shape=(12,), levels=[DenseLevel(3)], missing="ignore")

    with pytest.raises(KeyboardInterrupt):
        train(made(), callbacks=[Kill()])
    sae = made()
    with pytest.raises(ValueError, match=r"`callbacks` was \['Kill'\] and is now \[\]"):
        train(sae)
    Kill.on_epoch_end = keras.callbacks.Callback.on_epoch_end
    train(sae, callbacks=[Kill()])
    np.testing.assert_allclose(sae.levels[0].fill_values, np.nanmean(gappy, axis=0), rtol=1e-5)


@pytest.mark.parametrize("targets", ["complete", "with gaps"])
def test_targets_may_be_complete_or_have_gaps(targets):
    clean = VECTORS if targets == "complete" else with_gaps(VECTORS[::-1])[::-1]
    sae = Autoencoder(shape=(12,), levels=[DenseLevel(3)], missing="ignore")
    (history,) = sae.train(with_gaps(VECTORS), targets=clean, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize("loss", ["cosine_similarity", "kl_divergence", metrics.ssim_loss, metrics.SSIMWithL1(0.5)])
def test_losses_that_are_not_by_value_are_refused_and_the_advice_works(loss):
    with pytest.raises(
        ValueError, match=r"impossible with this loss\. Use `loss=\"mse\"`, `loss=\"mae\"`.*Received: loss="
    ):
        Autoencoder(levels=[ConvLevel(4, loss=loss)], missing="ignore")
    Autoencoder(levels=[ConvLevel(4, loss="mse"), ConvLevel(4)], missing="ignore")
    Autoencoder(levels=[ConvLevel(4, loss=loss)], missing="error")


def test_a_loss_of_probabilities_takes_gaps():
    values = with_gaps(np.random.default_rng(0).random((64, 5)).astype(np.float32))
    level = DenseLevel(3, output_activation="sigmoid", loss="binary_crossentropy")
    sae = Autoencoder(shape=(5,), levels=[level], missing="ignore")
    (history,) = sae.train(values, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\].*Received: values from"):
        sae.train(values * 2, epochs=1, verbose=0)


@pytest.mark.parametrize("missing", ["Ignore", None, True])
def test_what_missing_may_be(missing):
    with pytest.raises(ValueError, match=r"`missing` must be one of 'error', 'ignore'.*Received: missing="):
        Autoencoder(missing=missing)


def test_measures_of_images_leave_gaps_out():
    data = blobs(6)
    gappy = data.copy()
    gappy[:3, 4, 4] = np.nan
    sae = Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(8, 2, 8)], missing="ignore")
    sae.train(gappy, epochs=0, verbose=0)
    restored, row = sae.reconstruct(gappy), sae.evaluate(gappy, return_dict=True)[0]
    errors = np.square(restored - gappy)
    expected = [10 * np.log10(4 / errors[index][~np.isnan(gappy[index])].mean()) for index in range(6)]
    assert row["psnr"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert row["ssim"] == pytest.approx(metrics.ssim(data[3:], restored[3:]).mean(), rel=1e-4)
    assert row["full_loss"] == pytest.approx(row["pca_loss"], rel=0.05)
