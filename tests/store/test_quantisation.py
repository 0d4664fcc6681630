import json
import pickle

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, DenseLevel, EncodingStore
from stacked_autoencoder.store.manifest import MANIFEST
from stacked_autoencoder.store.quantisation import LARGEST, Scale, restored
from tests.conftest import blobs


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, -3.0, 50.0])
def test_the_error_is_small_and_nothing_is_clipped(unit, offset):
    rng = np.random.default_rng(0)
    pieces = [unit * (rng.laplace(size=(n, 3, 2, 4)) * [1, 10, 0.1, 0] + offset) for n in (500, 700)]
    pieces = [piece.astype(np.float32) for piece in pieces]
    scale, values = Scale.of(pieces), np.concatenate(pieces)
    numbers = np.concatenate([scale.quantised(piece) for piece in pieces])
    assert numbers.dtype == np.int8
    result = restored(numbers, scale.center, scale.reach)
    assert result.dtype == np.float32
    rounding = 4e-7 * np.abs(values).max()  # of float32
    assert (np.abs(result - values) <= scale.reach / LARGEST + rounding).all()
    flat = values.reshape(-1, 4).astype(np.float64)
    np.testing.assert_allclose(scale.center, flat.mean(axis=0))
    np.testing.assert_allclose(scale.reach, np.abs(flat - flat.mean(axis=0)).max(axis=0))
    np.testing.assert_array_equal(np.abs(numbers.reshape(-1, 4)).max(axis=0)[:3], LARGEST)
    errors = np.square(result - values, dtype=np.float64).reshape(-1, 4).mean(axis=0)
    equal_steps = (np.ptp(flat, axis=0) / 255) ** 2 / 12
    assert (errors[:3] < 0.7 * equal_steps[:3] + rounding**2).all()


SOURCES = {
    "images": lambda: blobs(50, seed=2),
    "labelled": lambda: (blobs(50, seed=2), np.arange(50) % 7),
    "mixed sizes": lambda: [blobs(1, side=side, seed=side)[0] for side in (16, 24, 16, 32, 24, 16)],
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_store_of_int8_is_read_as_float32(sae, source, tmp_path):
    store = sae.encode_to(tmp_path / "int8", source(), shard_size=12, dtype="int8", verbose=0)
    exact = sae.encode_to(tmp_path / "float32", source(), shard_size=12, dtype="float32", verbose=0)
    assert (store.file_dtype, store.dtype, store.shape) == (np.int8, np.float32, exact.shape)
    reach = np.array([shard.record["reach"] for shard in store.shards]).max(axis=0)
    keys = [slice(None), [3, 0, 5], slice(5, 1, -2)]
    for key in keys:
        for read, expected in zip(store[key], exact[key], strict=True):
            assert read.dtype == np.float32
            assert (np.abs(read - expected) <= 1.001 * reach / LARGEST).all()
            assert (read != expected).any()
    np.testing.assert_array_equal(store[-1], store[:][-1])
    shuffled = [store.dataset(4, shuffle=True, seed=seed) for seed in (1, 1)]
    for one, other in zip(*shuffled, strict=True):
        np.testing.assert_array_equal(*([each[0] if store.labels is not None else each for each in (one, other)]))
    np.testing.assert_allclose(store.mean, exact.mean)
    np.testing.assert_allclose(store.std, exact.std)
    sizes = [sum(shard.bytes_on_disk - shard.start for shard in each.shards) for each in (store, exact)]
    assert sizes[0] * 4 == sizes[1]
    store.verify()
    for again in (EncodingStore(tmp_path / "int8"), pickle.loads(pickle.dumps(store))):
        np.testing.assert_array_equal(again[2], store[2])
    assert "int8, read as float32" in repr(store)
    manifest = json.loads((tmp_path / "int8" / MANIFEST).read_text())
    assert manifest["format"] == 2  # earlier versions ask for an upgrade
    assert json.loads((tmp_path / "float32" / MANIFEST).read_text())["format"] == 1


def test_a_damaged_shard_is_encoded_again_and_a_part_is_continued(sae, tmp_path):
    images = blobs(40, seed=3)
    whole = sae.encode_to(tmp_path / "whole", images, shard_size=8, dtype="int8", verbose=0)[:]
    before = (tmp_path / "whole" / "00002.npy").read_bytes()
    (tmp_path / "whole" / "00002.npy").unlink()
    again = sae.encode_to(tmp_path / "whole", images, shard_size=8, dtype="int8", verbose=0)
    assert (tmp_path / "whole" / "00002.npy").read_bytes() == before
    np.testing.assert_array_equal(again[:], whole)
    for index in range(2):
        sae.encode_to(tmp_path / "parts", images, shard_size=8, dtype="int8", shard=(index, 2), verbose=0)
    np.testing.assert_array_equal(EncodingStore(tmp_path / "parts")[:], whole)
    with pytest.raises(ValueError, match="another `dtype`: 'int8'"):
        sae.encode_to(tmp_path / "whole", images, shard_size=8, verbose=0)


def test_vectors_train_the_next_level(tmp_path):
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=(12,), levels=[DenseLevel(6, None)])
    table = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32) @ np.diag(np.arange(1, 13))
    sae.train(table, epochs=0, verbose=0)
    store = sae.encode_to(tmp_path / "store", table, dtype="int8", verbose=0)
    exact = sae.encode(table)
    assert np.square(store[:] - exact).mean() < 1e-4 * exact.var()
    sae.add(DenseLevel(3, None))
    sae.train(store, epochs=1, levels=[1], verbose=0)
    assert sae.evaluate(table) < table.var()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("center"), "`center` must be a list of a number per channel"),
        (lambda record: record["reach"].append(1.0), "`reach` must be a list of a number per channel"),
        (lambda record: record["reach"].__setitem__(0, -1.0), "`reach` must hold finite numbers of at least 0"),
        (lambda record: record["center"].__setitem__(0, "0"), "`center` must hold finite numbers"),
        (lambda record: record["center"].__setitem__(0, float("nan")), "`center` must hold finite numbers"),
        (lambda record: record["reach"].__setitem__(0, 1e300), "`reach` must hold finite numbers"),
    ],
)
def test_a_manifest_with_a_wrong_scale_is_refused(sae, change, message, tmp_path):
    sae.encode_to(tmp_path / "store", blobs(8), dtype="int8", verbose=0)
    file = tmp_path / "store" / MANIFEST
    manifest = json.loads(file.read_text())
    change(manifest["shards"][0])
    file.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=message):
        EncodingStore(tmp_path / "store")


@pytest.mark.parametrize(("format", "dtype"), [(1, "int8"), (2, "float16")])
def test_the_format_follows_from_the_dtype(sae, format, dtype, tmp_path):
    sae.encode_to(tmp_path / "store", blobs(8), dtype=dtype, verbose=0)
    file = tmp_path / "store" / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": format}))
    with pytest.raises(ValueError, match="`format` must be that of stores of this `dtype`"):
        EncodingStore(tmp_path / "store")
