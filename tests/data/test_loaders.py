"""Data of other libraries, each with the real one."""

import gc
import io
import tarfile
import weakref

import keras
import numpy as np
import pytest
from PIL import Image

from stacked_autoencoder import Autoencoder
from stacked_autoencoder.data import rows as rows_module
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.utils.value_range import UNLIMITED
from tests.conftest import run_elsewhere

# WebDataset leaves closing its files to Python.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

ANY = (None, None, 3)
COUNT = 11
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3)).astype(np.uint8)
SCALED = (PIXELS / 127.5 - 1).astype(np.float32)
LABELS = list(range(100, 100 + COUNT))


def hdf5(tmp_path, **options):
    file = pytest.importorskip("h5py").File(tmp_path / "images.h5", "w")
    file.create_dataset("images", data=PIXELS, **options)
    file["labels"] = LABELS
    return file


def zarr_array(tmp_path, **options):
    array = pytest.importorskip("zarr").create_array(
        tmp_path / "images.zarr", shape=PIXELS.shape, dtype="uint8", **options
    )
    array[:] = PIXELS
    return array


def zarr_labels(tmp_path):
    return pytest.importorskip("zarr").create_array(tmp_path / "labels.zarr", data=np.array(LABELS))


def pictures():
    return [Image.fromarray(image) for image in PIXELS]


def hugging_face(**columns):
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict(columns or {"image": pictures(), "label": LABELS})


def hugging_face_array():
    datasets = pytest.importorskip("datasets")
    features = {"pixels": datasets.Array3D((8, 8, 3), "uint8"), "label": datasets.Value("int64")}
    return datasets.Dataset.from_dict({"pixels": list(PIXELS), "label": LABELS}, features=datasets.Features(features))


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
    "Zarr and labels": lambda tmp: (zarr_array(tmp, chunks=(3, 8, 8, 3)), zarr_labels(tmp)),
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
        4,
        lambda image, label: (Image.fromarray(image), label),
        collate_fn=lambda batch: tuple(map(list, zip(*batch, strict=True))),
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


@pytest.mark.parametrize(
    ("kind", "epochs"),
    [("HDF5 by chunks", 1), ("Hugging Face", 0), ("PyTorch DataLoader", 1), ("Grain DataLoader", 0), ("WebDataset", 0)],
)
def test_a_stack_trains_encodes_and_stores(kind, epochs, tmp_path):
    sae, data = Autoencoder(size=4, n_out=4, n_scalings=1), LABELLED[kind](tmp_path)
    sae.train(data, epochs=epochs, batch_size=4, validation_data=data, verbose=0)
    encodings = sae.encode(data)
    np.testing.assert_allclose(encodings, sae.encode(PIXELS), atol=1e-5)
    assert sae.evaluate(data) == pytest.approx(sae.evaluate(PIXELS))
    store = sae.encode_to(tmp_path / "store", data, verbose=0)
    np.testing.assert_allclose(store[:], encodings, atol=1e-2)
    assert store.labels.tolist() == LABELS
    assert len(sae.encode_to(tmp_path / "store", data, verbose=0)) == COUNT  # known again


# === Files by chunks ===


@pytest.fixture
def small_spans(monkeypatch):
    """As if the images were large: few are read at once, and few are mixed."""
    image = PIXELS[0].nbytes
    for name, count in (("SPAN_BYTES", 2), ("UNIT_BYTES", 1), ("WINDOW_BYTES", 4)):
        monkeypatch.setattr(rows_module, name, count * image)


