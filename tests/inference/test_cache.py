import re
import shutil
import tempfile
from contextlib import contextmanager

import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder
from stacked_autoencoder.data.array import ArraySource
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.inference.cache import EncodingCache
from stacked_autoencoder.store.manifest import LOG, MANIFEST
from stacked_autoencoder.training import greedy
from stacked_autoencoder.utils.value_range import UNLIMITED
from tests.conftest import blobs, files_of_at_most
from tests.inference.test_encode_to_store import before_encoding


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


def names(folder):
    """Of the stores in a folder, without what tells encoders and sources apart."""
    return sorted(re.sub("-[0-9a-f]{16}", "", store.name) for store in folder.iterdir())


def test_a_store_that_matches_is_used_again_and_others_are_kept(images, tmp_path, encode_calls):
    options = {"cache_dir": tmp_path, "memory_budget": 0, "verbose": 0}
    sae = stack()
    sae.train(images, epochs=0, validation_data=images[:40], **options)
    assert names(tmp_path) == ["level0-training", "level0-validation"]
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
    assert names(tmp_path) == ["level0-training"] * 3 + ["level0-validation"] * 2
    encode_calls.clear()
    kernel.assign(kernel / 2)  # the first encoder's are still there
    sae.train(images, epochs=0, levels=[1], validation_data=images[:40], **options)
    assert encode_calls == []


@contextmanager
def cached(sae, source, folder):
    """The store of level 0's encodings, as a training has it."""
    with EncodingCache(folder, 0) as cache:
        yield cache.encoded(sae.stack, 0, source, source.shape, "training", 0).store


def source_of(images):
    return ArraySource(images, (None, None, 3))


def test_trainings_at_the_same_time_do_not_share_a_store(images, tmp_path):
    """Otherwise the second would delete what the first trains on."""
    sae = stack()
    with cached(sae, source_of(images), tmp_path) as first:
        before = first[:]
        with cached(sae, source_of(images), tmp_path) as second:
            assert second.path.name == f"{first.path.name}-1"
            with cached(stack(), source_of(images), tmp_path) as third:
                assert third.path.name not in (first.path.name, second.path.name)
            np.testing.assert_array_equal(second[:], before)
        np.testing.assert_array_equal(first[:], before)
    with cached(sae, source_of(images), tmp_path) as again:
        assert again.path == first.path
    assert len(names(tmp_path)) == 3


def test_a_stale_store_is_replaced_and_files_of_others_in_it_stay(images, tmp_path, encode_calls):
    """The first 256 images and their number are those of before, so the folder is the same."""
    sae, many = stack(), np.concatenate([images] * 3)
    with cached(sae, source_of(many), tmp_path) as store:
        folder, before = store.path, store[:]
    changed = many.copy()
    changed[270] = 0
    with cached(sae, source_of(changed), tmp_path) as store:
        assert store.path == folder
        assert np.flatnonzero((store[:] != before).any(axis=(1, 2, 3))).tolist() == [270]
    (folder / "notes.txt").write_text("mine")
    (folder / "00009.npy").write_text("mine")
    with cached(sae, source_of(many), tmp_path) as store:
        assert store.path.name == f"{folder.name}-1"
        np.testing.assert_array_equal(store[:], before)
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"notes.txt": "mine", "00009.npy": "mine"}


@pytest.mark.parametrize("what", ["a file", "files", "a damaged store", "a log"])
def test_folders_that_are_no_stores_are_passed_over(images, tmp_path, what):
    sae = stack()
    with cached(sae, source_of(images), tmp_path) as store:
        folder = store.path
    if what == "a damaged store":
        (folder / MANIFEST).write_text("{")
    else:
        shutil.rmtree(folder)
        if what != "a file":
            folder.mkdir()
        {"a file": folder, "files": folder / "00000.npy", "a log": folder / LOG}[what].write_text("mine\n")
    before = {file: file.read_bytes() for file in [folder, *folder.rglob("*")] if file.is_file()}
    with cached(sae, source_of(images), tmp_path) as store:
        assert store.path.name == f"{folder.name}-1"
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_full_disk_names_the_folder_and_what_would_fit(images, tmp_path, monkeypatch, is_kept):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    words = (
        r"could not write the encodings of level 0 to `cache_dir`\. They need 49,152 bytes\. Free disk space, choose a "
        r"`cache_dir` on a larger disk, or pass a larger `memory_budget`"
        if is_kept
        else r"to the temporary folder, .* without `cache_dir`\. They need 49,152 bytes\. Free disk space, set "
        r"`cache_dir` \(or the variable TMPDIR\) to a larger disk, or.*`memory_budget`.*autoencoder-"
    )
    options = {"cache_dir": tmp_path} if is_kept else {}
    with files_of_at_most(4000), pytest.raises(OSError, match=words) as caught:
        stack().train(images, epochs=0, memory_budget=0, verbose=0, **options)
    assert "encode_to" not in str(caught.value)
    assert caught.value.filename.startswith(str(tmp_path))
    if is_kept:
        stack().train(images, epochs=0, memory_budget=0, verbose=0, **options)
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_temporary_store_goes_even_when_training_fails(images, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sae = stack()
    sae.train(images, epochs=0, memory_budget=0, verbose=0)
    assert list(tmp_path.iterdir()) == []
    fit = greedy.fit

    def failing(levels, source, *arguments, **options):
        if isinstance(source.inputs, StoreSource):
            assert list(tmp_path.iterdir()) != []
            raise KeyboardInterrupt
        return fit(levels, source, *arguments, **options)

    monkeypatch.setattr(greedy, "fit", failing)
    with pytest.raises(KeyboardInterrupt):
        sae.train(images, epochs=1, memory_budget=0, verbose=0)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_raise_an_error_before_anything_is_trained(images, tmp_path):
    (tmp_path / "file").write_text("")
    sae = stack()
    with pytest.raises(OSError, match=r"`cache_dir` can't be written: .*is a file\. Choose another folder"):
        sae.train(images, cache_dir=tmp_path / "file")
    with pytest.raises(ValueError, match=r"`memory_budget` must be a whole number of at least 0\. Received.*'1 GB'"):
        sae.train(images, memory_budget="1 GB")
    assert not sae.levels[0].started


def test_a_store_gives_batches_like_the_array_that_it_holds(images, tmp_path):
    sae = stack()
    sae.train(images, epochs=0, verbose=0)
    store = sae.encode_to(tmp_path / "store", images, level=0, shard_size=20, dtype="float32", verbose=0)
    shape = sae.levels[0].encoding_shape
    ours, theirs = StoreSource(store, shape), ArraySource(store[:], shape, values=UNLIMITED)
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
