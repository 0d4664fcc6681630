import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import EncodingStore
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.store import shards
from stacked_autoencoder.store.manifest import LOG, MANIFEST
from tests.conftest import blobs


@pytest.fixture(scope="module")
def written(sae, tmp_path_factory):
    """A store of 50 labelled images in shards of 16, and its encodings."""
    images = blobs(50, seed=2)
    path = tmp_path_factory.mktemp("written") / "store"
    store = sae.encode_to(path, (images, np.arange(50) % 7), shard_size=16, dtype="float32", verbose=0)
    return store, sae.encode(images)


@pytest.fixture(scope="module")
def mixed(sae, tmp_path_factory):
    """A store of images of three sizes, and its encodings."""
    images = [blobs(1, side=side, seed=index)[0] for index, side in enumerate([16, 24, 16, 32, 24, 16, 16, 24])]
    path = tmp_path_factory.mktemp("mixed") / "store"
    return sae.encode_to(path, images, shard_size=3, dtype="float32", verbose=0), sae.encode(images)


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    """But for the last bit: on some processors it depends on how many images are encoded at once."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


KEYS = [
    0,
    -1,
    np.int64(17),
    slice(None),
    slice(10, 40, 3),
    slice(30, 5, -4),
    slice(5, 5),
    [3, 1, 2, 2],
    np.array([49, 0, 16]),
    np.arange(50) % 3 == 0,
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_store_is_indexed_like_an_array(written, key):
    store, expected = written
    assert_same(store[key], expected[key])
    assert store[key].dtype == np.float32


def test_a_store_says_what_it_holds(written, sae):
    store, expected = written
    assert (len(store), store.shape, store.dtype, store.level) == (50, (50, 4, 4, 4), np.float32, 0)
    assert store.encoder == sae.stack.fingerprint(0)
    assert store.names is None
    np.testing.assert_array_equal(store.labels, np.arange(50) % 7)
    np.testing.assert_allclose(store.mean, expected.mean(axis=(0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(store.std, expected.std(axis=(0, 1, 2)), rtol=1e-5)
    assert_same(np.asarray(store), expected)
    store.verify()
    with pytest.raises(IndexError):
        store[50]


def test_a_store_of_several_sizes_returns_lists(mixed):
    store, expected = mixed
    assert store.shape == (8, None, None, 4)
    for actual, one in zip(store[:], expected, strict=True):
        assert_same(actual, one)
    assert_same(store[3], expected[3])
    values = np.concatenate([encoding.reshape(-1, 4) for encoding in expected])
    np.testing.assert_allclose(store.mean, values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(store.std, values.std(axis=0), rtol=1e-5)
    with pytest.raises(
        ValueError,
        match=r"cannot be one array: read them as a list, `store\[:\]`.*Received: shape=\(8, None, None, 4\)",
    ):
        np.asarray(store)


def test_the_dataset_in_order_has_all_encodings_with_their_labels(written):
    store, expected = written
    dataset = store.dataset(16)
    assert int(dataset.cardinality()) == 4
    batches = list(dataset.as_numpy_iterator())
    assert_same(np.concatenate([batch for batch, _ in batches]), expected)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), store.labels)


def test_the_dataset_keeps_the_leading_features(written, sae):
    store, expected = written
    batches = [batch for batch, _ in store.dataset(16, n_out=2).as_numpy_iterator()]
    assert_same(np.concatenate(batches), expected[..., :2])
    assert sae.decode(batches[0], level=store.level).shape[0] == 16
    for n_out in (0, expected.shape[-1] + 1, "2"):
        with pytest.raises(ValueError, match=r"`n_out` must be .*Received: n_out="):
            store.dataset(16, n_out=n_out)


def test_a_shuffled_epoch_is_a_function_of_the_seed_and_its_number(written):
    store, expected = written

    def epoch(dataset):
        batches = list(dataset.take(4).as_numpy_iterator())
        return np.concatenate([batch for batch, _ in batches]), np.concatenate([labels for _, labels in batches])

    dataset = store.dataset(16, shuffle=True, seed=5)
    first, second = epoch(dataset), epoch(dataset)
    again = store.dataset(16, shuffle=True, seed=5)
    np.testing.assert_array_equal(epoch(again)[0], first[0])
    np.testing.assert_array_equal(epoch(again)[0], second[0])
    assert not np.array_equal(first[0], second[0])
    assert not np.array_equal(epoch(store.dataset(16, shuffle=True, seed=6))[0], first[0])
    order = [int(np.argmin(np.abs(expected - row).sum(axis=(1, 2, 3)))) for row in first[0]]
    assert sorted(order) == list(range(50))
    assert max(order[:16]) > 32  # over the whole store, not within a shard
    np.testing.assert_array_equal(first[1], store.labels[order])
    endless = store.dataset(16, shuffle=True, seed=5, repeat=True)
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    batches = [batch for batch, _ in endless.take(8).as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate([first[0], second[0]]))


@pytest.mark.parametrize("shuffle", [False, True])
def test_where_sizes_differ_batches_hold_one_size(mixed, shuffle):
    store, expected = mixed
    batches = list(store.dataset(3, shuffle=shuffle).as_numpy_iterator())
    assert sorted(batch.shape[:2] for batch in batches) == [(1, 4), (1, 8), (3, 4), (3, 6)]
    assert len(batches) == int(store.dataset(3).cardinality())
    sums = sorted(float(encoding.sum()) for batch in batches for encoding in batch)
    np.testing.assert_allclose(sums, sorted(float(encoding.sum()) for encoding in expected), rtol=1e-5)


def test_a_model_trains_on_a_store(written):
    store, _ = written
    model = keras.Sequential([keras.Input(store.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(7)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(store.dataset(16, shuffle=True), epochs=5, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_neighbouring_rows_are_read_at_once(written, monkeypatch):
    store, expected = written
    reads, preadv = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda *arguments: (reads.append(arguments), preadv(*arguments))[1])
    assert_same(store[:], expected)
    assert len(reads) == len(store.shards)
    reads.clear()
    assert_same(store[[3, 40, 4, 5]], expected[[3, 40, 4, 5]])
    assert len(reads) == 3


def test_incomplete_reads_are_continued(written, mixed, monkeypatch):
    preadv = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda file, buffers, offset: preadv(file, [memoryview(buffers[0])[:100]], offset)
    )
    assert_same(written[0][5:40], written[1][5:40])
    for actual, one in zip(mixed[0][:], mixed[1], strict=True):
        assert_same(actual, one)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda store: pickle.loads(pickle.dumps(store))])
def test_a_store_can_be_copied_and_pickled_before_and_after_it_is_read(written, again):
    store, expected = written
    opened = EncodingStore(store.path)
    assert_same(again(opened)[3], expected[3])
    opened[:]
    assert len(pickle.dumps(opened)) < 1000
    assert_same(again(opened)[3], expected[3])
    assert again(opened).path == opened.path


def test_a_store_with_a_relative_path_can_be_read_from_another_folder(written, tmp_path, monkeypatch):
    store, expected = written
    monkeypatch.chdir(store.path.parent)
    content = pickle.dumps(EncodingStore(store.path.name))
    monkeypatch.chdir(tmp_path)
    assert_same(pickle.loads(content)[3], expected[3])


def test_a_pickled_store_that_was_written_anew_is_refused(sae, copied):
    content = pickle.dumps(EncodingStore(copied))
    shutil.rmtree(copied)
    sae.encode_to(copied, blobs(40, seed=9), shard_size=16, verbose=0)
    with pytest.raises(
        ValueError, match=r"rewritten since it was pickled or copied: open it again with `EncodingStore\(path\)`"
    ):
        pickle.loads(content)


def test_threads_read_at_the_same_time(written, monkeypatch):
    store, expected = written
    monkeypatch.setattr(shards, "MOST_OPEN", 2)  # of 4 shards, so that they let go of each other's files
    orders = [np.random.default_rng(seed).permutation(50) for seed in range(200)]
    with ThreadPoolExecutor(8) as threads:
        for order, rows in zip(orders, threads.map(store.__getitem__, orders), strict=True):
            assert_same(rows, expected[order])


MANY = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
import numpy as np
from stacked_autoencoder import EncodingStore
stores = [EncodingStore(sys.argv[1]) for _ in range(4)]
for store in stores:
    for order in (np.arange(1100), np.random.default_rng(0).permutation(1100)):
        np.testing.assert_array_equal(store[order][:, 0, 0, 0], order % 11)
    print(sum("encodings" in str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()))
"""


