import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, ImageFolder
from stacked_autoencoder.data.adapters import as_pairs, as_source
from stacked_autoencoder.pca import to_patches
from stacked_autoencoder.training import greedy
from stacked_autoencoder.training.inputs import training_data_of
from stacked_autoencoder.utils.value_range import UNLIMITED
from tests.conftest import blobs
from tests.data.test_adapters import Batches

QUIET = {"verbose": 0}
CLEAN = blobs(24, 16)
INPUTS = np.clip(CLEAN / 2 + 0.25, -1, 1).astype(np.float32)  # each determines its target
PIXELS = np.rint((CLEAN + 1) * 127.5).astype(np.uint8)
ANY = (None, None, 3)
slices = tf.data.Dataset.from_tensor_slices


def shuffled(*parts):
    """Another order in each pass."""
    return slices(parts).shuffle(24).batch(7)


def mixed(images):
    return [image if index % 3 else image[:12] for index, image in enumerate(images)]


IN_STEP = {
    "arrays": lambda: (INPUTS, CLEAN),
    "tuple of arrays": lambda: ((INPUTS, CLEAN), None),
    "tuple of lists": lambda: ((list(INPUTS), list(CLEAN)), None),
    "lists of two sizes": lambda: (mixed(INPUTS), mixed(CLEAN)),
    "list and array": lambda: (list(INPUTS), CLEAN),
    "array and list": lambda: (INPUTS, list(CLEAN)),
    "dataset of images": lambda: (slices((INPUTS, CLEAN)), None),
    "dataset of batches": lambda: (slices((INPUTS, CLEAN)).batch(5), None),
    "dataset of pairs with weights": lambda: (slices((INPUTS, CLEAN, np.ones(24))).batch(5), None),
    "dataset that shuffles itself": lambda: (shuffled(INPUTS, CLEAN), None),
    "dataset of unknown sizes": lambda: (
        tf.data.Dataset.from_generator(
            lambda: zip(mixed(INPUTS), mixed(CLEAN), strict=True), output_signature=(tf.TensorSpec(ANY),) * 2
        ),
        None,
    ),
    "PyDataset": lambda: (Batches(INPUTS, labels=CLEAN), None),
    "two datasets": lambda: (slices(INPUTS), slices(CLEAN)),
    "tuple of datasets": lambda: ((slices(INPUTS).batch(5), slices(CLEAN).batch(5)), None),
    "datasets batched otherwise": lambda: (slices(INPUTS).batch(5), slices(CLEAN)),
    "dataset and array": lambda: (slices(INPUTS).batch(5), CLEAN),
    "list of two sizes and dataset": lambda: (
        mixed(INPUTS),
        tf.data.Dataset.from_generator(lambda: iter(mixed(CLEAN)), output_signature=tf.TensorSpec(ANY)),
    ),
    "PyDatasets": lambda: (Batches(INPUTS), Batches(CLEAN)),
}


def assert_partners(inputs, targets):
    np.testing.assert_allclose(inputs, np.clip(targets / 2 + 0.25, -1, 1), atol=1e-6)


@pytest.mark.parametrize("kind", IN_STEP)
def test_pairs_of_any_kind_stay_in_step(kind):
    pairs = as_pairs(*IN_STEP[kind](), ANY)
    for batches in (
        pairs.dataset(5, shuffle=True).repeat(2).as_numpy_iterator(),
        pairs.batches(5, shuffle=True),
        pairs.from_step(5, 3).take(7).as_numpy_iterator(),
        pairs.in_order(5),
    ):
        for inputs, targets in batches:
            assert_partners(inputs, targets)
    assert sum(len(inputs) for inputs, _ in pairs.in_order(5)) == 24
    halves = [np.sort([float(image.sum()) for batch in half.batches(5) for image in batch]) for half in pairs[:2]]
    expected = [mixed(INPUTS), mixed(CLEAN)] if "size" in kind else [INPUTS, CLEAN]
    for half, images in zip(halves, expected, strict=True):
        np.testing.assert_allclose(half, np.sort([float(image.sum()) for image in images]), rtol=1e-4, atol=1e-3)
    assert pairs.inputs.value_range == pairs.targets.value_range == (-1.0, 1.0)


