import json

import keras
import numpy as np
import pytest

from stacked_autoencoder import heads
from tests.conftest import blobs

# They are not installed with the oldest supported versions.
safetensors = pytest.importorskip("safetensors")
webdataset = pytest.importorskip("webdataset")
zarr = pytest.importorskip("zarr")
load_file = pytest.importorskip("safetensors.numpy").load_file

# WebDataset leaves closing its files to Python.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


AGES, KINDS = np.linspace(0, 1, 30), np.array([f"kind {index % 3}" for index in range(30)])
STORES = {
    "no labels": (lambda: blobs(30), "float16"),
    "numbers": (lambda: (blobs(30), np.arange(30) % 7), "float32"),
    "texts": (lambda: (blobs(30), KINDS), "int8"),
    "several": (lambda: (blobs(30), {"age": AGES, "kind": KINDS}), "float16"),
}


@pytest.fixture(scope="module", params=STORES)
def store(request, sae, tmp_path_factory):
    source, dtype = STORES[request.param]
    path = tmp_path_factory.mktemp("stores") / "store"
    return sae.encode_to(path, source(), shard_size=8, dtype=dtype, verbose=0)


def labels_of(store):
    if isinstance(store.labels, dict):
        return {f"labels.{name}": values for name, values in store.labels.items()}
    return {} if store.labels is None else {"labels": store.labels}


def test_zarr(store, tmp_path):
    group = zarr.open_group(store.to_zarr(tmp_path / "zarr"), mode="r")
    assert group["encodings"].dtype == store.dtype
    np.testing.assert_array_equal(group["encodings"][:], store[:])
    np.testing.assert_allclose(group["std"][:], store.std)
    assert (group.attrs["encoder"], group.attrs["level"]) == (store.encoder, 0)
    for name, values in labels_of(store).items():
        found = group.attrs[name] if values.dtype.kind == "U" else group[name][:]
        np.testing.assert_array_equal(found, values)


def test_webdataset(store, tmp_path):
    store.to_webdataset(tmp_path / "tars", rows_per_file=12)
    assert sorted(file.name for file in (tmp_path / "tars").iterdir()) == ["000000.tar", "000001.tar", "000002.tar"]
    files = sorted(map(str, (tmp_path / "tars").iterdir()))
    samples = [*webdataset.WebDataset(files, shardshuffle=False).decode()]
    np.testing.assert_array_equal([sample["npy"] for sample in samples], store[:])
    assert samples[0]["npy"].dtype == store.dtype
    for name, values in labels_of(store).items():
        np.testing.assert_array_equal([sample["json"][name] for sample in samples], values)


def test_safetensors(store, tmp_path):
    folder = store.to_safetensors(tmp_path / "tensors")
    files = sorted(folder.iterdir())
    assert [file.name for file in files][::3] == [f"encodings-0000{n}-of-00004.safetensors" for n in (1, 4)]
    parts = [load_file(file) for file in files]
    np.testing.assert_array_equal(np.concatenate([part["encodings"] for part in parts]), store[:])
    for name, values in labels_of(store).items():
        if values.dtype.kind == "U":
            found = []
            for file in files:
                with safetensors.safe_open(file, "numpy") as opened:
                    found += json.loads(opened.metadata()[name])
        else:
            found = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(found, values)


def test_names_of_pictures(sae, tmp_path):
    (tmp_path / "pictures").mkdir()
    for index, image in enumerate(np.uint8(127.5 * (blobs(3) + 1))):
        np.save(tmp_path / "pictures" / f"{index}.npy", image)
    store = sae.encode_to(tmp_path / "store", tmp_path / "pictures", verbose=0)
    assert store.names == ["0.npy", "1.npy", "2.npy"]
    assert zarr.open_group(store.to_zarr(tmp_path / "zarr"), mode="r").attrs["names"] == store.names
    files = [str(store.to_webdataset(tmp_path / "tars") / "000000.tar")]
    samples = webdataset.WebDataset(files, shardshuffle=False).decode()
    assert [sample["json"]["name"] for sample in samples] == store.names
    (file,) = store.to_safetensors(tmp_path / "tensors").iterdir()
    with safetensors.safe_open(file, "numpy") as opened:
        assert json.loads(opened.metadata()["names"]) == store.names


def test_encodings_of_other_formats_train_a_head(sae, tmp_path):
    store = sae.encode_to(tmp_path / "store", blobs(64), verbose=0)
    group = zarr.open_group(store.to_zarr(tmp_path / "zarr"), mode="r")
    np.save(tmp_path / "encodings.npy", store[:])
    losses = []
    for encodings in (store, group["encodings"], np.load(tmp_path / "encodings.npy", mmap_mode="r")):
        keras.utils.set_random_seed(0)
        head = heads.Flow(store.shape[1:], width=8, depth=1)
        losses.append(head.fit(encodings, epochs=1, batch_size=64, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[1], losses[2], rtol=1e-4)


def test_several_sizes(sae, tmp_path):
    images = [blobs(1, side)[0] for side in (16, 24, 16)]
    store = sae.encode_to(tmp_path / "store", images, verbose=0)
    for convert in (store.to_zarr, store.to_safetensors):
        with pytest.raises(ValueError, match=r"needs encodings of one size. Use `to_webdataset`"):
            convert(tmp_path / "other")
    files = [str(store.to_webdataset(tmp_path / "tars") / "000000.tar")]
    for sample, encoding in zip(webdataset.WebDataset(files, shardshuffle=False).decode(), store[:], strict=True):
        np.testing.assert_array_equal(sample["npy"], encoding)


@pytest.mark.parametrize("method", ["to_zarr", "to_webdataset", "to_safetensors"])
def test_nothing_is_overwritten_or_left_half_written(method, sae, tmp_path, monkeypatch):
    store = sae.encode_to(tmp_path / "store", blobs(8), verbose=0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="must be a new or empty folder"):
        getattr(store, method)(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    assert any(getattr(store, method)(tmp_path / "empty").iterdir())
    monkeypatch.setattr(type(store), "__getitem__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        getattr(store, method)(tmp_path / "new")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["empty", "other", "store"]