@pytest.mark.parametrize(("chunk", "span"), [(None, 2), (2, 2), (3, 3)])
def test_a_file_is_read_in_slices_and_no_chunk_twice(chunk, span, small_spans, tmp_path, monkeypatch):
    data = hdf5(tmp_path, **({} if chunk is None else {"chunks": (chunk, 8, 8, 3)}))["images"]
    source, slices = as_source(data, ANY), []
    read = type(source.rows).read
    monkeypatch.setattr(type(source.rows), "read", lambda self, rows: slices.append(rows) or read(self, rows))
    whole = [range(start, min(start + span, COUNT)) for start in range(0, COUNT, span)]
    for _ in source.in_order(4):
        pass
    assert slices == whole
    slices.clear()
    for block in source.blocks(1):  # shorter than a chunk
        assert len(block.fingerprint()) == 64
    assert slices == whole
    slices.clear()
    assert sum(map(len, source.batches(4, shuffle=True))) == COUNT
    assert sorted(slices, key=lambda rows: rows[0]) == [
        range(start, min(start + (chunk or 1), COUNT)) for start in range(0, COUNT, chunk or 1)
    ]


@pytest.mark.parametrize("kind", ["HDF5", "Hugging Face"])
def test_every_epoch_is_shuffled_anew_complete_and_fixed_by_the_seed(kind, small_spans, tmp_path):
    data = hugging_face() if kind == "Hugging Face" else hdf5(tmp_path, chunks=(2, 8, 8, 3))["images"]

    def two_epochs():
        keras.utils.set_random_seed(3)
        batches = as_source(data, ANY).dataset(4, shuffle=True).repeat(2).as_numpy_iterator()
        images = np.concatenate(list(batches))
        order = [int(np.argmin(np.abs(images[i] - SCALED).sum((1, 2, 3)))) for i in range(len(images))]
        return order[:COUNT], order[COUNT:]

    first, second = two_epochs()
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert len({tuple(first), tuple(second), tuple(range(COUNT))}) == 3
    assert two_epochs() == (first, second)


def test_a_block_of_a_part_reads_no_more_than_it_needs(small_spans, tmp_path):
    source = as_source(hdf5(tmp_path)["images"], ANY)
    for block in source.blocks(4):
        if block.index == 1:
            np.testing.assert_array_equal(np.concatenate(list(block.batches(4))), PIXELS[4:8])


# === Pictures and sizes ===


def picture(mode):
    if mode == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        Image.fromarray(PIXELS[0, :6]).save(buffer, "png", exif=exif)
        return Image.open(buffer)
    if mode in ("LA", "RGBA"):
        alpha = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
        return Image.merge(mode, [*Image.fromarray(PIXELS[0]).convert(mode[:-1]).split(), Image.fromarray(alpha)])
    return Image.fromarray(PIXELS[0]).convert(mode)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "turned"])
def test_pictures_are_converted_as_those_of_a_folder(mode, channels, tmp_path):
    image = picture(mode)
    (tmp_path / "folder").mkdir()
    image.save(tmp_path / "folder" / "0.png", exif=image.getexif())
    shape = (None, None, channels)
    (expected,) = as_source(tmp_path / "folder", shape).in_order(1, scale=False)
    file = hugging_face(image=[str(tmp_path / "folder" / "0.png")])
    file = file.cast_column("image", pytest.importorskip("datasets").Image())
    for data in (file, torch_data(wrap=lambda *_: image)):
        actual = next(iter(as_source(data, shape).in_order(1, scale=False)))
        np.testing.assert_allclose(actual[:1].astype(int), expected, atol=1)


@pytest.mark.parametrize("kind", ["rows", "elements"])
def test_images_of_several_sizes_come_in_batches_of_one_size(kind):
    sizes = [(8, 8), (12, 8), (8, 8), (8, 8), (12, 8)]
    images = [Image.fromarray(np.full((*size, 3), index, np.uint8)) for index, size in enumerate(sizes)]
    data = hugging_face(image=images)
    source = as_source(data if kind == "rows" else data.to_iterable_dataset(), ANY)
    assert [int(image[0, 0, 0]) for batch in source.in_order(2, scale=False) for image in batch] == [0, 1, 2, 3, 4]
    for shuffle in (False, True):
        assert sorted(batch.shape[:3] for batch in source.batches(2, shuffle=shuffle)) == [
            (1, 8, 8),
            (2, 8, 8),
            (2, 12, 8),
        ]
    assert source.n_batches(2) == 3