@pytest.mark.parametrize("kind", ["arrays", "dataset that shuffles itself", "PyDataset", "dataset of unknown sizes"])
@pytest.mark.parametrize("budget", [None, 0], ids=["in memory", "on disk"])
def test_the_next_level_trains_on_encodings_of_inputs_and_targets(kind, budget, monkeypatch):
    sae = Autoencoder(levels=[ConvLevel(4, 1, 4), ConvLevel(4, 1, 4)])
    sae.train(CLEAN, epochs=0, levels=[0], **QUIET)
    images, targets = IN_STEP[kind]()
    fit, seen = greedy.fit, []

    def looked_at(levels, pairs, *arguments, **options):
        seen.extend(pair for batch in pairs.batches(5, shuffle=True) for pair in zip(*batch, strict=True))
        return fit(levels, pairs, *arguments, **options)

    monkeypatch.setattr(greedy, "fit", looked_at)
    validation = images if targets is None else (images, targets)
    (history,) = sae.train(
        images, 1, targets=targets, levels=[1], validation_data=validation, memory_budget=budget, **QUIET
    )
    assert np.isfinite(history.history["val_loss"]).all()
    if "sizes" in kind:
        pairs = zip(mixed(INPUTS), mixed(CLEAN), strict=True)
        encoded = [[sae.levels[0].encode(sae.stack.pad(image[None]))[0] for image in pair] for pair in pairs]
    else:
        encoded = [*zip(*(sae.levels[0].encode(sae.stack.pad(images)) for images in (INPUTS, CLEAN)), strict=True)]
    assert len(seen) == 24
    for own, wanted in seen:
        alike = [pair for pair in encoded if pair[0].shape == own.shape]
        _, expected = min(alike, key=lambda pair: np.abs(pair[0] - own).sum())
        np.testing.assert_allclose(wanted, expected, atol=2e-2)


def test_a_dataset_of_pairs_trains_as_arrays_of_them_do():
    """Level 0 starts alike, and the loss is that of the targets."""
    losses = []
    for images, targets in ((INPUTS, CLEAN), ((INPUTS, CLEAN), None), (slices((INPUTS, CLEAN)).batch(8), None)):
        keras.utils.set_random_seed(0)
        sae = Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(4, 1, 4)])
        (history,) = sae.train(images, 0, targets=targets, validation_data=slices((INPUTS, CLEAN)).batch(8), **QUIET)
        losses.append(history.start_loss)
        assert history.start_loss == pytest.approx(np.square(sae.reconstruct(INPUTS) - CLEAN).mean(), rel=1e-4)
    np.testing.assert_allclose(losses, losses[0], rtol=1e-4)


@pytest.fixture(scope="module")
def sae():
    keras.utils.set_random_seed(0)
    sae = Autoencoder(levels=[ConvLevel(4, 1, 4), ConvLevel(4, 1, 4)])
    sae.train(CLEAN, epochs=0, **QUIET)
    return sae


@pytest.mark.parametrize("kind", ["arrays", "tuple of arrays", "dataset that shuffles itself", "PyDataset"])
def test_evaluate_compares_with_targets(sae, kind):
    images, targets = IN_STEP[kind]()
    expected = np.square(sae.reconstruct(INPUTS) - CLEAN).mean()
    assert sae.evaluate(images, targets=targets) == pytest.approx(expected, rel=1e-4)
    budget = sae.evaluate(images, targets=targets, return_dict=True)
    assert budget[1]["full_loss"] == pytest.approx(expected, rel=1e-4)
    inner = sae.levels[1].decode(sae.encode(INPUTS)) - sae.encode(CLEAN, level=0)
    assert budget[1]["loss"] == pytest.approx(np.square(inner).mean(), rel=1e-4)
    code, patches = sae.levels[0].linear_code, [to_patches(each, 2).astype(np.float64) for each in (INPUTS, CLEAN)]
    restored = (patches[0] - code.mean) @ code.components @ code.components.T + code.mean
    assert budget[0]["pca_loss"] == pytest.approx(np.square(restored - patches[1]).mean(), rel=1e-4)