@pytest.mark.slow
def test_a_store_of_more_shards_than_files_may_be_open(sae, tmp_path):
    """Every shard of one row holds its index modulo 11."""
    store = sae.encode_to(tmp_path / "encodings", blobs(11), shard_size=1, verbose=0)
    manifest = json.loads((store.path / MANIFEST).read_text())
    shard = np.load(store.path / "00000.npy")
    manifest["shards"] = [manifest["shards"][0] | {"index": index} for index in range(1100)]
    for index in range(1100):
        np.save(store.path / f"{index:05d}.npy", np.full_like(shard, index % 11))
    (store.path / MANIFEST).write_text(json.dumps(manifest))
    program = [sys.executable, "-c", MANY, str(store.path)]
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [*map(int, done.stdout.split())] <= [64] * 4


def test_an_empty_store_ends_and_does_not_repeat(sae, tmp_path):
    for part in range(3):
        store = sae.encode_to(tmp_path / "store", blobs(20), shard_size=10, shard=(part, 3), verbose=0)
    assert len(store) == 0
    assert list(store.dataset(4)) == []
    assert store[:].shape == (0, 4, 4, 4)
    with pytest.raises(ValueError, match=r"`repeat=True` needs at least one encoding, but this store is empty"):
        store.dataset(4, repeat=True)
    for size in (0, -1, 2.5):
        with pytest.raises(ValueError, match=r"`batch_size` must be a whole number of at least 1\. Received"):
            EncodingStore(tmp_path / "store").dataset(size, repeat=True)