@pytest.mark.parametrize("rank", [1, 2])
def test_vectors_and_sequences(rank, tmp_path):
    datasets = pytest.importorskip("datasets")
    values = np.random.default_rng(0).normal(size=(COUNT, 4, 3)[: rank + 1]).astype(np.float32)
    feature = datasets.Array2D((4, 3), "float32") if rank == 2 else datasets.Sequence(datasets.Value("float32"))
    table = hugging_face(x=list(values), y=LABELS).cast(datasets.Features({"x": feature, "y": datasets.Value("int64")}))
    file = pytest.importorskip("h5py").File(tmp_path / "values.h5", "w")
    file["values"] = values
    shape = (None, 3) if rank == 2 else values.shape[1:]
    for data in (file["values"], table, table.to_iterable_dataset()):
        source = as_source(data, shape, values=UNLIMITED)
        np.testing.assert_array_equal(np.concatenate(list(source.in_order(4))), values)


def test_several_columns_are_a_dict_of_each_image():
    data = hugging_face(image=pictures(), label=LABELS, name=[str(each) for each in LABELS])
    block = next(blocks := as_source(data, ANY).blocks(COUNT))
    assert sum(map(len, block.batches(4))) == COUNT
    blocks.close()
    assert {name: column.tolist() for name, column in block.labels.items()} == {
        "label": list(LABELS),
        "name": [str(each) for each in LABELS],
    }


# === What can't be used: the advice is followed ===


def channels_first(image, label):
    return pytest.importorskip("torch").from_numpy(image).movedim(-1, -3), label


def torch_tensor(image, label):
    return channels_first(image, label)[0].movedim(-3, -1), label


