import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stacked_autoencoder import Autoencoder, EncodingStore, store_writer, tiling
from stacked_autoencoder.durable import only_writer
from stacked_autoencoder.shards import LOG, MANIFEST
from stacked_autoencoder.sources import blocks
from tests.conftest import blobs, files_of_at_most
from tests.test_images import Batches

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
    encoding_of = store_writer.encoding_of

    def spying(*arguments):
        encode = encoding_of(*arguments)
        return lambda images: (look(images), encode(images))[1]

    monkeypatch.setattr(store_writer, "encoding_of", spying)


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
    monkeypatch.setattr(store_writer, "encoding_of", lambda *_: None)
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


@pytest.mark.parametrize("log", ["", "[]\n", '{"format": 1}\n{"index": 0}\n', "half a li"])
def test_a_log_that_is_no_log_is_begun_anew(sae, tmp_path, log):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / LOG).write_text(log)
    assert len(sae.encode_to(tmp_path / "store", PIXELS, verbose=0)) == 40
    assert not (tmp_path / "store" / LOG).exists()


def test_large_images_are_encoded_by_tiles(sae, tmp_path, monkeypatch):
    images = [blobs(1, side=side, seed=side)[0] for side in (16, 150, 40, 150)]
    whole = sae.encode_to(tmp_path / "whole", images, dtype="float32", verbose=0)
    monkeypatch.setattr(tiling, "PIXELS", 100 * 100)
    monkeypatch.setattr(blocks, "PIXELS", 100 * 100)
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
        (sae, changed, {}, r"another source.*shard 2 was made of others"),
        (sae, PIXELS[:30], {}, r"another source \(40 images.*shard 2 was made of others.*Received: 30 images"),
        (sae, PIXELS[:24], {}, r"another source \(40 images.*shard 2 was made of others.*Received: 24 images"),
        (
            sae,
            turned,
            {},
            r"come in another order: shard 0.*a dataset of",
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
        ({"dtype": "int8"}, r"`dtype` must be one of float16, float32\. Received: dtype='int8'"),
        ({"workers": 0}, r"`workers` must be a whole number of at least 1"),
        ({"shard_size": 0}, r"`shard_size` must be a whole number of at least 1"),
        ({"shard": (3, 3)}, r"the i-th of n parts, 0 <= i < n\. Received: shard=\(3, 3\)"),
        ({"level": 2}, r"`level` must be an index from 0 to 1"),
        ({"source": tf.data.Dataset.from_tensor_slices(PIXELS).repeat()}, r"without end; give it one with `\.take"),
        ({"source": (PIXELS, [1, 2])}, r"one label per image\. Received: 40 images, 2 labels"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(sae, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        sae.encode_to(tmp_path / "store", **({"source": PIXELS} | arguments), verbose=0)
    assert not (tmp_path / "store").exists()


def test_values_that_the_dtype_cannot_hold_are_told(tmp_path):
    sae = Autoencoder(size=4, n_out=4, n_scalings=2)
    bias = sae.levels[0].encoder.get_layer("linear").bias
    bias.assign([0, 0, 1e5, 0])
    with pytest.raises(ValueError, match=r"beyond float16, whose largest value is 65504: use `dtype=\"float32\"`"):
        sae.encode_to(tmp_path / "half", PIXELS, verbose=0)
    assert len(sae.encode_to(tmp_path / "full", PIXELS, dtype="float32", verbose=0)) == 40
    bias.assign([0, 0, np.nan, 0])
    with pytest.raises(ValueError, match=r"An encoding isn't finite: a weight of the encoder is broken"):
        sae.encode_to(tmp_path / "broken", PIXELS, verbose=0)


def test_a_full_disk_is_told_and_what_is_whole_stays(sae, tmp_path):
    """The shard of large images is the first that doesn't fit."""
    images = [blobs(1, side=16 if index < 8 else 256, seed=index)[0] for index in range(12)]
    expected_error = pytest.raises(OSError, match=r"bytes can't be written\. 2 shards are whole; make room and call")
    with files_of_at_most(4000), expected_error:
        sae.encode_to(tmp_path / "store", images, shard_size=4, verbose=0)
    assert sorted(files(tmp_path / "store")) == ["00000.npy", "00001.npy", LOG]
    store = sae.encode_to(tmp_path / "store", images, shard_size=4, verbose=0)
    whole = sae.encode_to(tmp_path / "whole", images, shard_size=4, verbose=0)
    assert files(store.path) == files(whole.path)


def test_a_second_process_is_told(sae, tmp_path):
    (tmp_path / "store").mkdir()
    with only_writer(tmp_path / "store"), pytest.raises(RuntimeError, match="Another process is writing"):
        sae.encode_to(tmp_path / "store", PIXELS, verbose=0)
