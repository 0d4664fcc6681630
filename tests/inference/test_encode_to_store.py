import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stacked_autoencoder import Autoencoder, EncodingStore
from stacked_autoencoder.inference import encode_to_store, tiling
from stacked_autoencoder.store.manifest import HEAD, LOG, MANIFEST
from stacked_autoencoder.utils import images as images_module
from stacked_autoencoder.utils.files import only_writer
from tests.conftest import blobs, files_of_at_most
from tests.data.test_adapters import Batches

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 18, 16, 3), dtype=np.uint8)  # 18: not a multiple of 4


@pytest.fixture(scope="module")
def sae():
    keras.utils.set_random_seed(0)
    sae = Autoencoder(size=4, n_out=4, n_scalings=2, n_levels=2)
    sae.train(blobs(64, side=32), epochs=0, verbose=0)
    return sae


def files(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def folder_of(path, pictures):
    for index, picture in enumerate(pictures):
        (path / f"{index % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path / f"{index % 3}" / f"{index:03d}.png")
    return path


def before_encoding(monkeypatch, look):
    """Lets `look` see every batch before it is encoded."""
    encoding_of = encode_to_store.encoding_of

    def spying(*arguments):
        encode = encoding_of(*arguments)
        return lambda images: (look(images), encode(images))[1]

    monkeypatch.setattr(encode_to_store, "encoding_of", spying)


SOURCES = {
    "array": lambda path: PIXELS,
    "list": lambda path: list(PIXELS),
    "dataset of images": lambda path: tf.data.Dataset.from_tensor_slices(PIXELS),
    "dataset of batches": lambda path: tf.data.Dataset.from_tensor_slices(PIXELS).batch(7),
    "memory map": lambda path: mapped(path / "pixels.npy"),
}


def mapped(file):
    np.save(file, PIXELS)
    return np.load(file, mmap_mode="r")


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("level", [0, 1])
def test_every_source_gives_the_encodings_in_its_order(sae, tmp_path, kind, level):
    store = sae.encode_to(tmp_path / "store", SOURCES[kind](tmp_path), level, shard_size=12, dtype="float32", verbose=0)
    expected = sae.encode(PIXELS, level=level)
    np.testing.assert_allclose(store[:], expected, atol=1e-5)
    assert (store.level, store.shape, store.names, store.labels) == (level, expected.shape, None, None)
    assert sorted(files(store.path)) == ["00000.npy", "00001.npy", "00002.npy", "00003.npy", MANIFEST]


def test_a_folder_gives_names(sae, tmp_path):
    folder = folder_of(tmp_path / "pictures", PIXELS)
    store = sae.encode_to(tmp_path / "store", folder, shard_size=12, dtype="float32", verbose=0)
    assert store.names == sorted(store.names)
    assert store.names[0] == "0/000.png"
    expected = sae.encode(PIXELS)
    for name, encoding in zip(store.names, store[:], strict=True):
        np.testing.assert_allclose(encoding, expected[int(name[2:5])], atol=1e-5)


LABELS = np.arange(40) % 3
BOTH = tf.data.Dataset.from_tensor_slices((PIXELS, LABELS))
LABELLED = {
    "arrays": (PIXELS, LABELS),
    "dataset of images": BOTH,
    "dataset of batches": BOTH.batch(7),
    "PyDataset": Batches(PIXELS, labels=LABELS),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_labels_are_kept(sae, tmp_path, kind):
    store = sae.encode_to(tmp_path / "store", LABELLED[kind], shard_size=12, verbose=0)
    np.testing.assert_array_equal(store.labels, LABELS)


def of_dataset(labels, batch=None):
    dataset = tf.data.Dataset.from_tensor_slices((PIXELS, labels))
    return dataset if batch is None else dataset.batch(batch)


AGES, KINDS = np.linspace(0, 1, 40, dtype=np.float32), [f"kind {index % 3} é" for index in range(40)]
BESIDE = {
    "list": list,
    "dataset of images": tf.data.Dataset.from_tensor_slices,
    "dataset of batches": lambda images: tf.data.Dataset.from_tensor_slices(images).batch(7),
    "dataset with labels of its own": lambda images: tf.data.Dataset.from_tensor_slices((images, LABELS + 1)).batch(7),
    "PyDataset": lambda images: Batches(images),
    "store": None,
}


@pytest.mark.parametrize("kind", BESIDE)
def test_labels_beside_any_source_are_kept(sae, tmp_path, kind):
    if kind == "store":  # of level 0, whose encodings are what another stack sees
        source = sae.encode_to(tmp_path / "below", (PIXELS, LABELS + 1), 0, shard_size=12, verbose=0)
        sae = Autoencoder(shape=source.shape[1:], size=4, n_out=4, n_scalings=1, check_range=False)
    else:
        source = BESIDE[kind](PIXELS)
    store = sae.encode_to(tmp_path / "store", (source, {"age": AGES, "kind": KINDS}), shard_size=12, verbose=0)
    np.testing.assert_array_equal(store.labels["age"], AGES)
    assert store.labels["kind"].tolist() == KINDS


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("count", [39, 41])
def test_other_than_a_label_per_image_raises_an_error(sae, tmp_path, kind, count):
    if kind == "store":
        source = sae.encode_to(tmp_path / "below", PIXELS, 0, verbose=0)
        sae = Autoencoder(shape=source.shape[1:], size=4, n_out=4, n_scalings=1, check_range=False)
    else:
        source = BESIDE[kind](PIXELS)
    with pytest.raises(ValueError, match=rf"needs one label per image\. Received: .*40 images, {count} labels"):
        sae.encode_to(tmp_path / "store", (source, np.arange(count)), shard_size=12, verbose=0)
    assert not (tmp_path / "store" / MANIFEST).exists()


GIVEN = {
    "texts": (lambda: (PIXELS, KINDS), KINDS),
    "bytes": (lambda: (PIXELS, [kind.encode() for kind in KINDS]), KINDS),
    "array of bytes": (lambda: (PIXELS, np.array([kind.encode() for kind in KINDS])), KINDS),
    "booleans": (lambda: (PIXELS, LABELS > 1), LABELS > 1),
    "numpy scalars": (lambda: (PIXELS, [*AGES]), AGES),
    "tensor": (lambda: (PIXELS, tf.constant(KINDS)), KINDS),
    "two numbers each": (lambda: (PIXELS, np.stack([LABELS, LABELS], 1)), np.stack([LABELS, LABELS], 1)),
    "dict of arrays": (lambda: (PIXELS, {"age": AGES, "kind": KINDS}), {"age": AGES, "kind": KINDS}),
    "tuple of arrays": (lambda: (PIXELS, (AGES, KINDS)), {"0": AGES, "1": KINDS}),
    "dict each": (
        lambda: (PIXELS, [{"age": age, "kind": kind} for age, kind in zip(AGES, KINDS, strict=True)]),
        {"age": AGES, "kind": KINDS},
    ),
    "tuple each": (lambda: (PIXELS, [*zip(AGES, KINDS, strict=True)]), {"0": AGES, "1": KINDS}),
    "dataset of texts": (lambda: of_dataset(KINDS), KINDS),
    "dataset of batches of texts": (lambda: of_dataset(KINDS, 7), KINDS),
    "dataset of dicts": (lambda: of_dataset({"age": AGES, "kind": KINDS}), {"age": AGES, "kind": KINDS}),
    "dataset of tuples": (lambda: of_dataset((AGES, KINDS), 7), {"0": AGES, "1": KINDS}),
    "PyDataset of texts": (lambda: Batches(PIXELS, labels=np.array(KINDS)), KINDS),
    "PyDataset of dicts": (lambda: DictBatches(PIXELS), {"age": AGES, "kind": KINDS}),
}


class DictBatches(Batches):
    def __getitem__(self, index):
        rows = slice(index * self.size, (index + 1) * self.size)
        return self.images[rows], {"age": AGES[rows], "kind": KINDS[rows]}


@pytest.mark.parametrize("kind", GIVEN)
def test_labels_of_any_kind_are_kept(sae, tmp_path, kind):
    """Also when they are read again, and as `store.dataset()` gives them."""
    give, expected = GIVEN[kind]
    store = sae.encode_to(tmp_path / "store", give(), shard_size=12, verbose=0)
    batches = [labels for _, labels in store.dataset(9).as_numpy_iterator()]
    for labels in (store.labels, EncodingStore(store.path).labels):
        assert isinstance(labels, dict) == isinstance(expected, dict)
        columns = expected if isinstance(expected, dict) else {"": expected}
        for name, values in columns.items():
            ours = labels[name] if name else labels
            np.testing.assert_array_equal(ours, values)
            given = np.concatenate([batch[name] if name else batch for batch in batches])
            given = [text.decode() for text in given] if isinstance(values, list) else given
            np.testing.assert_array_equal(given, values)
    if isinstance(expected, dict):
        assert [*store.labels] == [*expected]


@pytest.mark.parametrize("first", ["no labels", "other labels", "part of it"])
def test_labels_that_come_later_are_kept_without_encoding_again(sae, tmp_path, monkeypatch, first):
    path = tmp_path / "store"
    sae.encode_to(path, (PIXELS, LABELS + 1) if first == "other labels" else PIXELS, shard_size=12, verbose=0)
    if first == "part of it":
        (path / "00002.npy").unlink()
    calls = []
    before_encoding(monkeypatch, calls.append)
    store = sae.encode_to(path, (PIXELS, {"kind": KINDS}), shard_size=12, verbose=0)
    assert store.labels["kind"].tolist() == KINDS
    assert len(calls) == (first == "part of it")
    before = files(path)
    with pytest.raises(ValueError, match=r"contains labels, but this source has none.*`EncodingStore\(path\)`"):
        sae.encode_to(path, PIXELS, shard_size=12, verbose=0)
    assert files(path) == before
    assert EncodingStore(path).labels["kind"].tolist() == KINDS


def test_sizes_may_differ(sae, tmp_path):
    images = [blobs(1, side=side, seed=index)[0] for index, side in enumerate([16, 16, 20, 33, 16, 20, 20])]
    for name, source in (("list", images), ("dataset", dataset_of(images))):
        store = sae.encode_to(tmp_path / name, source, shard_size=4, dtype="float32", verbose=0)
        for ours, theirs in zip(store[:], sae.encode(images), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def dataset_of(images):
    return tf.data.Dataset.from_generator(lambda: iter(images), output_signature=tf.TensorSpec((None, None, 3)))


def test_half_precision_is_the_default_and_rounds_by_a_two_thousandth(sae, tmp_path):
    store = sae.encode_to(tmp_path / "store", PIXELS, verbose=0)
    assert store.dtype == np.float16
    np.testing.assert_allclose(store[:], sae.encode(PIXELS), rtol=1 / 2000, atol=1e-5)


def test_a_finished_store_is_not_encoded_again(sae, tmp_path, monkeypatch, capsys):
    path = sae.encode_to(tmp_path / "store", PIXELS, shard_size=12, verbose=0).path
    before = files(path)
    monkeypatch.setattr(encode_to_store, "encoding_of", lambda *_: None)
    for same in (PIXELS, list(PIXELS), tf.data.Dataset.from_tensor_slices(PIXELS)):
        assert len(sae.encode_to(path, same, shard_size=12)) == 40
    assert files(path) == before
    assert "40/40 images" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["array", "list", "dataset of images", "folder"])
def test_an_interrupted_job_goes_on_where_it_was(sae, tmp_path, monkeypatch, kind):
    source = folder_of(tmp_path / "pictures", PIXELS) if kind == "folder" else SOURCES[kind](tmp_path)
    whole = files(sae.encode_to(tmp_path / "whole", source, shard_size=8, verbose=0).path)
    calls = []

    def failing(images):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt

    before_encoding(monkeypatch, failing)
    with pytest.raises(KeyboardInterrupt):
        sae.encode_to(tmp_path / "store", source, shard_size=8, verbose=0)
    assert LOG in files(tmp_path / "store")
    sae.encode_to(tmp_path / "store", source, shard_size=8, verbose=0)
    assert 5 <= len(calls) <= 7  # of 5 shards, one or two were whole when it was cut short
    assert files(tmp_path / "store") == whole


def test_a_damaged_shard_alone_is_encoded_anew(sae, tmp_path, monkeypatch):
    path = sae.encode_to(tmp_path / "store", PIXELS, shard_size=12, verbose=0).path
    before = files(path)
    (path / "00002.npy").write_bytes(before["00002.npy"][:-1] + b"\0")
    calls = []
    before_encoding(monkeypatch, calls.append)
    sae.encode_to(path, PIXELS, shard_size=12, verbose=0).verify()
    assert files(path) == before
    assert len(calls) == 1


def test_parts_make_one_store(sae, tmp_path):
    path = tmp_path / "parts"
    part = sae.encode_to(path, PIXELS, shard_size=6, shard=(1, 3), dtype="float32", verbose=0)
    expected = sae.encode(PIXELS)
    np.testing.assert_allclose(part[:], np.concatenate([expected[6:12], expected[24:30]]), atol=1e-5)
    with pytest.raises(FileNotFoundError, match="part0-of-3, part2-of-3 missing or not finished"):
        EncodingStore(path)
    for index in (0, 2):
        sae.encode_to(path, PIXELS, shard_size=6, shard=(index, 3), dtype="float32", verbose=0)
    store = EncodingStore(path)
    np.testing.assert_allclose(store[:], expected, atol=1e-5)
    store.verify()
    (path / "part0-of-3" / "00003.npy").unlink()
    with pytest.raises(ValueError, match=r"part0-of-3/00003\.npy of 7 shards damaged"):
        store.verify()
    with pytest.raises(ValueError, match=r"1 of 7 shards can't be used\. part0-of-3/00003\.npy is missing"):
        EncodingStore(path)
    manifest = path / "part2-of-3" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"dtype": "float16"}))
    with pytest.raises(ValueError, match=r"made alike, and these differ in `dtype`.*float16 and float32"):
        EncodingStore(path)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"dtype": "float32", "part": [1, 4]}))
    with pytest.raises(ValueError, match=r"made alike, and these differ in `n`\..*3 and 4"):
        EncodingStore(path)