ADVICE = {
    "PyTorch, channels-first": (
        lambda tmp: torch_data(wrap=channels_first),
        r"channels-first \(C, H, W\).*`image\.movedim\(-3, -1\)`.*shape=\(3, 8, 8\)",
        lambda tmp: torch_data(wrap=torch_tensor),
    ),
    "PyTorch batches, channels-first": (
        lambda tmp: torch_data(4, channels_first),
        r"channels-first.*shape=\(4, 3, 8, 8\)",
        lambda tmp: torch_data(4, torch_tensor),
    ),
    "Hugging Face, channels-first": (
        lambda tmp: hugging_face().with_transform(
            lambda batch: {"x": [np.moveaxis(np.asarray(each), -1, 0) for each in batch["image"]]}
        ),
        r"leave out.*`\.with_transform`",
        lambda tmp: hugging_face(),
    ),
    "Grain, channels-first": (
        lambda tmp: grain_map().map(lambda element: np.moveaxis(element[0], -1, 0)),
        r"`\.map\(lambda image: np\.moveaxis\(image, -3, -1\)\)`",
        lambda tmp: (
            grain_map()
            .map(lambda element: np.moveaxis(element[0], -1, 0))
            .map(lambda image: np.moveaxis(image, -3, -1))
        ),
    ),
    "WebDataset, undecoded": (
        lambda tmp: tar(tmp),
        r"no entries that can be images.*`\.decode\(\"pil\"\)\.to_tuple\(\"jpg\", \"cls\"\)`.*'png': bytes",
        lambda tmp: tar(tmp, "jpg").decode("pil").to_tuple("jpg", "cls"),
    ),
    "WebDataset, channels-first": (
        lambda tmp: tar(tmp).decode("torchrgb8").to_tuple("png"),
        r"`\.map_tuple\(lambda image: image\.movedim\(-3, -1\)\)`",
        lambda tmp: tar(tmp).decode("torchrgb8").to_tuple("png").map_tuple(lambda image: image.movedim(-3, -1)),
    ),
    "Grain, dicts of two images": (
        lambda tmp: grain_map().map(lambda element: {"image": element[0], "other": element[0], "label": element[1]}),
        r"2 entries that can be images.*`\.map\(lambda element: \(element\[\"image\"\], element\[\"label\"\]\)\)`",
        lambda tmp: (
            grain_map()
            .map(lambda element: {"image": element[0], "other": element[0], "label": element[1]})
            .map(lambda element: (element["image"], element["label"]))
        ),
    ),
    "Grain, MapDataset without end": (
        lambda tmp: grain_map().repeat(),
        r"infinite grain MapDataset: leave out `\.repeat\(\)`",
        lambda tmp: grain_map(),
    ),
    "Grain, loader without end": (
        lambda tmp: grain_loader(),
        r"infinite grain DataLoader: pass `num_epochs=1`",
        lambda tmp: grain_loader(num_epochs=1),
    ),
    "Hugging Face, two images": (
        lambda tmp: hugging_face(image=pictures(), other=pictures(), label=LABELS),
        r"2 columns of images \(H, W, C\).*`\.select_columns`.*image \(Image\), other \(Image\), label \(Value\)",
        lambda tmp: hugging_face(image=pictures(), other=pictures(), label=LABELS).select_columns(["image", "label"]),
    ),
    "Hugging Face, lists": (
        lambda tmp: hugging_face(pixels=PIXELS.tolist()),
        r"no columns of images.*`\.cast_column`.*pixels \(List\)",
        lambda tmp: hugging_face(pixels=PIXELS.tolist()).cast_column(
            "pixels", pytest.importorskip("datasets").Array3D((8, 8, 3), "uint8")
        ),
    ),
    "Hugging Face, splits": (
        lambda tmp: pytest.importorskip("datasets").DatasetDict(train=hugging_face()),
        r"pass one of its splits, `images\[name\]`\. Received: train",
        lambda tmp: pytest.importorskip("datasets").DatasetDict(train=hugging_face())["train"],
    ),
    "HDF5 file": (
        lambda tmp: hdf5(tmp).file,
        r"one of its arrays, `images\[name\]`.*'images', 'labels'",
        lambda tmp: hdf5(tmp)["images"],
    ),
    "Zarr group": (
        lambda tmp: zarr_group(tmp),
        r"one of its arrays, `images\[name\]`.*'images'",
        lambda tmp: zarr_group(tmp)["images"],
    ),
    "HDF5, one image": (
        lambda tmp: one_image(tmp),
        r"add the batch axis with `image\[None\]`",
        lambda tmp: one_image(tmp)[:][None],
    ),
    "HDF5, too few labels": (
        lambda tmp: (hdf5(tmp)["images"], LABELS[1:]),
        r"one label per image.*11 images, 10 labels",
        lambda tmp: (hdf5(tmp)["images"], LABELS),
    ),
    "Grain, filtered": (
        lambda tmp: grain_map().filter(lambda element: element[1] != 105),
        r"with items that are None.*`images\.to_iter_dataset\(\)`.*None as item 5",
        lambda tmp: grain_map().filter(lambda element: element[1] != 105).to_iter_dataset(),
    ),
    "generator": (
        lambda tmp: (image for image in PIXELS),
        r"is an iterator.*`list\(images\)`",
        lambda tmp: list(image for image in PIXELS),  # noqa: C400
    ),
    "iterator of a loader": (
        lambda tmp: iter(torch_data(4)),
        r"is an iterator.*not `iter\(loader\)`",
        lambda tmp: torch_data(4),
    ),
    "batch of several sizes": (
        lambda tmp: torch_data(4, pieces, collate_fn=lambda batch: ([image for image, _ in batch], LABELS[:4])),
        r"a batch must have one size: .*omit the batching",
        lambda tmp: torch_data(wrap=pieces),
    ),
}


def pieces(image, label):
    return (image[: 4 + label % 2 * 4], label)


def zarr_group(tmp_path):
    group = pytest.importorskip("zarr").create_group(tmp_path / "group.zarr", overwrite=True)
    group.create_array("images", data=PIXELS)
    return group


