import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, EncodingStore
from stacked_autoencoder.shards import LOG, MANIFEST
from tests.conftest import blobs


@pytest.fixture(scope="module")
def sae():
    keras.utils.set_random_seed(0)
    sae = Autoencoder(size=4, n_out=4, n_scalings=2)
    sae.train(blobs(32), epochs=0, verbose=0)
    return sae


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


def assert_same(ours: np.ndarray, expected: np.ndarray) -> None:
    """But for the last bit: on some processors it depends on how many images are encoded at once."""
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


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
    assert store.encoder == sae.fingerprint(0)
    assert store.names is None
    np.testing.assert_array_equal(store.labels, np.arange(50) % 7)
    np.testing.assert_allclose(store.mean, expected.mean(axis=(0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(store.std, expected.std(axis=(0, 1, 2)), rtol=1e-5)
    assert_same(np.asarray(store), expected)
    store.verify()
    with pytest.raises(IndexError):
        store[50]


def test_a_store_of_several_sizes_gives_lists(mixed):
    store, expected = mixed
    assert store.shape == (8, None, None, 4)
    for ours, theirs in zip(store[:], expected, strict=True):
        assert_same(ours, theirs)
    assert_same(store[3], expected[3])
    values = np.concatenate([encoding.reshape(-1, 4) for encoding in expected])
    np.testing.assert_allclose(store.mean, values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(store.std, values.std(axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match=r"differ in size: take a list.*Received: shape=\(8, None, None, 4\)"):
        np.asarray(store)


def test_the_dataset_in_order_has_all_encodings_with_their_labels(written):
    store, expected = written
    dataset = store.dataset(16)
    assert int(dataset.cardinality()) == 4
    batches = list(dataset.as_numpy_iterator())
    assert_same(np.concatenate([batch for batch, _ in batches]), expected)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), store.labels)


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


def kilobytes_mapped(folder):
    """Of the files in a folder, what this process has in memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = str(folder) in line
        elif line.startswith("Rss:") and inside:
            total += int(line.split()[1])
    return total


def test_reading_gives_mapped_pages_back(written):
    store, expected = written
    assert_same(store[:], expected)
    assert all("_values" in vars(shard) for shard in store.shards)  # still mapped
    assert kilobytes_mapped(store.path) == 0
    assert float(store.shards[0].row(0).sum()) == pytest.approx(float(expected[0].sum()))
    assert kilobytes_mapped(store.path) > 0
    assert_same(store[0], expected[0])


# === What can be wrong ===


@pytest.fixture
def copied(sae, tmp_path):
    return sae.encode_to(tmp_path / "store", blobs(40, seed=2), shard_size=16, verbose=0).path


def test_a_missing_and_an_unfinished_store_are_told(tmp_path, copied):
    with pytest.raises(FileNotFoundError, match=r"no store of encodings here\. Received: '.*nowhere'"):
        EncodingStore(tmp_path / "nowhere")
    (copied / MANIFEST).rename(copied / LOG)
    with pytest.raises(ValueError, match=r"isn't finished: call `encode_to` with the same source"):
        EncodingStore(copied)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"format": 1, "shards": []}', '{"format": "new"}'])
def test_a_manifest_that_is_no_manifest_is_told(copied, damage):
    (copied / MANIFEST).write_text(damage)
    with pytest.raises(ValueError, match=r"manifest\.json isn't one that `encode_to` wrote.*or encode anew\. Received"):
        EncodingStore(copied)


def test_a_newer_format_says_to_upgrade(copied):
    (copied / MANIFEST).write_text(json.dumps(json.loads((copied / MANIFEST).read_text()) | {"format": 99}))
    with pytest.raises(ValueError, match=r"format 99.*pip install --upgrade stacked_autoencoder"):
        EncodingStore(copied)


def test_verify_names_every_damaged_shard(copied):
    shard = copied / "00001.npy"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    (copied / "00002.npy").unlink()
    with pytest.raises(ValueError, match=r"00001\.npy, 00002\.npy of 3 shards damaged or missing: call `encode_to`"):
        EncodingStore(copied).verify()


def test_a_shard_of_another_shape_is_told_and_one_with_code_in_it_does_not_run(copied):
    np.save(copied / "00000.npy", np.zeros((16, 4, 4, 5), np.float16))
    with pytest.raises(ValueError, match=r"00000\.npy holds an array of shape \(16, 4, 4, 5\).*\(16, 4, 4, 4\)"):
        EncodingStore(copied)[0]
    np.save(copied / "00000.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"can't be memory-mapped: Python objects"):
        EncodingStore(copied)[0]