def test_a_part_may_be_empty_and_the_manifest_tells_what_the_store_does(sae, tmp_path):
    for index in range(3):
        part = sae.encode_to(tmp_path / "parts", PIXELS, shard_size=20, shard=(index, 3), verbose=0)
        manifest = json.loads((part.path / MANIFEST).read_text())
        assert manifest["rows"] == len(part) == (20, 20, 0)[index]
        np.testing.assert_array_equal(manifest["mean"], part.mean)
        np.testing.assert_array_equal(manifest["std"], part.std)
    store = EncodingStore(tmp_path / "parts")
    assert store.shape == (40, 2, 1, 4)
    np.testing.assert_allclose(store.mean, store[:].astype(np.float64).mean(axis=(0, 1, 2)), atol=1e-3)


@pytest.mark.parametrize("log", ["", "{", '{"format": 1, "encoder": "0123', '{"format": 1, "encoder": "'])
def test_a_log_that_was_cut_short_in_its_first_line_is_begun_anew(sae, tmp_path, log):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / LOG).write_text(log)
    assert len(sae.encode_to(tmp_path / "store", PIXELS, verbose=0)) == 40
    assert not (tmp_path / "store" / LOG).exists()


# === Files of others ===


def refuse(sae, path, match, **options):
    """The store isn't written, and no file is changed."""
    before = files(path)
    with pytest.raises(ValueError, match=match):
        sae.encode_to(path, PIXELS, shard_size=12, verbose=0, **options)
    assert files(path) == before