@pytest.mark.parametrize("kind", ["arrays", "dataset of batches"])
def test_fine_tune_restores_targets(kind):
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(4, 1, 4)])
    sae.train(CLEAN, epochs=0, **QUIET)
    images, targets = IN_STEP[kind]()
    before = sae.evaluate(INPUTS, targets=CLEAN)
    history = sae.fine_tune(
        images, 3, targets=targets, validation_data=slices((INPUTS, CLEAN)).batch(8), learning_rate=0.01, **QUIET
    )
    assert history.start_loss == pytest.approx(before, rel=1e-4)
    assert sae.evaluate(INPUTS, targets=CLEAN) < 0.9 * before


def test_stores_of_inputs_and_targets_train_the_level_above(sae, tmp_path):
    noisy, clean = (
        sae.encode_to(tmp_path / name, images, 0, dtype="float32", **QUIET)
        for name, images in (("noisy", INPUTS), ("clean", CLEAN))
    )
    data = training_data_of(sae.stack, noisy, clean)
    assert (data.level, data.shape) == (1, (16, 16, 3))
    ((inputs, targets),) = data.pairs.batches(24)
    np.testing.assert_allclose(inputs, sae.encode(INPUTS, level=0), atol=1e-5)
    np.testing.assert_allclose(targets, sae.encode(CLEAN, level=0), atol=1e-5)
    with pytest.raises(ValueError, match=r"store of level 0, so `targets` must be a store of the same level"):
        training_data_of(sae.stack, noisy, CLEAN)


def test_endless_pairs_need_steps():
    sae = Autoencoder(levels=[ConvLevel(4, 1, 4), ConvLevel(4, 1, 4)])
    endless = slices((INPUTS, CLEAN)).shuffle(24).repeat().batch(8)
    histories = sae.train(endless, 1, steps_per_epoch=2, **QUIET)
    assert len(histories) == 2
    with pytest.raises(ValueError, match=r"`validation_data` is an infinite dataset"):
        sae.train(CLEAN, 1, validation_data=endless, **QUIET)


# === Folders ===


@pytest.fixture
def folders(tmp_path):
    """Twenty-four pictures of two sizes and their targets, in two folders."""
    for name, images in (("noisy", INPUTS), ("clean", CLEAN)):
        for index, image in enumerate(mixed(images)):
            file = tmp_path / name / "abc"[index % 3] / f"{index:02d}.{'bmp' if name == 'noisy' else 'png'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rint((image + 1) * 127.5).astype(np.uint8)).save(file)
    return tmp_path / "noisy", tmp_path / "clean"


@pytest.mark.parametrize("taken", [{}, {"side": 12}, {"crop": 8}])
@pytest.mark.parametrize("as_tuple", [True, False])
def test_two_folders_are_pairs(folders, taken, as_tuple):
    images, targets = (ImageFolder(folder, **taken) for folder in folders)
    pairs = as_pairs((images, targets), None, ANY) if as_tuple else as_pairs(images, targets, ANY)
    for batches in (pairs.dataset(5, shuffle=True).repeat(2).as_numpy_iterator(), pairs.in_order(5)):
        for inputs, wanted in batches:
            np.testing.assert_allclose(inputs, np.clip(wanted / 2 + 0.25, -1, 1), atol=0.02)
    assert sum(len(inputs) for inputs, _ in pairs.in_order(5)) == 24


@pytest.mark.parametrize("of", [0, 1])
def test_a_pair_of_which_one_is_unreadable_is_skipped(folders, of):
    """And no other is shifted."""
    spoiled = sorted(folders[of].rglob("*.*"))[9]
    spoiled.write_bytes(spoiled.read_bytes()[:90])
    pairs = as_pairs(*folders, ANY)
    with pytest.warns(UserWarning, match=rf"1 of 24 pictures.*{'its target .*' if of else ''}{spoiled.stem}"):
        batches = list(pairs.in_order(5))
    assert sum(len(inputs) for inputs, _ in batches) == 23
    for inputs, targets in [*batches, *pairs.batches(5, shuffle=True)]:
        np.testing.assert_allclose(inputs, np.clip(targets / 2 + 0.25, -1, 1), atol=0.02)


