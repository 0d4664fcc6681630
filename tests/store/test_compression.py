import json
import os
import pickle
import re
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
import zstandard

from stacked_autoencoder import Autoencoder, DenseLevel, EncodingStore, SequenceLevel
from stacked_autoencoder.store import compression
from stacked_autoencoder.store.compression import (
    FRAME_VALUES,
    LARGEST_NUMBER,
    DamagedFrame,
    FrameCache,
    compressed,
    decompressed,
    quantised,
    restored,
)
from stacked_autoencoder.store.manifest import MANIFEST
from tests.conftest import blobs, waves


@pytest.mark.parametrize("shape", [(3, 2, 5), (1, 7), (4,), (90, 90, 2), (2, 5000)])
@pytest.mark.parametrize("largest", [0, 1, 127, 128, 255, 256, 32_767, 32_768, 65_536, LARGEST_NUMBER])
def test_numbers_are_restored_exactly(shape, largest):
    rng = np.random.default_rng(0)
    pieces = [rng.integers(-largest, largest + 1, (rows, *shape), np.int32) for rows in (1, 12)]
    pieces[1].flat[:2] = -largest, largest
    contents, frames = compressed(pieces)
    assert sum(frame.rows for frame in frames) == 13
    assert [frame.size for frame in frames] == [*map(len, contents)]
    values, channels = int(np.prod(shape)), shape[-1]
    assert all(frame.rows == 1 or frame.rows * values <= FRAME_VALUES for frame in frames)
    numbers = [decompressed(*each, each[1].rows * values, channels) for each in zip(contents, frames, strict=True)]
    np.testing.assert_array_equal(np.concatenate(numbers).reshape(13, *shape), np.concatenate(pieces))
    assert all(zstandard.decompress(content) for content in contents)  # files that other programs can read


def test_rows_of_different_sizes_share_frames():
    pieces = [np.arange(rows * side * 2, dtype=np.int32).reshape(rows, side, 2) for rows, side in ((2, 3), (3, 5))]
    (content,), (frame,) = compressed(pieces)
    assert frame.rows == 5
    expected = np.concatenate([piece.reshape(-1, 2) for piece in pieces])
    np.testing.assert_array_equal(decompressed(content, frame, expected.size, 2), expected)


def test_channels_of_small_variance_need_few_bytes():
    numbers = np.rint(np.random.default_rng(0).normal(size=(64, 8, 8, 32)) * [60] * 1 ** np.arange(32)).astype(np.int32)
    spread = np.rint(np.random.default_rng(0).normal(size=(64, 8, 8, 32)) * 60 * 0.8 ** np.arange(32)).astype(np.int32)
    probability = [np.unique(spread[..., channel], return_counts=True)[1] / 4096 for channel in range(32)]
    entropy = sum(-np.sum(each * np.log2(each)) * 4096 / 8 for each in probability)
    size = sum(map(len, compressed([spread])[0]))
    assert entropy < size < 1.12 * entropy
    assert size < 0.6 * sum(map(len, compressed([numbers])[0]))


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("share", [0.01, 1e-5])  # the numbers are computed in float32 or in float64
def test_rounding_is_at_most_half_a_step(unit, share):
    values = (unit * np.random.default_rng(0).normal(3, [1, 10], size=(100, 4, 2))).astype(np.float32)
    center, step = values.mean(axis=(0, 1), dtype=np.float64), share * unit
    result = restored(quantised(values, center, step), center, np.array(step))
    assert result.dtype == np.float32
    assert np.abs(result - values).max() <= 0.5001 * step + 4e-7 * np.abs(values).max()


def test_a_step_that_is_too_small_for_float32_raises_an_error():
    with pytest.raises(ValueError, match=r"9,000,000 steps away from the mean.*another path.*larger `loss_budget`"):
        quantised(np.array([[9.0]]), np.zeros(1), 1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: b"PK" + content[2:],
        lambda content: content[:-6] + bytes([content[-6] ^ 1]) + content[-5:],  # the checksum notices
        lambda content: zstandard.compress(bytes(9)),
        lambda content: zstandard.compress(bytes(1 << 30)),  # 32 kB that decompress to a gigabyte
        lambda content: zstandard.ZstdCompressor(write_content_size=False).compress(bytes(8)),
    ],
    ids=["short", "empty", "other", "bit", "longer", "bomb", "unknown size"],
)
def test_a_damaged_frame_is_refused(change):
    (content,), (frame,) = compressed([np.arange(8, dtype=np.int32).reshape(2, 4)])
    decompressed(content, frame, 8, 4)
    with pytest.raises(DamagedFrame):
        decompressed(change(content), frame, 8, 4)


