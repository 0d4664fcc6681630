"""Data of other libraries, each with the real one."""

import io
import tarfile

import keras
import numpy as np
import pytest
from PIL import Image

from stacked_autoencoder import Autoencoder
from stacked_autoencoder.data import rows as rows_module
from stacked_autoencoder.data.adapters import as_source

ANY = (None, None, 3)
COUNT = 11
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3)).astype(np.uint8)
LABELS = list(range(100, 100 + COUNT))


def hdf5(tmp_path, **options):
    file = pytest.importorskip("h5py").File(tmp_path / "images.h5", "w")
    file.create_dataset("images", data=PIXELS, **options)
    file["labels"] = LABELS
    return file


def zarr_array(tmp_path, **options):
    array = pytest.importorskip("zarr").create_array(tmp_path / "images.zarr", shape=PIXELS.shape, dtype="uint8", **options)
    array[:] = PIXELS
    return array


def pictures():
    return [Image.fromarray(image) for image in PIXELS]


def hugging_face(**columns):
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict(columns or {"image": pictures(), "label": LABELS})


def hugging_face_array():
    datasets = pytest.importorskip("datasets")
    features = {"pixels": datasets.Array3D((8, 8, 3), "uint8"), "label": datasets.Value("int64")}
    return datasets.Dataset.from_dict(
        {"pixels": list(PIXELS), "label": LABELS}, features=datasets.Features(features)
    )


def torch_data(batch=None, wrap=lambda image, label: (image, label), **options):
    data = pytest.importorskip("torch").utils.data

    class Photos(data.Dataset):
        def __len__(self):
            return COUNT

        def __getitem__(self, index):
            return wrap(PIXELS[index], LABELS[index])

    return data.DataLoader(Photos(), batch_size=batch, **options) if batch else Photos()


def torch_iterable():
    data = pytest.importorskip("torch").utils.data

    class Photos(data.IterableDataset):
        def __iter__(self):
            return zip(PIXELS, LABELS, strict=True)

    return Photos()


def grain_map():
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source(range(COUNT)).map(lambda index: (PIXELS[index], LABELS[index]))


def grain_loader(**options):
    grain = pytest.importorskip("grain")
    records = [{"image": image, "label": label} for image, label in zip(PIXELS, LABELS, strict=True)]
    return grain.load(records, **options)


def tar(tmp_path, suffix="png"):
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w") as archive:
        for index, picture in enumerate(pictures()):
            buffer = io.BytesIO()
            picture.save(buffer, "png")
            for name, data in ((f"{index:03}.{suffix}", buffer.getvalue()), (f"{index:03}.cls", b"%d" % LABELS[index])):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return pytest.importorskip("webdataset").WebDataset(str(path), shardshuffle=False)


LABELLED = {
    "HDF5 and labels": lambda tmp: (lambda file: (file["images"], file["labels"]))(hdf5(tmp)),
    "HDF5 by chunks": lambda tmp: (hdf5(tmp, chunks=(4, 8, 4, 3), compression="gzip")["images"], LABELS),
    "Zarr": lambda tmp: (zarr_array(tmp, chunks=(3, 8, 8, 3)), LABELS),
    "Zarr in shards": lambda tmp: (zarr_array(tmp, chunks=(2, 8, 8, 3), shards=(4, 8, 8, 3)), np.array(LABELS)),
    "Hugging Face": lambda tmp: hugging_face(),
    "Hugging Face in a torch format": lambda tmp: hugging_face().with_format("torch"),
    "Hugging Face arrays": lambda tmp: hugging_face_array(),
    "Hugging Face with a transform": lambda tmp: hugging_face().with_transform(
        lambda batch: {"x": [np.asarray(each) for each in batch["image"]], "label": batch["label"]}
    ),
    "Hugging Face stream": lambda tmp: hugging_face().to_iterable_dataset(),
    "Hugging Face stream of arrays": lambda tmp: hugging_face_array().to_iterable_dataset(),
    "PyTorch Dataset": lambda tmp: torch_data(),
    "PyTorch Dataset of dicts": lambda tmp: torch_data(wrap=lambda image, label: {"image": image, "label": label}),
    "PyTorch Dataset of pictures": lambda tmp: torch_data(wrap=lambda image, label: (Image.fromarray(image), label)),
    "PyTorch IterableDataset": lambda tmp: torch_iterable(),
    "PyTorch DataLoader": lambda tmp: torch_data(batch=4),
    "PyTorch DataLoader of dicts": lambda tmp: torch_data(4, lambda image, label: {"x": image, "y": label}),
    "PyTorch DataLoader without collation": lambda tmp: torch_data(
        4, lambda image, label: (Image.fromarray(image), label), collate_fn=lambda batch: tuple(map(list, zip(*batch, strict=True)))
    ),
    "Grain MapDataset": lambda tmp: grain_map(),
    "Grain MapDataset of batches": lambda tmp: grain_map().batch(4),
    "Grain MapDataset, filtered": lambda tmp: grain_map().filter(lambda element: True),
    "Grain IterDataset": lambda tmp: grain_map().to_iter_dataset(),
    "Grain IterDataset of batches": lambda tmp: grain_map().to_iter_dataset().batch(4),
    "Grain DataLoader": lambda tmp: grain_loader(num_epochs=1),
    "WebDataset": lambda tmp: tar(tmp).decode("pil"),
    "WebDataset of tuples": lambda tmp: tar(tmp).decode("rgb8").to_tuple("png", "cls"),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_other_libraries_data_are_read_in_order_with_labels(kind, tmp_path):
    source = as_source(LABELLED[kind](tmp_path), ANY)
    for _ in range(2):  # each pass begins anew
        images = np.concatenate(list(source.in_order(5, scale=False)))
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, PIXELS)
    assert source.n_batches(4) == 3
    assert sum(map(len, source.batches(4, shuffle=True))) == COUNT
    labels = []
    for block in source.blocks(5):
        assert sum(map(len, block.batches(4))) == min(5, COUNT - 5 * block.index)
        labels.extend(np.asarray(block.labels).tolist())
    assert labels == LABELS


@pytest.mark.parametrize("kind", ["HDF5 by chunks", "Hugging Face", "PyTorch DataLoader", "Grain DataLoader", "WebDataset"])
def test_a_stack_trains_encodes_and_stores(kind, tmp_path):
    sae, data = Autoencoder(size=4, n_out=4, n_scalings=1), LABELLED[kind](tmp_path)
    sae.train(data, epochs=1, batch_size=4, validation_data=data, verbose=0)
    encodings = sae.encode(data[0] if isinstance(data, tuple) else data)
    np.testing.assert_allclose(encodings, sae.encode(PIXELS), atol=1e-5)
    assert sae.evaluate(data) == pytest.approx(sae.evaluate(PIXELS))
    store = sae.encode_to(tmp_path / "store", data, verbose=0)
    np.testing.assert_allclose(store[:], encodings, atol=1e-2)
    assert store.labels.tolist() == LABELS
    assert len(sae.encode_to(tmp_path / "store", data, verbose=0)) == COUNT  # known again
