"""Weights that are more, or less, than plain numbers in the file itself."""

import io
import os
import pickle
import shutil
import time
import tracemalloc
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from benchmarks.safety import attacks
from stacked_autoencoder import Autoencoder, ConvLevel, LoadError
from stacked_autoencoder.saving.arrays import LARGEST_FILE, MOST_OBJECTS, read_arrays, read_weights, shapes_in
from tests.conftest import blobs
from tests.saving.test_load import assert_refused

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
        (attacks.external_link, "is a link to another location"),
        (attacks.soft_link, "is a link to another location"),
        (attacks.external_storage, "is not stored contiguously in this file"),
        (attacks.virtual, "is not stored contiguously in this file"),
        (attacks.never_written, "claims another size than it has"),
        (attacks.compressed, "is not stored contiguously in this file"),
        (attacks.group_in_itself, "occurs twice"),
        (attacks.text, "is not an array of numbers"),
        (attacks.not_finite, "are not finite numbers"),
        (attacks.other_place, "do not belong to this model"),
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
    assert_refused(path, "weights cannot be read")


def test_shapes_are_those_of_the_model(saved):
    loaded = Autoencoder.load(saved)
    assert sorted(shapes_in(saved / WEIGHTS)) == sorted(tuple(each.shape) for each in loaded.encoder.weights)


# === Hostile HDF5 files ===


def many_groups(file):
    for index in range(MOST_OBJECTS + 1):
        file.create_group(str(index))


def groups_in_groups(file):
    for _ in range(3000):
        file = file.create_group("more")


def many_attributes(file):
    for index in range(1000):
        file.attrs[str(index)] = 0.0


def attribute_of_an_array(file):
    file.create_dataset("0", data=[1.0]).attrs["dtype"] = "bfloat16"