@pytest.mark.parametrize("name", ["00000.npy", "notes.txt", ".00000.npy.0123456789abcdef.new", ".hidden", "\x1b[2J"])
@pytest.mark.parametrize("part", [None, (0, 2)])
def test_a_folder_with_files_of_others_is_refused(sae, tmp_path, name, part):
    folder = tmp_path / "store" if part is None else tmp_path / "store" / "part0-of-2"
    folder.mkdir(parents=True)
    (folder / name).write_text("mine")
    refuse(
        sae,
        tmp_path / "store",
        r"`path` must be a new or empty folder, or.*The folder contains '.*'\. Choose another folder\. "
        r"Received: path='[ -~]*'$",
        shard=part,
    )


def test_a_part_may_lie_beside_files_of_others(sae, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for part in ((0, 2), (1, 2)):
        sae.encode_to(tmp_path, PIXELS, shard_size=12, shard=part, verbose=0)
    assert len(EncodingStore(tmp_path)) == 40
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("log", ["[]\n", '{"format": 1}\n{"index": 0}\n', "half a li", "0\n1\n", '{"format": 9}\n'])
def test_a_log_of_others_is_left_as_it_is(sae, tmp_path, log):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / LOG).write_text(log)
    refuse(
        sae, tmp_path / "store", r"unfinished\.jsonl isn't one.*left as it is\. Choose a new or empty folder as `path`"
    )