def test_the_cache_keeps_the_most_recent_frames():
    cache, frames = FrameCache(most=30), [np.full(10, index, np.uint8) for index in range(5)]
    for index in range(3):
        cache.add(index, frames[index])
    assert cache.get(0) is frames[0]
    cache.add(3, frames[3])
    cache.add(3, frames[4])
    assert [cache.get(index) is not None for index in range(4)] == [True, False, True, True]
    assert cache.get(3) is frames[3]
    assert cache.size == 30
    cache.clear()
    assert cache.size == 0
    assert cache.get(3) is None


SOURCES = {
    "images": lambda: blobs(50, seed=2),
    "labelled": lambda: (blobs(50, seed=2), np.arange(50) % 7),
    "mixed sizes": lambda: [blobs(1, side=side, seed=side)[0] for side in (16, 24, 16, 32, 24, 16)],
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_compressed_store_is_read_as_float32(sae, source, monkeypatch, tmp_path):
    monkeypatch.setattr(compression, "FRAME_VALUES", 320)  # several frames per shard
    store = sae.encode_to(tmp_path / "store", source(), shard_size=12, loss_budget=0.02, verbose=0)
    exact = sae.encode_to(tmp_path / "exact", source(), shard_size=12, dtype="float32", verbose=0)
    assert (store.file_dtype, store.dtype, store.shape) == (np.int32, np.float32, exact.shape)
    assert store.loss_budget == 0.02
    assert -0.01 < store.added_loss <= 0.02
    assert max(len(shard.frames) for shard in store.shards) > 1
    step = store.shards[0].record["step"]
    for key in (slice(None), [3, 0, 5, 3], slice(5, 1, -2), slice(2, 5)):
        for read, expected in zip(store[key], exact[key], strict=True):
            assert read.dtype == np.float32
            assert np.abs(read - expected).max() <= 0.51 * step
            assert (read != expected).any()
    np.testing.assert_array_equal(store[-1], store[:][-1])
    batches = store.dataset(4, shuffle=True, seed=1)
    assert sum(len(batch[0] if store.labels is not None else batch) for batch in batches) == len(exact)
    np.testing.assert_allclose(store.mean, exact.mean)
    np.testing.assert_array_equal(store.labels, exact.labels)
    assert sum(shard.bytes_on_disk for shard in store.shards) < sum(shard.bytes_on_disk for shard in exact.shards) / 2
    store.verify()
    for again in (EncodingStore(tmp_path / "store"), pickle.loads(pickle.dumps(store))):
        np.testing.assert_array_equal(again[2], store[2])
    assert "int32 compressed, read as float32" in repr(store)
    assert re.search(r"added loss +\d\.\d\d%", repr(store))
    assert sorted(path.suffix for path in (tmp_path / "store").iterdir()) == [".json", *[".zst"] * len(store.shards)]


def test_frames_that_were_dropped_from_the_cache_are_read_again(sae, monkeypatch, tmp_path):
    store = sae.encode_to(tmp_path / "store", blobs(40), shard_size=8, loss_budget=0.02, verbose=0)
    monkeypatch.setattr("stacked_autoencoder.store.shards.FRAMES", cache := FrameCache(most=1500))
    expected = store[:]
    results = {}

    def read(seed):
        order = np.random.default_rng(seed).permutation(40)
        results[seed] = np.abs(store[order] - expected[order]).max()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(4), 0.0)
    assert 0 < cache.size <= 1500


