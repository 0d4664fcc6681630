import tempfile

import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, cache, greedy
from stacked_autoencoder.cache import EncodingCache, available_memory
from stacked_autoencoder.sources.memory import ArraySource
from stacked_autoencoder.sources.store import StoreSource
from tests.conftest import blobs
from tests.test_store_writer import before_encoding


def stack():
    return Autoencoder(size=4, n_out=4, n_scalings=1, n_levels=2)


@pytest.fixture
def seen(monkeypatch):
    """The kinds of what the levels above the first have seen."""
    kinds = []
    encoded = EncodingCache.encoded

    def spy(self, *arguments):
        source = encoded(self, *arguments)
        kinds.append(type(source))
        return source

    monkeypatch.setattr(EncodingCache, "encoded", spy)
    return kinds


@pytest.fixture
def encode_calls(monkeypatch):
    calls = []
    before_encoding(monkeypatch, lambda images: calls.append(len(images)))
    return calls


MIXED = [blobs(1, side=side, seed=index)[0] for index, side in enumerate([16, 20, 16, 24, 16, 20] * 6)]
SOURCES = {
    "array": (blobs(80), {"epochs": [0, 1]}),
    "list of sizes": (MIXED, {"epochs": 0}),  # the start alone sees all of the encodings, too
    "stream without end": (
        tf.data.Dataset.from_tensor_slices(blobs(80)).repeat(),
        {"epochs": 0, "steps_per_epoch": 4},
    ),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_training_from_disk_is_as_good_as_from_memory(kind, seen, held_out):
    images, options = SOURCES[kind]
    losses = []
    for budget in (None, 0):
        sae = stack()
        sae.train(images, validation_data=held_out, memory_budget=budget, verbose=0, **options)
        losses.append(sae.evaluate(held_out, return_dict=True)[1]["loss"])
    assert seen == [ArraySource] * 2 + [StoreSource] * 2
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_encodings_that_fit_stay_in_memory_and_a_byte_less_does_not_do(seen, images):
    taken = len(images) * 8 * 8 * 4 * 4  # bytes of 8x8x4 encodings
    for budget in (taken, taken - 1):
        stack().train(images, epochs=0, memory_budget=budget, verbose=0)
    assert seen == [ArraySource, StoreSource]


def test_a_store_that_matches_is_used_again_and_a_stale_one_is_not(images, tmp_path, encode_calls):
    options = {"cache_dir": tmp_path, "memory_budget": 0, "verbose": 0}
    sae = stack()
    sae.train(images, epochs=0, validation_data=images[:40], **options)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["level0-training", "level0-validation"]
    assert sum(encode_calls) == 96 + 40
    encode_calls.clear()
    sae.train(images, epochs=0, levels=[1], validation_data=images[:40], **options)
    assert encode_calls == []
    sae.train(images[:64], epochs=0, levels=[1], validation_data=images[:40], **options)
    assert sum(encode_calls) == 64
    encode_calls.clear()
    kernel = sae.levels[0].encoder.get_layer("linear").kernel
    kernel.assign(kernel * 2)
    sae.train(images[:64], epochs=0, levels=[1], validation_data=images[:40], **options)
    assert sum(encode_calls) == 64 + 40


def test_a_temporary_store_goes_even_when_training_fails(images, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sae = stack()
    sae.train(images, epochs=0, memory_budget=0, verbose=0)
    assert list(tmp_path.iterdir()) == []
    fit = greedy.training.fit

    def failing(levels, source, **options):
        if isinstance(source.inputs, StoreSource):
            assert list(tmp_path.iterdir()) != []
            raise KeyboardInterrupt
        return fit(levels, source, **options)

    monkeypatch.setattr(greedy.training, "fit", failing)
    with pytest.raises(KeyboardInterrupt):
        sae.train(images, epochs=1, memory_budget=0, verbose=0)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_told_before_anything_is_trained(images, tmp_path):
    (tmp_path / "file").write_text("")
    sae = stack()
    with pytest.raises(OSError, match=r"`cache_dir` can't be written: '.*file' is a file\. Choose another folder"):
        sae.train(images, cache_dir=tmp_path / "file")
    with pytest.raises(ValueError, match=r"`memory_budget` must be a whole number of at least 0\. Received.*'1 GB'"):
        sae.train(images, memory_budget="1 GB")
    assert not sae.levels[0].started


def test_the_memory_that_is_free_is_read_from_the_machine_and_its_container(monkeypatch):
    assert 1 << 20 < available_memory() < 1 << 50
    found = {"meminfo": 4096, "memory.max": 3 << 20, "memory.current": 1 << 20}
    monkeypatch.setattr(cache, "_read", lambda file, pattern: found.get(file.name))
    assert available_memory() == 2 << 20
    found["memory.max"] = None
    assert available_memory() == 4096 * 1024


def test_a_store_gives_batches_like_the_array_that_it_holds(images, tmp_path):
    sae = stack()
    sae.train(images, epochs=0, verbose=0)
    store = sae.encode_to(tmp_path / "store", images, level=0, shard_size=20, dtype="float32", verbose=0)
    shape = sae.levels[0].encoding_shape
    ours, theirs = StoreSource(store, shape), ArraySource(store[:], shape, check_range=False)
    np.testing.assert_array_equal(np.concatenate(list(ours.in_order(32))), store[:])
    np.testing.assert_array_equal(np.concatenate(list(ours.batches(32))), store[:])
    for source in (ours, theirs):
        np.random.seed(3)
        shuffled = list(source.batches(32, shuffle=True))
        assert [len(batch) for batch in shuffled] == [32, 32, 32]
    np.random.seed(3)
    np.testing.assert_array_equal(next(ours.batches(32, shuffle=True)), shuffled[0])
    assert ours.n_batches(32) == 3
    for mine, other in zip(ours.blocks(40), theirs.blocks(40), strict=True):
        assert mine.fingerprint() == other.fingerprint()
        np.testing.assert_array_equal(np.concatenate(list(mine.batches(32))), np.concatenate(list(other.batches(32))))