@pytest.mark.parametrize("is_store", [False, True])
def test_nothing_is_written_through_a_link(sae, tmp_path, is_store):
    path, victim = tmp_path / "store", tmp_path / "victim"
    victim.write_text("")
    if is_store:
        sae.encode_to(path, PIXELS, shard_size=12, verbose=0)
        (path / "00001.npy").unlink()
    else:
        path.mkdir()
    (path / LOG).symlink_to(victim)
    refuse(sae, path, r"unfinished\.jsonl isn't one that `encode_to` wrote: it isn't a regular file")
    assert victim.read_text() == ""


def test_files_of_others_in_a_store_stay(sae, tmp_path, monkeypatch):
    """A killed process's temporary files go by their names, and no other goes."""
    path = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        encode_until(sae, path, monkeypatch, 3)
    token = json.loads((path / LOG).read_text().splitlines()[1])["temporary"]
    ours = {f".00002.npy.{token}.new", f".manifest.json.{token}.new"}
    mine = {"notes.txt", ".draft.new", ".00002.npy.0123456789abcdef.new", f".notes.txt.{token}.new"}
    for name in ours | mine:
        (path / name).write_text("a file")
    (tmp_path / "victim").write_text("mine")
    (path / f".00001.npy.{token}.new").symlink_to(tmp_path / "victim")
    whole = files(sae.encode_to(tmp_path / "whole", PIXELS, shard_size=8, verbose=0).path)
    sae.encode_to(path, PIXELS, shard_size=8, verbose=0)
    assert files(path) == whole | dict.fromkeys(mine, b"a file") | {f".00001.npy.{token}.new": b"mine"}