def test_a_store_is_continued_with_the_step_it_has(sae, monkeypatch, tmp_path):
    images, arguments = blobs(40, seed=3), {"shard_size": 8, "loss_budget": 0.05, "verbose": 0}
    whole = sae.encode_to(tmp_path / "whole", images, **arguments)
    expected, before = whole[:], (tmp_path / "whole" / "00002.zst").read_bytes()
    (tmp_path / "whole" / "00002.zst").unlink()
    monkeypatch.setattr(
        "stacked_autoencoder.inference.encode_to_store.find_rounding", lambda *_: pytest.fail("measured again")
    )
    again = sae.encode_to(tmp_path / "whole", images, **arguments)
    assert (tmp_path / "whole" / "00002.zst").read_bytes() == before
    np.testing.assert_array_equal(again[:], expected)
    with pytest.raises(ValueError, match=r"another `loss_budget`: 0\.05.*Received: 0\.01"):
        sae.encode_to(tmp_path / "whole", images, **arguments | {"loss_budget": 0.01})
    with pytest.raises(ValueError, match=r"another `loss_budget`: 0\.05.*Received: None"):
        sae.encode_to(tmp_path / "whole", images, shard_size=8, verbose=0)


def test_parts_have_the_same_values_as_the_whole(sae, tmp_path):
    images, arguments = blobs(40, seed=3), {"shard_size": 8, "loss_budget": 0.05, "verbose": 0}
    for index in range(2):
        sae.encode_to(tmp_path / "parts", images, shard=(index, 2), **arguments)
    store = EncodingStore(tmp_path / "parts")
    np.testing.assert_array_equal(store[:], sae.encode_to(tmp_path / "whole", images, **arguments)[:])
    assert store.added_loss <= 0.05
    sae.encode_to(tmp_path / "other", images, shard=(0, 2), **arguments)
    sae.encode_to(tmp_path / "other", images, shard=(1, 2), **arguments | {"loss_budget": 0.1})
    with pytest.raises(ValueError, match=r"these differ in `loss_budget`.*0\.05 and 0\.1"):
        EncodingStore(tmp_path / "other")


def test_vectors_and_sequences_can_be_compressed(tmp_path):
    table = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32) @ np.diag(np.arange(1.0, 13))
    sae = Autoencoder(shape=(12,), levels=[DenseLevel(6, None)])
    sae.train(table, epochs=0, verbose=0)
    store = sae.encode_to(tmp_path / "vectors", table, loss_budget=0.01, verbose=0)
    assert np.square(store[:] - sae.encode(table)).mean() < 0.02 * sae.evaluate(table)
    sae.add(DenseLevel(3, None))
    sae.train(store, epochs=1, levels=[1], verbose=0)  # the next level learns from the store
    sequences = waves(40)
    sae = Autoencoder(shape=(10, 2), levels=[SequenceLevel(4)])
    sae.train(sequences, epochs=1, verbose=0)
    store = sae.encode_to(tmp_path / "sequences", sequences, loss_budget=0.01, verbose=0)
    assert store.shape[0] == 40
    restored_loss = np.square(sae.decode(store[:]) - sequences).mean()
    assert restored_loss == pytest.approx(sae.evaluate(sequences), rel=0.02)


def test_a_damaged_or_changed_shard_raises_an_error_and_is_repaired(sae, tmp_path):
    images, path = blobs(16), tmp_path / "store"
    store = sae.encode_to(path, images, shard_size=8, loss_budget=0.05, verbose=0)
    expected, file = store[:], path / "00001.zst"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(ValueError, match="has changed since this store was opened"):
        store[:]
    damaged = EncodingStore(path)
    np.testing.assert_array_equal(damaged[:8], expected[:8])
    with pytest.raises(ValueError, match="A shard is damaged: call `encode_to`"):
        damaged[8:]
    with pytest.raises(ValueError, match=r"00001\.zst of 2 shards damaged"):
        damaged.verify()
    again = sae.encode_to(path, images, shard_size=8, loss_budget=0.05, verbose=0)
    np.testing.assert_array_equal(again[:], expected)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"00001\.zst has [\d,]+ bytes, but the manifest says"):
        EncodingStore(path)
    file.unlink()
    os.symlink(path / "00000.zst", file)
    with pytest.raises(ValueError, match=r"00001\.zst isn't read: it is a link"):
        EncodingStore(path)


