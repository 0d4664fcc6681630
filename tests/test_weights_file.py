"""Weights that are more, or less, than plain numbers in the file itself."""

import io
import pickle
import shutil
import zipfile

import h5py
import numpy as np
import pytest

from benchmarks import attacks
from stacked_autoencoder import Autoencoder, ConvLevel, LoadError
from stacked_autoencoder.weights_file import read_arrays, shapes_in
from tests.conftest import blobs
from tests.test_loading import assert_refused

WEIGHTS = "encoder0/model.weights.h5"
CALLS = []


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    sae = Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(n_out=4, size=8)])
    sae.train(blobs(64), epochs=0, verbose=0)
    return sae.save(tmp_path_factory.mktemp("models") / "saved")


@pytest.fixture
def path(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "stranger")


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (attacks.external_link, "points to somewhere else"),
        (attacks.soft_link, "points to somewhere else"),
        (attacks.external_storage, "isn't in one piece in this file"),
        (attacks.virtual, "isn't in one piece in this file"),
        (attacks.never_written, "says that it is larger than it is"),
        (attacks.compressed, "isn't in one piece in this file"),
        (attacks.group_in_itself, "is a group that is in another place, too"),
        (attacks.text, "isn't an array of numbers"),
        (attacks.not_finite, "aren't finite numbers"),
        (attacks.other_place, "aren't those of this model"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_weights_that_are_no_plain_numbers_are_refused(path, attack, words):
    with h5py.File(path / WEIGHTS, "a") as file:
        attack(*attacks.first_array(file), path / WEIGHTS)
    attacks.sign(path)
    assert_refused(path, words)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_weights_that_are_cut_short_are_refused(path, share):
    content = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(content[: int(share * len(content))])
    attacks.sign(path)
    assert_refused(path, "Weights can't be read")


def test_shapes_are_those_of_the_model(saved):
    loaded = Autoencoder.load(saved)
    assert sorted(shapes_in(saved / WEIGHTS)) == sorted(tuple(each.shape) for each in loaded.encoder.weights)


class Call:
    def __reduce__(self):
        return CALLS.append, (1,)


def header_that_lies():
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": (10**6, 10**6), "fortran_order": False, "descr": "<f4"})
    return stream.getvalue() + bytes(100)


def pickled():
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": (1,), "fortran_order": False, "descr": "|O"})
    return stream.getvalue() + pickle.dumps(np.array([Call()], dtype=object))


@pytest.mark.parametrize(
    ("content", "compression", "words"),
    [
        (header_that_lies(), zipfile.ZIP_STORED, "says that it is larger than it is"),
        (pickled(), zipfile.ZIP_STORED, "or holds more than numbers"),
        (bytes(10**6), zipfile.ZIP_DEFLATED, "these are compressed"),
        (b"no array", zipfile.ZIP_STORED, "can't be read"),
    ],
    ids=["header", "pickle", "compressed", "no array"],
)
def test_arrays_that_are_no_plain_numbers_are_refused(path, content, compression, words):
    CALLS.clear()
    with zipfile.ZipFile(path / "linear0.npz", "w", compression) as archive:
        archive.writestr("mean.npy", content)
    attacks.sign(path)
    assert_refused(path, words)
    assert not CALLS


def test_arrays_that_are_not_finite_or_do_not_belong_together_are_refused(path):
    file = path / "linear0.npz"
    arrays = read_arrays(file)
    for change, words in (
        ({"mean": np.full_like(arrays["mean"], np.inf)}, "aren't finite numbers"),
        ({"mean": arrays["mean"][1:]}, "don't belong together"),
        ({"more": arrays["mean"]}, "can't be made"),
    ):
        np.savez(file, **(arrays | change))
        attacks.sign(path)
        assert_refused(path, words)
    file.write_bytes(b"")
    with pytest.raises(LoadError, match="Arrays can't be read"):
        read_arrays(file)