def encode_until(sae, path, monkeypatch, batches, error=KeyboardInterrupt):
    """Encodes to shards of one batch each, until it is interrupted at one of them."""
    calls = []

    def failing(images):
        calls.append(len(images))
        if len(calls) == batches:
            raise error

    with monkeypatch.context() as patch:
        before_encoding(patch, failing)
        sae.encode_to(path, PIXELS, shard_size=8, verbose=0)


@pytest.mark.parametrize("has_reserved", [True, False])
def test_a_whole_shard_without_a_record_is_known(sae, tmp_path, monkeypatch, has_reserved):
    """A kill between the renaming and the line of the log; without the other lines, as version 1.0 left it."""
    path = tmp_path / "store"
    whole = files(sae.encode_to(tmp_path / "whole", PIXELS, shard_size=8, verbose=0).path)
    with pytest.raises(KeyboardInterrupt):
        encode_until(sae, path, monkeypatch, 5)
    lines = (path / LOG).read_text().splitlines(keepends=True)
    kinds = ["index" in json.loads(line) for line in lines]
    assert kinds[:3] == [False] * 3
    first = [lines[0]] if not has_reserved else lines[:3]
    (path / LOG).write_text("".join([*first, lines[3]]))
    (path / "00002.npy").write_bytes(whole["00002.npy"])
    sae.encode_to(path, PIXELS, shard_size=8, verbose=0)
    assert files(path) == whole