def one_image(tmp_path):
    file = hdf5(tmp_path)
    file["one"] = PIXELS[0]
    return file["one"]


@pytest.mark.parametrize("kind", ADVICE)
def test_what_can_not_be_used_gets_advice_that_works(kind, tmp_path):
    data, text, followed = ADVICE[kind]
    with pytest.raises(ValueError, match=f"(?s){text}"):
        list(as_source(data(tmp_path), ANY).in_order(4))
    images = [image for batch in as_source(followed(tmp_path), ANY).in_order(4) for image in batch]
    assert len(images) in (1, COUNT - 1, COUNT)


WRONG = {
    "integers": (lambda tmp: torch_data(wrap=lambda image, label: (image.astype(np.int64), label)), r"dtype=int64"),
    "floats of 0 to 255": (
        lambda tmp: torch_data(4, wrap=lambda image, label: (image.astype(np.float32), label)),
        r"look like pixels of 0 to 255",
    ),
    "another dtype later": (
        lambda tmp: torch_data(wrap=lambda image, label: (image if label < 105 else image / np.float32(255), label)),
        r"share one dtype.*uint8 first, float32 as image 5",
    ),
    "another dtype later, in a stream": (
        lambda tmp: torch_data(1, wrap=lambda image, label: (image if label < 105 else image / np.float32(255), label)),
        r"dtype of the first element.*uint8",
    ),
    "boxes as labels": (
        lambda tmp: torch_data(2, wrap=lambda image, label: (image, [label] * (label % 2 + 1)), collate_fn=collated),
        r"labels of a torch DataLoader must be numbers, texts.*Received: list",
    ),
    "another size later": (
        lambda tmp: torch_data(wrap=lambda image, label: (image[: 113 - label], label)),
        r"at least 4",
    ),
    "no images": (lambda tmp: torch_data(wrap=lambda image, label: "photo.png"), r"`__getitem__`.*Received: str"),
    "an empty file": (lambda tmp: empty_file(tmp), r"`images` is empty"),
}


def collated(batch):
    images, labels = zip(*batch, strict=True)
    return np.stack(images), [*map(np.array, labels), None]


def empty_file(tmp_path):
    file = hdf5(tmp_path)
    return file.create_dataset("none", (0, 8, 8, 3), "uint8")


@pytest.mark.parametrize("kind", WRONG)
def test_errors_are_those_of_other_images(kind, tmp_path):
    data, text = WRONG[kind]
    sae = Autoencoder(size=4, n_out=4, n_scalings=2)
    for use in (lambda data: sae.train(data, epochs=0, verbose=0), lambda data: sae.encode_to(tmp_path / "s", data)):
        with pytest.raises(ValueError, match=f"(?s){text}"):
            use(data(tmp_path))


@pytest.mark.parametrize("batch", [None, 4])
def test_an_error_of_the_library_is_raised_as_it_was(batch, tmp_path):
    def broken(image, label):
        if label == 107:
            raise KeyError("mine")
        return image, label

    sae = Autoencoder(size=4, n_out=4, n_scalings=1)
    with pytest.raises(KeyError, match="mine"):
        sae.encode_to(tmp_path / "store", torch_data(batch, broken), verbose=0)
    with pytest.raises(KeyError, match="mine"):
        sae.train(torch_data(batch, broken), epochs=1, verbose=0)


def test_libraries_are_imported_by_who_uses_them():
    run_elsewhere(
        "import sys\nimport numpy as np\nfrom stacked_autoencoder import Autoencoder\n"
        "Autoencoder(size=4).encode(np.zeros((2, 8, 8, 3), np.uint8))\n"
        "assert not {'torch', 'datasets', 'zarr', 'grain', 'webdataset'} & {*sys.modules}"
    )


def test_a_loader_is_released():
    data = torch_data(4)
    gone = weakref.ref(data)
    source = as_source(data, ANY)
    assert sum(map(len, source.batches(4))) == COUNT
    del data, source
    gc.collect()
    assert gone() is None