# === What can be wrong ===


@pytest.fixture
def copied(sae, tmp_path):
    return sae.encode_to(tmp_path / "store", blobs(40, seed=2), shard_size=16, verbose=0).path


def test_a_missing_and_an_unfinished_store_are_reported(tmp_path, copied):
    with pytest.raises(FileNotFoundError, match=r"no store of encodings here: pass the folder.*Received: '.*nowhere'"):
        EncodingStore(tmp_path / "nowhere")
    (copied / MANIFEST).rename(copied / LOG)
    with pytest.raises(ValueError, match=r"isn't finished: call `encode_to` with the same source"):
        EncodingStore(copied)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"format": 1, "shards": []}', '{"format": "new"}'])
def test_an_invalid_manifest_is_an_error(copied, damage):
    (copied / MANIFEST).write_text(damage)
    with pytest.raises(
        ValueError, match=r"manifest\.json isn't one that `encode_to` wrote.*and encode again\. Received"
    ):
        EncodingStore(copied)


def test_a_newer_format_says_to_upgrade(copied):
    (copied / MANIFEST).write_text(json.dumps(json.loads((copied / MANIFEST).read_text()) | {"format": 99}))
    with pytest.raises(ValueError, match=r"format 99.*pip install --upgrade stacked_autoencoder"):
        EncodingStore(copied)


def test_verify_names_every_damaged_shard(copied):
    store, shard = EncodingStore(copied), copied / "00001.npy"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"00001\.npy of 3 shards damaged or missing: call `encode_to`"):
        EncodingStore(copied).verify()
    (copied / "00002.npy").unlink()
    with pytest.raises(ValueError, match=r"00001\.npy, 00002\.npy of 3 shards damaged or missing: call `encode_to`"):
        store.verify()


def link_to_itself(shard):
    shard.rename(shard.with_name("moved"))
    shard.symlink_to("moved")


def pipe(shard):
    shard.unlink()
    os.mkfifo(shard)


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def longer(shard):
    with shard.open("ab") as stream:
        stream.write(b"\0")