def test_a_file_that_no_line_of_the_log_names_is_not_overwritten(sae, tmp_path, monkeypatch):
    path = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        encode_until(sae, path, monkeypatch, 3)
    lines = [json.loads(line) for line in (path / LOG).read_text().splitlines()]
    (path / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines if "reserved" not in line))
    (path / "00003.npy").write_text("mine")
    message = r"00003\.npy isn't a file that `encode_to` has written, and it would be overwritten\. Move it elsewhere"
    with pytest.raises(ValueError, match=message):
        sae.encode_to(path, PIXELS, shard_size=8, verbose=0)
    assert (path / "00003.npy").read_text() == "mine"
    (path / "00003.npy").rename(tmp_path / "mine")
    assert len(sae.encode_to(path, PIXELS, shard_size=8, verbose=0)) == 40


def test_files_of_a_folder_that_is_a_file_raise_an_error(sae, tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"`path` must be a folder, but a file has this name\. Choose another"):
            sae.encode_to(path, PIXELS, verbose=0)


# === Kills ===


class Killed(BaseException):
    """Stands for a process that ends here: nothing is tidied up."""


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_kill_at_any_step_is_gone_on_from(sae, tmp_path, monkeypatch, is_finished):
    """Of a first writing, and of one that mends a finished store; readers see whole stores, or none."""
    whole = files(sae.encode_to(tmp_path / "whole", PIXELS, shard_size=12, verbose=0).path)
    step, survived = 0, False
    while not survived:
        path = tmp_path / f"store{step}"
        if is_finished:
            shutil.copytree(tmp_path / "whole", path)
            for name in ("00001.npy", "00003.npy"):
                (path / name).write_bytes(whole[name][:-1] + b"\1")
        survived = kill_at(step, lambda path=path: sae.encode_to(path, PIXELS, shard_size=12, verbose=0), monkeypatch)
        if (path / MANIFEST).exists():  # no shard has changed since, or all have
            damaged = {name for name, content in files(path).items() if content != whole.get(name)} - {LOG}
            assert damaged in ([set(), {"00001.npy", "00003.npy"}] if is_finished else [set()])
        else:
            with pytest.raises((ValueError, FileNotFoundError), match=r"isn't finished|no store of encodings"):
                EncodingStore(path)
        sae.encode_to(path, PIXELS, shard_size=12, verbose=0)
        assert files(path) == whole, step
        step += 1
    assert step > 15


def kill_at(step, work, monkeypatch):
    """Runs until the step-th call that changes the disk, before which all is stopped; whether it came to its end."""
    left = [step]

    def stopping(call):
        def stopped(*arguments, **options):
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return call(*arguments, **options)

        return stopped

    with monkeypatch.context() as patch:
        for name in ("fsync", "unlink", "replace"):
            patch.setattr(os, name, stopping(getattr(os, name)))
        try:
            work()
        except Killed:
            return False
        return True


def test_the_manifest_goes_before_shards_change_and_is_left_where_nothing_does(sae, tmp_path, monkeypatch):
    path = sae.encode_to(tmp_path / "store", PIXELS, shard_size=12, verbose=0).path
    before = (path / MANIFEST).stat()
    sae.encode_to(path, PIXELS, shard_size=12, verbose=0)
    assert (path / MANIFEST).stat() == before
    (path / "00002.npy").write_bytes(b"damaged")
    there, replace = [], os.replace
    monkeypatch.setattr(
        os, "replace", lambda source, target: (there.append((path / MANIFEST).exists()), replace(source, target))[1]
    )
    sae.encode_to(path, PIXELS, shard_size=12, verbose=0).verify()
    assert there == [False, False]  # the shard, and the manifest itself