def type_alone(file):
    file["type"] = np.dtype("f4")


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (many_groups, "more groups or attributes than Keras writes"),
        (groups_in_groups, "more groups or attributes than Keras writes"),
        (many_attributes, "more groups or attributes than Keras writes"),
        (attribute_of_an_array, "has attributes"),
        (type_alone, "is not an array of numbers"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_hdf5_files_that_keras_never_writes_are_refused(tmp_path, fill, words):
    file = tmp_path / "model.weights.h5"
    with h5py.File(file, "w") as content:
        fill(content)
    began = time.perf_counter()
    with pytest.raises(LoadError, match=words):
        shapes_in(file)
    assert time.perf_counter() - began < 1


def test_a_user_block_is_refused(tmp_path):
    file = tmp_path / "model.weights.h5"
    with h5py.File(file, "w", userblock_size=512) as content:
        content["0"] = np.ones(3)
    with pytest.raises(LoadError, match="data before the weights"):
        shapes_in(file)


@pytest.mark.parametrize("read", [shapes_in, read_arrays])
def test_only_regular_files_of_a_bounded_size_are_opened(tmp_path, read):
    pipe, directory, large = tmp_path / "pipe", tmp_path / "directory", tmp_path / "large"
    os.mkfifo(pipe)
    directory.mkdir()
    with large.open("wb") as stream:
        stream.truncate(LARGEST_FILE + 1)
    for file, words in ((pipe, "a named pipe"), (directory, "a directory"), (large, "at most 17,179,869,184 are read")):
        with pytest.raises(LoadError, match=words):
            read(file)


def test_weights_that_layers_do_not_find_are_refused(saved, tmp_path):
    """Keras goes on where a layer's arrays are missing and none of its weights differ in shape."""
    model = Autoencoder.load(saved).encoder
    file = tmp_path / "model.weights.h5"
    shutil.copy(saved / WEIGHTS, file)
    read_weights(file, model)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    model.load_weights = lambda _: None  # stands for any version of Keras that goes on
    with pytest.raises(LoadError, match="are not finite numbers, or are missing from the file"):
        read_weights(file, model)


def test_loading_in_threads_leaves_warning_filters_as_they_are(saved, path):
    with h5py.File(path / WEIGHTS, "a") as file:
        attacks.other_place(*attacks.first_array(file), path / WEIGHTS)
    attacks.sign(path)

    def load(which):
        try:
            return Autoencoder.load(which).encoding_shape
        except LoadError:
            return None

    before = [*warnings.filters]
    with ThreadPoolExecutor(4) as threads:
        loaded = list(threads.map(load, [saved, path] * 10))
    assert loaded == [(4, 4, 4), None] * 10
    assert warnings.filters == before


# === Archives of arrays ===


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


def npy(header, data=bytes(4), version=b"\x01\x00"):
    text = header.encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


def header(shape="(1,)", descr="'<f4'", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    ("content", "compression", "words"),
    [
        (header_that_lies(), zipfile.ZIP_STORED, "another size than its header claims"),
        (pickled(), zipfile.ZIP_STORED, "does not have the header that numpy writes"),
        (bytes(10**6), zipfile.ZIP_DEFLATED, "arrays are compressed"),
        (b"no array", zipfile.ZIP_STORED, "is not an array"),
        (npy(header(f"({10**17}, {10**17})")), zipfile.ZIP_STORED, "another size than its header claims"),
        (npy(header(f"({10**30},)")), zipfile.ZIP_STORED, "does not have the header that numpy writes"),
        (npy(header("(-1,)")), zipfile.ZIP_STORED, "does not have the header that numpy writes"),
        (npy(header("(2,)")), zipfile.ZIP_STORED, "another size than its header claims"),
        (npy(header("(0,)")), zipfile.ZIP_STORED, "another size than its header claims"),
        (npy(header(descr="[('a', '<f4')]")), zipfile.ZIP_STORED, "does not have the header that numpy writes"),
        (npy(header(descr="'|S4'")), zipfile.ZIP_STORED, "does not have the header that numpy writes"),
        (npy("-" * 900 + "1"), zipfile.ZIP_STORED, "does not have the header that numpy writes"),
        (npy(" " * 10_000), zipfile.ZIP_STORED, "is not an array in version 1.0"),
        (npy(header(), version=b"\x02\x00"), zipfile.ZIP_STORED, "is not an array in version 1.0"),
        (npy(header("(" + "1, " * 100 + ")")), zipfile.ZIP_STORED, "cannot be read"),
    ],
)
def test_arrays_that_are_no_plain_numbers_are_refused(tmp_path, content, compression, words):
    CALLS.clear()
    with zipfile.ZipFile(tmp_path / "linear0.npz", "w", compression) as archive:
        archive.writestr("mean.npy", content)
    with pytest.raises(LoadError, match=words):
        read_arrays(tmp_path / "linear0.npz")
    assert not CALLS


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8", "u1", "i8", ">u4"])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, dtype):
    file, values = tmp_path / "arrays.npz", np.arange(12, dtype=dtype)
    arrays = {"scalar": values[3], "empty": np.zeros((0, 3), dtype), "rows": values.reshape(3, 4)}
    arrays |= {"columns": np.asfortranarray(values.reshape(2, 3, 2)), "vector": values}
    np.savez(file, **arrays)
    read = read_arrays(file)
    with np.load(file) as expected:
        assert [*read] == [*expected]
        for name, array in read.items():
            np.testing.assert_array_equal(array, expected[name])
            assert array.dtype == expected[name].dtype
            assert array.flags.f_contiguous == expected[name].flags.f_contiguous
            assert array.flags.writeable


def test_only_the_named_arrays_are_read(tmp_path):
    file = tmp_path / "arrays.npz"
    np.savez(file, mean=np.ones(3), residual=1.0)
    assert {*read_arrays(file, ("residual", "mean"))} == {"mean", "residual"}
    for names, words in (
        (["mean"], "'residual' is not expected"),
        (["mean", "a", "residual"], "'a' is mis"),
    ):
        with pytest.raises(LoadError, match=words):
            read_arrays(file, names)


def many(file):
    with zipfile.ZipFile(file, "w") as archive:
        for index in range(60_000):
            archive.writestr(f"{index}.npy", b"")


def two_of_one_name(file):
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the name is there already
        for _ in range(2):
            archive.writestr("mean.npy", npy(header()))


def in_each_other(file):
    """A thousand entries that are the same bytes."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mean.npy", npy(header("(25000,)"), bytes(100_000)))
        (entry,) = archive.infolist()
        for index in range(1000):
            archive.filelist.append(other := zipfile.ZipInfo(f"{index}.npy"))
            other.header_offset, other.CRC = entry.header_offset, entry.CRC
            other.file_size = other.compress_size = entry.file_size
        archive._didModify = True


def large_table(file):
    """An archive that says that its table of contents has 4 GiB, in a file as large."""
    file.write_bytes(b"")
    end = b"PK\x05\x06" + bytes(4) + b"\x01\x00" * 2 + (0xF0000000).to_bytes(4, "little") + bytes(6)
    with file.open("r+b") as stream:
        stream.truncate(0xF0000000)
        stream.seek(0, 2)
        stream.write(end)


def other_entry(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mean.txt", b"")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (many, "table of contents is too large"),
        (large_table, "table of contents is too large"),
        (two_of_one_name, "two arrays of the same name"),
        (in_each_other, "more bytes than the file has"),
        (other_entry, "entries that are not arrays"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_archives_that_numpy_never_writes_are_refused(tmp_path, make, words):
    file = tmp_path / "linear0.npz"
    make(file)
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(LoadError, match=words):
        read_arrays(file)
    taken, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 1
    assert peak < 10_000_000


def test_arrays_that_are_not_finite_or_do_not_belong_together_are_refused(path):
    file = path / "linear0.npz"
    arrays = read_arrays(file)
    for change, words in (
        ({"mean": np.full_like(arrays["mean"], np.inf)}, "are not finite numbers"),
        ({"mean": arrays["mean"][1:]}, "components and variances of the PCA do not match"),
        ({"more": arrays["mean"]}, "is not expected in this file"),
    ):
        np.savez(file, **(arrays | change))
        attacks.sign(path)
        assert_refused(path, words)
    file.write_bytes(b"")
    with pytest.raises(LoadError, match="arrays cannot be read"):
        read_arrays(file)