DAMAGES = {
    "missing": (Path.unlink, "is missing"),
    "a pipe": (pipe, "isn't read: it is a named pipe, not a regular file"),
    "a folder": (lambda shard: (shard.unlink(), shard.mkdir()), "isn't read: it is a directory"),
    "a link": (link_to_itself, "isn't read: it is a link"),
    "a device": (lambda shard: (shard.unlink(), shard.symlink_to("/dev/zero")), "isn't read: it is a link"),
    "cut short": (lambda shard: os.truncate(shard, 1000), r"has 1,000 bytes, but the manifest says 2,176"),
    "longer": (longer, r"has 2,177 bytes, but the manifest says 2,176"),
    "sparse": (lambda shard: os.truncate(shard, 1 << 40), r"has 1,099,511,627,776 bytes, but"),
    "empty": (lambda shard: shard.write_bytes(b""), "isn't a .npy file of float16"),
    "another": (
        lambda shard: shutil.copy(shard.with_name("00002.npy"), shard),
        r"holds an array of shape \(8, 4, 4, 4\)",
    ),
    "float32": (
        lambda shard: np.save(shard, np.zeros((16, 4, 4, 4), np.float32)),
        r"holds.*float32, but.*\), float16",
    ),
    "Fortran": (lambda shard: np.save(shard, np.zeros((16, 4, 4, 4), np.float16, "F")), "isn't a .npy file"),
    "objects": (
        lambda shard: np.save(shard, np.array([print], dtype=object), allow_pickle=True),
        "isn't a .npy file of float16",
    ),
    "nested": (lambda shard: shard.write_bytes(header(b"(" * 60_000)), "isn't a .npy file of float16"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_reported_at_once_and_encoding_again_repairs_it(sae, copied, damage):
    change, message = DAMAGES[damage]
    before = EncodingStore(copied)[:]
    change(copied / "00000.npy")
    message = rf"1 of 3 shards can't be used\. 00000\.npy {message}.*damaged: call `encode_to` with the same source"
    with pytest.raises(ValueError, match=message):
        EncodingStore(copied)
    if damage == "a folder":  # what isn't a file isn't replaced
        with pytest.raises(ValueError, match=r"00000\.npy isn't a file that .*Move it elsewhere and call `encode_to`"):
            sae.encode_to(copied, blobs(40, seed=2), shard_size=16, verbose=0)
        (copied / "00000.npy").rename(copied / "mine")
    store = sae.encode_to(copied, blobs(40, seed=2), shard_size=16, verbose=0)
    np.testing.assert_array_equal(store[:], before)
    store.verify()


def test_a_shard_of_another_shape_is_reported(copied):
    np.save(copied / "00000.npy", np.zeros((16, 4, 4, 5), np.float16))
    with pytest.raises(ValueError, match=r"00000\.npy holds an array of shape \(16, 4, 4, 5\).*\(16, 4, 4, 4\)"):
        EncodingStore(copied)


def test_headers_that_another_version_of_numpy_pads_otherwise_are_read(copied):
    expected = EncodingStore(copied)[:]
    text = b"{'descr': '<f2', 'fortran_order': False, 'shape': (16, 4, 4, 4), }\n"
    content = (copied / "00000.npy").read_bytes()
    (copied / "00000.npy").write_bytes(header(text) + content[128:])
    np.testing.assert_array_equal(EncodingStore(copied)[:], expected)


# === A store that changes while it is open ===


CHANGED = (
    r"A shard has changed since this store was opened: open it again with `EncodingStore\(path\)`\. Received: '.*'"
)


@pytest.mark.parametrize("is_read", [False, True])
def test_a_file_that_is_cut_short_while_it_is_open_is_reported(copied, is_read):
    """As a memory map it would end the process."""
    store = EncodingStore(copied)
    if is_read:
        store[:]
    os.truncate(copied / "00001.npy", 500)
    with pytest.raises(ValueError, match=CHANGED):
        store[20]
    with pytest.raises(ValueError, match=CHANGED):
        list(StoreSource(store, (None, None, 4)).batches(8))  # in our words, not TensorFlow's
    assert store[3].shape == (4, 4, 4)


@pytest.mark.parametrize("how", ["replaced", "written over", "removed"])
def test_rows_of_another_encoding_are_never_returned(sae, copied, tmp_path, how):
    store = EncodingStore(copied)
    other = sae.encode_to(tmp_path / "other", blobs(40, seed=5), shard_size=16, verbose=0)
    for shard in store.shards:
        if how == "replaced":
            os.replace(other.path / shard.file.name, shard.file)
        elif how == "written over":
            shard.file.write_bytes((other.path / shard.file.name).read_bytes())
        else:
            shard.file.unlink()
    with pytest.raises(ValueError, match=CHANGED):
        store[0]
    with pytest.raises(ValueError, match=CHANGED):
        store.batch(np.arange(40))


def test_a_store_that_was_read_keeps_its_encodings_or_says_that_they_are_gone(sae, copied):
    store = EncodingStore(copied)
    before = store[:]
    shutil.rmtree(copied)
    sae.encode_to(copied, blobs(40, seed=5), shard_size=16, verbose=0)
    np.testing.assert_array_equal(store[:], before)  # its files are still open


def test_a_manifest_that_changes_while_a_store_is_opened_is_reported(copied, monkeypatch):
    check, manifest = EncodingStore._check_shards, copied / MANIFEST

    def rewriting(store):
        check(store)
        manifest.rename(copied / "old")
        manifest.write_text((copied / "old").read_text())

    monkeypatch.setattr(EncodingStore, "_check_shards", rewriting)
    with pytest.raises(ValueError, match=r"A process is writing to this store: open it when `encode_to` has returned"):
        EncodingStore(copied)
    monkeypatch.undo()
    assert len(EncodingStore(copied)) == 40  # opened again, as the message advises


# === Manifests by others ===


def changed(**changes):
    return lambda manifest: manifest | changes


def shard(**changes):
    """Of the first shard; `None` takes a value away."""

    def change(manifest):
        first = {name: value for name, value in (manifest["shards"][0] | changes).items() if value is not None}
        return manifest | {"shards": [first, *manifest["shards"][1:]]}

    return change


def every_shard(changes):
    return lambda manifest: manifest | {"shards": [each | changes(each) for each in manifest["shards"]]}


HOSTILE = {
    "true as format": changed(format=True),
    "format 0": changed(format=0),
    "format as float": changed(format=1.0),
    "encoder": changed(encoder=5),
    "dtype of objects": changed(dtype="O"),
    "dtype as list": changed(dtype=["float16"]),
    "level": changed(level=-1),
    "true as level": changed(level=True),
    "multiple": changed(multiple=0),
    "huge multiple": changed(multiple=10**300),
    "shard size": changed(shard_size="16"),
    "shape": changed(shape=4),
    "side of 0": changed(shape=[0, 4, 4]),
    "side of text": changed(shape=[4, "4", 4]),
    "open channels": changed(shape=[4, 4, None]),
    "no sides": changed(shape=[]),
    "another shape": changed(shape=[4, 5, 4]),
    "many sides": changed(shape=[1] * 100),
    "part": changed(part=[2, 2]),
    "part as text": changed(part="01"),
    "part as an object": changed(part={}),
    "source": changed(source=None),
    "shards": changed(shards={}),
    "shards of lists": changed(shards=[[]]),
    "a shard twice": lambda manifest: manifest | {"shards": manifest["shards"] * 2},
    "index": shard(index=-1),
    "index as float": shard(index=0.5),
    "index with a path": shard(index="../x"),
    "no rows": shard(rows=0),
    "fewer rows": shard(rows=15),
    "many rows": shard(rows=10**9),
    "huge rows": shard(rows=10**400),
    "infinite rows": shard(rows=float("inf")),
    "shape of a shard": shard(shape=[4, 4, 4, 1]),
    "huge side": shard(shape=[10**30, 4, 4]),
    "open sides without sizes": shard(shape=[None, None, 4]),
    "sizes of text": shard(shape=[None, None, 4], sizes="4" * 16),
    "sizes of 0": shard(shape=[None, None, 4], sizes=[[0, 4]] * 16),
    "sizes below 0": shard(shape=[None, None, 4], sizes=[[-4, -4]] * 16),
    "sizes of three": shard(shape=[None, None, 4], sizes=[[4, 4, 1]] * 16),
    "values": shard(values=1),
    "sum": shard(sum=[0.0] * 3),
    "sum of text": shard(sum=["0"] * 4),
    "NaN": shard(sum=[float("nan")] * 4),
    "infinity": shard(squares=[float("inf")] * 4),
    "huge sum": shard(squares=[10**400] * 4),
    "sums that float16 can't have": shard(squares=[1e300] * 4),
    "checksum": shard(sha256="../../etc/passwd"),
    "fingerprint": shard(source=3),
    "names": shard(names=["a"] * 15),
    "names of numbers": shard(names=[1] * 16),
    "names of some": shard(names=["a"] * 16),
    "labels": shard(labels=5),
    "labels of objects": shard(labels=[{}] * 16),
    "ragged labels": shard(labels=[[1], [1, 2]] * 8),
    "deeply ragged labels": shard(labels=[[1], [[2]]] * 8),
    "labels of null": shard(labels=[None] * 16),
    "huge labels": shard(labels=[10**30] * 16),
    "labels of two kinds": shard(labels=["1", 1] * 8),
    "a long label": shard(labels=["a" * 10**6] + ["b"] * 15),
    "labels of some": shard(labels=[1] * 16),
    "named labels of some": shard(named_labels={"age": [1] * 16}),
    "named labels in a list": shard(named_labels=[1] * 16),
    "no named labels": every_shard(lambda each: {"named_labels": {}}),
    "named labels of objects": every_shard(lambda each: {"named_labels": {"age": [{}] * each["rows"]}}),
    "fewer named labels": every_shard(lambda each: {"named_labels": {"age": [1] * (each["rows"] - 1)}}),
    "ragged named labels": every_shard(lambda each: {"named_labels": {"age": [[1], [1, 2]] * (each["rows"] // 2)}}),
    "labels with names and without": every_shard(
        lambda each: {"labels": [1] * each["rows"], "named_labels": {"age": [1] * each["rows"]}}
    ),
    "several names of labels": every_shard(lambda each: {"named_labels": {f"{each['index']}": [1] * each["rows"]}}),
    "named labels of several kinds": every_shard(
        lambda each: {"named_labels": {"age": ["a" if each["index"] else 1] * each["rows"]}}
    ),
    "labels of several shapes": lambda manifest: (
        manifest
        | {"shards": [each | {"labels": [[0] * (1 + each["index"])] * each["rows"]} for each in manifest["shards"]]}
    ),
    "not UTF-8": lambda _: b'{"format": "\xff"}',
    "nested": lambda _: b"[" * 10**6,
    "nested objects": lambda _: b'{"a":' * 10**6,
    "a huge number": lambda _: b'{"format": 1' + b"0" * 10**6 + b"}",
    "not finished": lambda manifest: json.dumps(manifest).encode()[:-1],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_manifest_is_checked_in_full(copied, kind):
    manifest = HOSTILE[kind](json.loads((copied / MANIFEST).read_text()))
    content = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (copied / MANIFEST).write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json isn't one that `encode_to` wrote: .*Received: '.*json'"):
        EncodingStore(copied)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "huge", "link to nothing"])
def test_a_manifest_that_is_no_file_is_not_read(copied, kind):
    file = copied / MANIFEST
    if kind == "huge":
        os.truncate(file, 1 << 40)
    else:
        file.unlink()
        links = {"device": "/dev/zero", "link to nothing": "nothing"}
        {"pipe": os.mkfifo, "folder": os.mkdir}.get(kind, lambda file: os.symlink(links[kind], file))(file)
    words = "isn't one that `encode_to` wrote|no store of encodings here"
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        EncodingStore(copied)


def test_a_damaged_manifest_says_how_to_mend_it(sae, copied):
    (copied / MANIFEST).write_text("{")
    for attempt in (EncodingStore, lambda path: sae.encode_to(path, blobs(40, seed=2), shard_size=16, verbose=0)):
        with pytest.raises(ValueError, match=r"Copy the store again, or delete this folder and encode again"):
            attempt(copied)
    shutil.rmtree(copied)
    assert len(sae.encode_to(copied, blobs(40, seed=2), shard_size=16, verbose=0)) == 40


def test_huge_numbers_of_parts_and_other_stores_are_errors(copied, tmp_path):
    for index, part in enumerate(([0, 10**9], None)):
        folder = tmp_path / f"parts{index}" / "part0"
        shutil.copytree(copied, folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(manifest | {"part": part}))
    message = r"part1-of-1000000000, part2-.*, part3-.* and 999,999,996 more missing or not finished"
    with pytest.raises(FileNotFoundError, match=message):
        EncodingStore(tmp_path / "parts0")
    with pytest.raises(
        ValueError, match=r"several stores that are not all parts of one store: open each by its own path"
    ):
        EncodingStore(tmp_path / "parts1")


def test_the_same_part_twice_is_reported(sae, tmp_path):
    sae.encode_to(tmp_path, blobs(20), shard_size=10, shard=(0, 1), verbose=0)
    shutil.copytree(tmp_path / "part0-of-1", tmp_path / "part-again")
    with pytest.raises(ValueError, match=r"Two parts of this store hold shard 0: move one of them"):
        EncodingStore(tmp_path)


def test_parts_of_which_only_some_have_labels_are_reported(sae, tmp_path):
    images = blobs(20)
    sae.encode_to(tmp_path, images, shard_size=10, shard=(0, 2), verbose=0)
    sae.encode_to(tmp_path, (images, np.arange(20)), shard_size=10, shard=(1, 2), verbose=0)
    with pytest.raises(ValueError, match=r"made alike, and only some of these have `labels`"):
        EncodingStore(tmp_path)


def test_parts_whose_labels_have_other_names_are_reported(sae, tmp_path):
    images = blobs(20)
    for index, name in enumerate(["age", "kind"]):
        labelled = (images, {name: np.arange(20)})
        sae.encode_to(tmp_path, labelled, shard_size=10, shard=(index, 2), verbose=0)
    with pytest.raises(ValueError, match=r"the names of their labels differ\..* Received: .*'age'.* and .*'kind'"):
        EncodingStore(tmp_path)


def test_what_a_manifest_says_is_shown_without_terminal_escapes(sae, copied):
    manifest = json.loads((copied / MANIFEST).read_text())
    (copied / MANIFEST).write_text(json.dumps(manifest | {"source": "\x1b[2J", "encoder": "\x1b]0;x\x07" * 9}))
    with pytest.raises(ValueError, match="another encoder") as caught:
        sae.encode_to(copied, blobs(40, seed=2), shard_size=16, verbose=0)
    assert "\x1b" not in str(caught.value)


# === A store shows itself ===


def test_repr_is_a_table_of_properties(written, mixed, copied):
    store = written[0]
    size = sum(file.stat().st_size for file in store.path.glob("*.npy"))
    assert repr(store).splitlines() == [
        f"EncodingStore({str(store.path)!r})",
        "  encodings     50",
        "  shape         (4, 4, 4)",
        "  dtype         float32",
        f"  size on disk  {size / 1e3:,.1f} kB",
        "  level         0",
        "  labels        int64",
    ]
    assert "  shape         (None, None, 4)\n" in repr(mixed[0])
    assert "  labels        none" in repr(EncodingStore(copied))
    assert str(store) == repr(store)


def test_notebooks_show_the_same_table_in_html(written):
    store = written[0]
    page = store._repr_html_()
    assert page.startswith("<table>")
    assert page.endswith("</table>")
    for line in repr(store).splitlines()[1:]:
        name, value = line.strip().split("  ", 1)
        assert f">{name}</th>" in page
        assert f">{value.strip()}</td>" in page


LABELS = {
    "text": (np.array(["a", "b"] * 4), "text"),
    "two values": (np.zeros((8, 2), np.float32), "float64 of shape (2,)"),
    "several": ({"age": np.arange(8), "kind": np.array(["a"] * 8)}, "age (int64), kind (text)"),
    "escapes": ({"<b>\x1b[2J": np.arange(8)}, "<b>\\x1b[2J (int64)"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_described_in_one_line(sae, tmp_path, kind):
    labels, expected = LABELS[kind]
    store = sae.encode_to(tmp_path / "<i>", (blobs(8), labels), verbose=0)
    assert repr(store).endswith(f"  labels        {expected}")
    assert "<i>" not in store._repr_html_()
    assert "<b>" not in store._repr_html_()


def test_classes_are_named_and_large_stores_have_megabytes(sae, copied):
    manifest = json.loads((copied / MANIFEST).read_text())
    for record in manifest["shards"]:
        record["labels"] = [0] * record["rows"]
    (copied / MANIFEST).write_text(json.dumps(manifest | {"class_names": ["cats", "dogs", "fish", "owls"]}))
    store = EncodingStore(copied)
    assert repr(store).endswith("  labels        int64, 4 classes: cats, dogs, fish and 1 more")
    shard = store.shards[0]
    shard.mark = (*shard.mark[:2], 1_234_567_890, shard.mark[3])
    assert "  size on disk  1,234.6 MB\n" in repr(store)