def test_a_finished_store_that_cannot_be_written_to_is_read(sae, tmp_path, monkeypatch):
    path = sae.encode_to(tmp_path / "store", PIXELS, shard_size=12, verbose=0).path
    monkeypatch.setattr(os, "unlink", None)
    with files_of_at_most(0):
        assert len(sae.encode_to(path, PIXELS, shard_size=12, verbose=0)) == 40


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_source_that_has_grown_by_images_of_other_sizes_is_gone_on_with(sae, tmp_path, monkeypatch, is_finished):
    images = [blobs(1, side=16, seed=index)[0] for index in range(8)]
    path = sae.encode_to(tmp_path / "store", images, shard_size=4, verbose=0).path
    if not is_finished:
        manifest = json.loads((path / MANIFEST).read_text())
        lines = [{name: manifest[name] for name in HEAD}, *manifest["shards"]]
        (path / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines) + "half a li")
        (path / MANIFEST).unlink()
    calls = []
    before_encoding(monkeypatch, calls.append)
    store = sae.encode_to(path, [*images, blobs(1, side=24)[0]], shard_size=4, verbose=0)
    assert len(calls) == 1
    assert store.shape == (9, None, None, 4)
    assert [encoding.shape for encoding in store[:]] == [(1, 1, 4)] * 8 + [(2, 2, 4)]
    assert sorted(files(path)) == ["00000.npy", "00001.npy", "00002.npy", MANIFEST]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((40, 129)), r"up to 128 values per image.*`np\.save.*`targets=` of `train`.*Received: 129 values"),
        ({"a": np.zeros((40, 8, 8)), "b": np.zeros((40, 65))}, r"up to 128 values per image.*Received: 129 values"),
    ],
)
@pytest.mark.parametrize("kind", ["array", "dataset"])
def test_labels_that_a_manifest_cannot_hold_raise_an_error(sae, tmp_path, labels, message, kind):
    source = (PIXELS, labels) if kind == "array" else tf.data.Dataset.from_tensor_slices((PIXELS, labels)).batch(7)
    with pytest.raises(ValueError, match=message):
        sae.encode_to(tmp_path / "store", source, verbose=0)
    sae.encode_to(tmp_path / "without", PIXELS, verbose=0)


def test_large_images_are_encoded_by_tiles(sae, tmp_path, monkeypatch):
    images = [blobs(1, side=side, seed=side)[0] for side in (16, 150, 40, 150)]
    whole = sae.encode_to(tmp_path / "whole", images, dtype="float32", verbose=0)
    monkeypatch.setattr(tiling, "PIXELS", 100 * 100)
    monkeypatch.setattr(images_module, "PIXELS", 100 * 100)
    monkeypatch.setattr(tiling, "TILE", 32)
    tiled = sae.encode_to(tmp_path / "tiled", images, dtype="float32", verbose=0)
    for encoding, other in zip(tiled[:], whole[:], strict=True):
        np.testing.assert_allclose(encoding, other, atol=1e-4)
    np.testing.assert_allclose(tiled.mean, whole.mean, atol=1e-5)
    np.testing.assert_allclose(tiled.std, whole.std, atol=1e-5)


# === What can be wrong ===