def first(manifest):
    return manifest["shards"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: first(manifest).pop("center"), "`center` must be a list of a number per channel"),
        (lambda manifest: first(manifest).pop("frames"), "`frames` must be a list"),
        (lambda manifest: first(manifest).update(frames=[[8, 1]]), "`frames` must be a list"),
        (lambda manifest: first(manifest).update(frames=[[8, 5, 100]]), "1 to 4 bytes per number"),
        (lambda manifest: first(manifest).update(frames=[[8, 1.0, 100]]), "1 to 4 bytes per number"),
        (lambda manifest: first(manifest).update(frames=[[8, 1, 1 << 42]]), "more bytes than its values need"),
        (lambda manifest: first(manifest).update(frames=[[8, [], 100]]), "1 to 4 bytes per number"),
        (lambda manifest: first(manifest).update(frames=[[7, 1, 100]]), "must have the rows of the shard"),
        (lambda manifest: first(manifest).update(frames=[[9, 1, 100], [-1, 1, 100]]), "must have the rows"),
        (lambda manifest: first(manifest).update(frames=[[8, 1, 0]]), "positive size"),
        (lambda manifest: first(manifest).update(step=0), "`step` must be a finite number greater than 0"),
        (lambda manifest: first(manifest).update(step=float("nan")), "`step` must be a finite number"),
        (lambda manifest: first(manifest).update(step="1"), "`step` must be a finite number"),
        (lambda manifest: manifest.pop("loss_budget"), "`loss_budget` must be a finite number"),
        (lambda manifest: manifest.update(added_loss=1e300), "`added_loss` must be a finite number"),
        (lambda manifest: manifest.update(step=-1), "`step` must be a finite number"),
        (lambda manifest: manifest.update(format=1), "`format` must be that of stores of this `dtype`"),
    ],
)
def test_a_manifest_with_wrong_frames_is_refused(sae, change, message, tmp_path):
    sae.encode_to(tmp_path / "store", blobs(8), loss_budget=0.1, verbose=0)
    file = tmp_path / "store" / MANIFEST
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=message):
        EncodingStore(tmp_path / "store")


def test_a_frame_of_many_values_is_refused(sae, tmp_path):
    sae.encode_to(tmp_path / "store", blobs(8), loss_budget=0.1, verbose=0)
    file = tmp_path / "store" / MANIFEST
    manifest = json.loads(file.read_text())
    manifest["shape"] = first(manifest)["shape"] = [1 << 13, 1 << 13, 4]
    first(manifest)["values"] = 8 << 26
    for frames in ([[8, 1, 100]], [[1, 1, 100]] * 8):
        first(manifest)["frames"] = frames
        file.write_text(json.dumps(manifest))
        with pytest.raises(ValueError, match="a frame is too large" if len(frames) == 1 else "bytes, but the manifest"):
            EncodingStore(tmp_path / "store")


def test_a_manifest_of_many_rows_needs_no_memory(sae, tmp_path):
    sae.encode_to(tmp_path / "store", blobs(8), loss_budget=0.1, verbose=0)
    file = tmp_path / "store" / MANIFEST
    manifest = json.loads(file.read_text())
    manifest["shard_size"] = 1 << 61
    first(manifest).update(rows=1 << 50, values=1 << 54, frames=[[1 << 50, 1, 100]])
    file.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="a frame is too large"):
        EncodingStore(tmp_path / "store")


def test_a_store_of_no_images_has_no_step_yet(sae, tmp_path):
    nothing = tf.data.Dataset.from_tensor_slices(blobs(8)).take(0)
    assert len(sae.encode_to(tmp_path / "store", nothing, loss_budget=0.05, verbose=0)) == 0
    store = sae.encode_to(tmp_path / "store", blobs(20), loss_budget=0.05, verbose=0)
    assert 0 < store.added_loss <= 0.05
    exact = sae.encode(blobs(20))
    assert np.abs(store[:] - exact).max() <= 0.51 * store.shards[0].record["step"] < exact.std()


def test_zstandard_is_an_extra(sae, monkeypatch, tmp_path):
    sae.encode_to(tmp_path / "store", blobs(8), loss_budget=0.1, verbose=0)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    for call in (
        lambda: EncodingStore(tmp_path / "store"),
        lambda: sae.encode_to(tmp_path / "new", blobs(8), loss_budget=0.1, verbose=0),
    ):
        with pytest.raises(ImportError, match=r'pip install "stacked_autoencoder\[zstandard\]"'):
            call()
    assert not (tmp_path / "new").exists()