def test_folders_that_are_not_pairs_are_errors(folders, tmp_path):
    with pytest.raises(ValueError, match=r"with the same `size`, `fit` and `crop`.*side=8"):
        as_pairs(ImageFolder(folders[0], side=8), folders[1], ANY)
    with pytest.raises(ValueError, match=r"If `images` is a folder, the targets must be a folder"):
        as_pairs(folders[0], CLEAN, ANY)
    Image.fromarray(PIXELS[0]).resize((20, 20)).save(folders[1] / "a" / "00.png")
    with pytest.raises(
        ValueError, match=r"must have the same size.*`ImageFolder\(path, side=…\)`.*00\.bmp and .*00\.png"
    ):
        list(as_pairs(*folders, ANY).in_order(5))
    (folders[1] / "b" / "01.png").rename(folders[1] / "b" / "02.png")
    with pytest.raises(ValueError, match=r"same names.*Received: 24 and 24 pictures, of which number 8 is b/01"):
        as_pairs(*folders, ANY)
    (folders[1] / "b" / "02.png").unlink()
    with pytest.raises(ValueError, match=r"same names.*Received: 24 and 23 pictures"):
        as_pairs(*folders, ANY)


def test_folders_train_and_fill_a_cache(folders, tmp_path):
    sae = Autoencoder(levels=[ConvLevel(4, 1, 4), ConvLevel(4, 1, 4)])
    for _ in range(2):
        histories = sae.train(
            folders[0], 1, targets=folders[1], memory_budget=0, cache_dir=tmp_path / "cache", levels=[0, 1], **QUIET
        )
        assert np.isfinite([history.history["loss"][0] for history in histories]).all()
    folders[1].rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        sae.train(folders[0], 1, targets=folders[1], **QUIET)


# === What isn't a pair, and what can't be one ===


@pytest.mark.parametrize("kind", ["tuple of arrays", "tuple of lists", "dataset of images", "dataset of batches"])
@pytest.mark.parametrize("method", ["encode", "reconstruct", "encode_to"])
def test_methods_without_targets_refuse_pairs_and_the_advice_works(sae, tmp_path, kind, method):
    pairs, _ = IN_STEP[kind]()
    before = [tmp_path / "store"] if method == "encode_to" else []
    options = QUIET if before else {}
    with pytest.raises(ValueError, match=r"`images` gives pairs.*isn't labels.*`targets=`.*Received: ") as caught:
        getattr(sae, method)(*before, pairs, **options)
    advice = "images[0]" if isinstance(pairs, tuple) else "images.map(lambda first, *_: first)"
    assert f"`{advice}`" in str(caught.value)
    alone = pairs[0] if isinstance(pairs, tuple) else pairs.map(lambda first, *_: first)
    result = getattr(sae, method)(*before, alone, **options)
    assert len(result) == 24