def test_another_encoder_another_source_and_other_arguments_are_refused(sae, tmp_path):
    path = sae.encode_to(tmp_path / "store", PIXELS, shard_size=12, verbose=0).path
    before = files(path)
    other = Autoencoder(size=4, n_out=4, n_scalings=2, n_levels=2)
    changed = PIXELS.copy()
    changed[30, 0, 0, 0] ^= 1
    turned = tf.data.Dataset.from_tensor_slices(PIXELS[::-1].copy())
    cases = [
        (
            other,
            PIXELS,
            {},
            r"another encoder: encoder .{12}… of level 1\. Choose another.*Received: encoder .{12}…",
        ),
        (sae, PIXELS, {"level": 0}, r"another encoder: encoder .{12}… of level 1\..*of level 0"),
        (sae, PIXELS, {"dtype": "float32"}, r"another `dtype`: 'float16'\..*Received: 'float32'"),
        (sae, PIXELS, {"shard_size": 20}, r"another `shard_size`: 12\..*Received: 20"),
        (sae, changed, {}, r"another source.*shard 2 doesn't match"),
        (sae, PIXELS[:30], {}, r"another source \(40 images.*shard 2 doesn't match.*Received: 30 images"),
        (sae, PIXELS[:24], {}, r"another source \(40 images.*shard 2 doesn't match.*Received: 24 images"),
        (
            sae,
            turned,
            {},
            r"their order have changed: shard 0.*a dataset of",
        ),
    ]
    for stack, images, arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            stack.encode_to(path, images, **({"shard_size": 12} | arguments), verbose=0)
    EncodingStore(path).verify()
    assert {name: content for name, content in files(path).items() if name != LOG} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int16"}, r"`dtype` must be one of float16, float32, int8\. Received: dtype='int16'"),
        ({"workers": 0}, r"`workers` must be a whole number of at least 1"),
        ({"shard_size": 0}, r"`shard_size` must be a whole number of at least 1"),
        ({"shard": (3, 3)}, r"must be \(i, n\) with 0 <= i < n, for part i of n\. Received: shard=\(3, 3\)"),
        ({"shard": (0.5, 3)}, r"must be \(i, n\) with 0 <= i < n, for part i of n\. Received: shard=\(0\.5, 3\)"),
        ({"shard": 2}, r"must be \(i, n\) with 0 <= i < n, for part i of n\. Received: shard=2"),
        ({"level": 2}, r"`level` must be an index from 0 to 1"),
        ({"source": tf.data.Dataset.from_tensor_slices(PIXELS).repeat()}, r"infinite dataset: limit it with `\.take"),
        ({"source": (PIXELS, [1, 2])}, r"one label per image\. Received: 40 images, 2 labels"),
    ],
)
def test_wrong_arguments_raise_an_error_before_anything_is_written(sae, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        sae.encode_to(tmp_path / "store", **({"source": PIXELS} | arguments), verbose=0)
    assert not (tmp_path / "store").exists()


def test_numbers_as_users_write_them(sae, tmp_path):
    options = {"level": np.int64(0), "shard_size": 8.0, "workers": np.int64(1), "shard": (np.int64(1), 2.0)}
    sae.encode_to(tmp_path / "store", PIXELS, verbose=0, **options)
    store = sae.encode_to(tmp_path / "store", PIXELS, 0, shard_size=8, shard=(0, 2), verbose=0)
    assert len(store) == 24
    whole = EncodingStore(tmp_path / "store")
    np.testing.assert_allclose(whole[:], sae.encode(PIXELS, level=0.0), atol=1e-2)
    assert sum(len(batch) for batch in whole.dataset(np.float32(16))) == 40


def test_values_that_the_dtype_cannot_hold_raise_an_error(tmp_path):
    sae = Autoencoder(size=4, n_out=4, n_scalings=2)
    bias = sae.levels[0].encoder.get_layer("linear").bias
    bias.assign([0, 0, 1e5, 0])
    with pytest.raises(ValueError, match=r"beyond float16, whose largest value is 65504: use `dtype=\"float32\"`"):
        sae.encode_to(tmp_path / "half", PIXELS, verbose=0)
    assert len(sae.encode_to(tmp_path / "full", PIXELS, dtype="float32", verbose=0)) == 40
    bias.assign([0, 0, np.nan, 0])
    with pytest.raises(ValueError, match=r"An encoding isn't finite: a weight of the encoder is broken"):
        sae.encode_to(tmp_path / "broken", PIXELS, verbose=0)


def test_a_full_disk_raises_an_error_and_what_is_whole_stays(sae, tmp_path):
    """The shard of large images is the first that doesn't fit."""
    images = [blobs(1, side=16 if index < 8 else 256, seed=index)[0] for index in range(12)]
    expected_error = pytest.raises(
        OSError, match=r"bytes can't be written\. 2 shards are complete; free disk space and call"
    )
    with files_of_at_most(4000), expected_error:
        sae.encode_to(tmp_path / "store", images, shard_size=4, verbose=0)
    assert sorted(files(tmp_path / "store")) == ["00000.npy", "00001.npy", LOG]
    store = sae.encode_to(tmp_path / "store", images, shard_size=4, verbose=0)
    whole = sae.encode_to(tmp_path / "whole", images, shard_size=4, verbose=0)
    assert files(store.path) == files(whole.path)


def test_a_second_process_raises_an_error(sae, tmp_path):
    (tmp_path / "store").mkdir()
    with only_writer(tmp_path / "store"), pytest.raises(RuntimeError, match="Another process is writing"):
        sae.encode_to(tmp_path / "store", PIXELS, verbose=0)