LABELS = {
    "numbers": np.arange(24),
    "one-hot": np.eye(24, 16),
    "masks": CLEAN[..., :1],
    "texts": np.array(["a", "b"] * 12),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_not_taken_for_targets(kind):
    for images in ((INPUTS, LABELS[kind]), slices((INPUTS, LABELS[kind])), slices((INPUTS, LABELS[kind])).batch(5)):
        pairs = as_pairs(images, None, ANY)
        assert pairs.targets is None
        assert sum(map(len, pairs.inputs.in_order(8))) == 24


def test_labels_with_the_shape_of_vectors_are_kept(tmp_path):
    vectors, labels = np.random.default_rng(0).normal(size=(2, 24, 4)).astype(np.float32)
    sae = Autoencoder(shape=(4,), levels=[DenseLevel(2)])
    np.testing.assert_array_equal(sae.encode_to(tmp_path / "store", (vectors, labels), **QUIET).labels, labels)
    assert as_pairs((vectors, labels), None, (4,), values=UNLIMITED).targets is not None


UNLIKE = {
    "fewer targets": (
        lambda: (INPUTS, CLEAN[:20]),
        r"must have the same number of images, and the two images of each pair the same size",
    ),
    "fewer in a dataset": (
        lambda: (slices(INPUTS), slices(CLEAN[:20])),
        r"must have the same number of images, and the two images of each pair the same size",
    ),
    "fewer than in batches": (
        lambda: (slices(INPUTS).batch(5), CLEAN[:20]),
        r"must have the same number of images, and the two",
    ),
    "smaller": (
        lambda: (INPUTS, CLEAN[:, :12]),
        r"must have the same number of images, and the two images of each pair the same size",
    ),
    "smaller in a dataset": (
        lambda: (slices(INPUTS), slices(CLEAN[:, :12])),
        r"must have the same number of images, and the two",
    ),
    "one smaller": (
        lambda: (
            slices(INPUTS).batch(1),
            tf.data.Dataset.from_generator(
                lambda: (image[None] for image in mixed(CLEAN)), output_signature=tf.TensorSpec((None, *ANY))
            ),
        ),
        r"must have the same number of images.*1 x 16 x 16 x 3 and 1 x 12 x 16 x 3",
    ),
    "batched otherwise": (
        lambda: (slices(INPUTS).batch(4), slices(CLEAN).batch(6)),
        r"must have the same number of images",
    ),
    "pairs and targets": (lambda: (slices((INPUTS, CLEAN)), CLEAN), r"`images` gives pairs"),
    "NaN in targets": (
        lambda: (slices((INPUTS, np.where(np.arange(24) == 7, np.nan, 1)[:, None, None, None] * CLEAN)), None),
        r"Image 7 holds NaN",
    ),
    "targets out of range": (lambda: (slices((INPUTS, 3 * CLEAN)), None), r"must lie in \[-1, 1\]"),
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_mismatched_pairs_are_errors(kind):
    make, message = UNLIKE[kind]
    images, targets = make()
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Autoencoder(size=4, n_out=4, n_scalings=1).train(images, 1, targets=targets, **QUIET)


def test_uint8_pairs_with_floats():
    for pairs in (as_pairs(PIXELS, CLEAN, ANY), as_pairs(slices((PIXELS, CLEAN)), None, ANY)):
        for inputs, targets in pairs.batches(5, shuffle=True):
            np.testing.assert_allclose(inputs, targets, atol=0.01)


def test_halves_are_sources(tmp_path):
    pairs = as_pairs(slices((INPUTS, CLEAN)).batch(5), None, ANY)
    for half, images in zip(pairs[:2], (INPUTS, CLEAN), strict=True):
        blocks = [np.concatenate([*block.batches(8)]) for block in half.blocks(10)]
        np.testing.assert_array_equal(np.concatenate(blocks), images)
        np.testing.assert_array_equal(np.concatenate([*as_source(half, ANY).in_order(8)]), images)
        assert half.describe().startswith(("the inputs of pairs", "the targets of pairs"))


@pytest.mark.parametrize("name", ["images", "targets"])
@pytest.mark.parametrize("kind", ["arrays", "folders"])
def test_a_checkpoint_knows_inputs_and_targets(folders, tmp_path, name, kind):
    given = dict(zip(("images", "targets"), folders if kind == "folders" else (INPUTS, CLEAN), strict=True))
    options = QUIET | {"epochs": 0, "checkpoint_dir": tmp_path / "checkpoints"}
    sae = Autoencoder(size=4, n_out=4, n_scalings=1)
    sae.train(**given, **options)
    sae = Autoencoder(size=4, n_out=4, n_scalings=1)
    sae.train(**given, **options)
    if kind == "folders":
        file = min(given[name].rglob("*.*"))
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    else:
        given[name] = given[name] / 2
    with pytest.raises(ValueError, match="`images` has other values"):
        Autoencoder(size=4, n_out=4, n_scalings=1).train(**given, **options)


def test_an_error_in_a_py_dataset_of_pairs_is_raised_as_it_was():
    class Failing(Batches):
        def __getitem__(self, index):
            if index == 1:
                raise KeyError("no such batch")
            return super().__getitem__(index)

    with pytest.raises(KeyError, match="no such batch"):
        Autoencoder(shape=(16, 16, 3), size=4, n_out=4).train(Failing(INPUTS, labels=CLEAN), epochs=1, verbose=0)
