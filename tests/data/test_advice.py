"""Follows the advice of messages about folders, tables, pairs and other sources that no other test follows.

Each entry of a table has a call that fails, a part of its message, and calls that do what the message advises.
"""

import os
import re
import tomllib
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image

from stacked_autoencoder import Autoencoder, DenseLevel, ImageFolder
from stacked_autoencoder.data.adapters import as_pairs, as_source
from stacked_autoencoder.levels.stack import Stack
from tests.conftest import blobs
from tests.data.test_adapters import Batches
from tests.data.test_loaders import LABELS, hugging_face, torch_data
from tests.data.test_loaders import PIXELS as SMALL_PIXELS

ANY, GREY = (None, None, 3), (None, None, 1)
IMAGES = blobs(6)
PIXELS = np.rint((IMAGES + 1) * 127.5).astype(np.uint8)
slices = tf.data.Dataset.from_tensor_slices


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with three pictures of cats and three of dogs in `photos`, and copies in `targets`."""
    for folder in ("photos", "targets"):
        for index, image in enumerate(PIXELS):
            file = tmp_path / folder / ("cats", "dogs")[index % 2] / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, text):
    Path(name).write_text(text, encoding="utf-8")
    return name


def count(images, shape=ANY):
    return sum(map(len, as_source(images, shape).in_order(4)))


# === ImageFolder ===


def stray(name="photos/stray.png"):
    Image.fromarray(PIXELS[0]).save(name)
    return "photos"


def unsupported():
    Path("other").mkdir()
    Path("other/0.heic").write_bytes(b"?")
    return "other"


def converted():
    Image.fromarray(PIXELS[0]).save("other/0.png")
    Path("other/0.heic").unlink()
    return "other"


def damaged():
    for index in (0, 2):
        Path(f"photos/cats/{index}.png").write_bytes(b"?")
    return "photos"


def removed():
    for index in (0, 2):
        Path(f"photos/cats/{index}.png").unlink()
    return "photos"


def alone():
    Path("one").mkdir()
    Image.fromarray(PIXELS[0]).save("one/0.png")
    return "one"


def one_more():
    Image.fromarray(PIXELS[1]).save("one/1.png")
    return "one"


def pages():
    Path("scans").mkdir()
    with tifffile.TiffWriter("scans/0.tif") as file:
        for height in (16, 12):
            file.write(PIXELS[0, :height, :, 0], photometric="minisblack")
    return "scans"


FLIP = keras.layers.RandomFlip("horizontal")
FOLDERS = {
    "side and size": (
        lambda: ImageFolder("photos", side=8, size=(8, 8)),
        r"`side=64` means `size=\(64, 64\)`: pass only one",
        [(lambda: ImageFolder("photos", side=8), 6), (lambda: ImageFolder("photos", size=(8, 8)), 6)],
    ),
    "side and crop": (
        lambda: ImageFolder("photos", side=8, crop=8),
        r"pass only one of the two",
        [(lambda: ImageFolder("photos", side=8), 6), (lambda: ImageFolder("photos", crop=8), 6)],
    ),
    "size": (
        lambda: ImageFolder("photos", size=8),
        r"`size` must be `\(height, width\)`",
        [(lambda: ImageFolder("photos", size=(8, 12)), 6)],
    ),
    "fit without size": (
        lambda: ImageFolder("photos", fit="pad"),
        r"needs `size=\(height, width\)` as well",
        [(lambda: ImageFolder("photos", fit="pad", size=(8, 12)), 6)],
    ),
    "unknown fit": (
        lambda: ImageFolder("photos", size=(8, 12), fit="cover"),
        r"must be one of crop, pad, stretch",
        [(lambda fit=fit: ImageFolder("photos", size=(8, 12), fit=fit), 6) for fit in ("crop", "pad", "stretch")],
    ),
    "unknown pages": (
        lambda: ImageFolder("photos", pages="frames"),
        r"one of 'bands', 'pictures'",
        [(lambda kind=kind: ImageFolder("photos", pages=kind), 6) for kind in ("bands", "pictures")],
    ),
    "augmentation that is no layer": (
        lambda: ImageFolder("photos", augment=[FLIP, FLIP]),
        r"`keras\.layers\.RandomFlip\('horizontal'\)`; `keras\.Sequential\(\[…\]\)` combines several",
        [
            (lambda: ImageFolder("photos", augment=FLIP), 6),
            (lambda: ImageFolder("photos", augment=keras.Sequential([FLIP, FLIP])), 6),
        ],
    ),
    "augmentation that crops": (
        lambda: count(ImageFolder("photos", augment=keras.layers.RandomCrop(8, 8))),
        r"Change the size of pictures with `size` or `crop` of `ImageFolder`",
        [(lambda: ImageFolder("photos", crop=8, augment=FLIP), 6), (lambda: ImageFolder("photos", size=(8, 8)), 6)],
    ),
    "split without subset": (
        lambda: ImageFolder("photos", validation_split=0.2),
        r"`validation_split=0\.2` with `subset='training'` or `subset='validation'`",
        [
            (lambda: ImageFolder("photos", validation_split=0.2, subset="training"), 5),
            (lambda: ImageFolder("photos", validation_split=0.2, subset="validation"), 1),
        ],
    ),
    "split in percent": (
        lambda: ImageFolder("photos", validation_split=50, subset="training"),
        r"between 0 and 1",
        [(lambda: ImageFolder("photos", validation_split=0.5, subset="training"), 3)],
    ),
    "split of one picture": (
        lambda: ImageFolder(alone(), validation_split=0.2, subset="training"),
        r"at least two pictures.*Add pictures, or omit it",
        [
            (lambda: ImageFolder("one"), 1),
            (lambda: ImageFolder(one_more(), validation_split=0.2, subset="training"), 1),
        ],
    ),
    "classes without labels": (
        lambda: ImageFolder("photos", class_names=["cats"]),
        r"needs `labels=True` as well",
        [(lambda: ImageFolder("photos", class_names=["cats"], labels=True), 3)],
    ),
    "classes twice": (
        lambda: ImageFolder("photos", class_names=["cats", "cats"], labels=True),
        r"a list of different names of folders",
        [(lambda: ImageFolder("photos", class_names=["cats", "dogs"], labels=True), 6)],
    ),
    "unknown classes": (
        lambda: ImageFolder("photos", class_names=["Cats"], labels=True),
        r"The folders are 'cats', 'dogs'",
        [(lambda: ImageFolder("photos", class_names=["cats", "dogs"], labels=True), 6)],
    ),
    "a picture without a label": (
        lambda: ImageFolder(stray(), labels=True),
        r"stray\.png\. Move it, or omit `labels`",
        [
            (lambda: ImageFolder("photos"), 7),
            (
                lambda: [
                    Path("photos/stray.png").rename("photos/dogs/stray.png"),
                    ImageFolder("photos", labels=True),
                ][1],
                7,
            ),
        ],
    ),
    "two kinds of labels": (
        lambda: ImageFolder.from_table({"path": ["photos/cats/0.png"], "y": [1]}, label="y", labels=True),
        r"pass only one of the two",
        [
            (lambda: ImageFolder.from_table({"path": ["photos/cats/0.png"], "y": [1]}, label="y"), 1),
            (lambda: ImageFolder("photos", labels=True), 6),
        ],
    ),
    "only unsupported pictures": (
        lambda: ImageFolder(unsupported()),
        r"There are other files, 1 \.heic: convert them",
        [(lambda: ImageFolder(converted()), 1)],
    ),
    "too many damaged pictures": (
        lambda: count(damaged()),
        r"Repair or remove them",
        [(lambda: ImageFolder(removed()), 4)],
    ),
    "a size for which the stack was not made": (
        lambda: count("photos", (8, 12, 3)),
        r"`ImageFolder\(path, size=\(8, 12\)\)` resizes pictures",
        [(lambda: ImageFolder("photos", size=(8, 12)), 6)],
    ),
    "pages of several sizes": (
        lambda: count(pages(), GREY),
        r"`pages=\"pictures\"` takes each page as a picture",
        [(lambda: ImageFolder("scans", pages="pictures"), 2)],
    ),
    # === Paths ===
    "a missing folder": (
        lambda: ImageFolder("photo"),
        r"This folder or file does not exist, and relative paths start at",
        [(lambda: ImageFolder("photos"), 6), (lambda: ImageFolder(os.path.abspath("photos")), 6)],
    ),
    "gaps in a list": (
        lambda: ImageFolder(["photos/cats/0.png", None]),
        r"Leave out items without a picture",
        [(lambda: ImageFolder(["photos/cats/0.png"]), 1)],
    ),
    "missing files": (
        lambda: ImageFolder(["photos/cats/0.png", "x.png"]),
        r"Leave out those that are missing, or pass images as arrays",
        [(lambda: ImageFolder(["photos/cats/0.png"]), 1), (lambda: PIXELS, 6)],
    ),
    "files that are no pictures": (
        lambda: ImageFolder(["photos/cats/0.png", write("notes.txt", "?")]),
        r"Leave the others out, or convert them",
        [(lambda: ImageFolder(["photos/cats/0.png"]), 1)],
    ),
    "a file twice": (
        lambda: ImageFolder(["photos", "photos/cats/0.png"]),
        r"Name each of them once; a folder stands for all pictures in it",
        [(lambda: ImageFolder(["photos"]), 6), (lambda: ImageFolder(["photos/cats/0.png", "photos/dogs"]), 4)],
    ),
    # === Tables ===
    "a misspelled column": (
        lambda: ImageFolder.from_table({"file": ["photos/cats/0.png"]}, path="fille"),
        r"did you mean 'file'\?",
        [(lambda: ImageFolder.from_table({"file": ["photos/cats/0.png"]}, path="file"), 1)],
    ),
    "no column of paths": (
        lambda: ImageFolder.from_table({"file": ["cats/0.png"]}),
        r"`ImageFolder\.from_table\(table, path=…, root=…\)`",
        [(lambda: ImageFolder.from_table({"file": ["cats/0.png"]}, path="file", root="photos"), 1)],
    ),
    "empty cells": (
        lambda: ImageFolder.from_table({"file": ["photos/cats/0.png", "photos/cats/2.png"], "y": [1, None]}, label="y"),
        r"Fill the cells, or leave these rows out",
        [
            (lambda: ImageFolder.from_table({"file": ["photos/cats/0.png"], "y": [1]}, label="y"), 1),
            (
                lambda: ImageFolder.from_table(
                    {"file": ["photos/cats/0.png", "photos/cats/2.png"], "y": [1, 0]}, label="y"
                ),
                2,
            ),
        ],
    ),
    "labels of two kinds": (
        lambda: ImageFolder.from_table({"file": ["photos/cats/0.png", "photos/cats/2.png"], "y": ["a", 3]}, label="y"),
        r"`table\['y'\] = \[str\(label\) for label in table\['y'\]\]`",
        [
            (
                lambda: ImageFolder.from_table(
                    {"file": ["photos/cats/0.png", "photos/cats/2.png"], "y": [str(label) for label in ("a", 3)]},
                    label="y",
                ),
                2,
            )
        ],
    ),
    "a column name twice": (
        lambda: ImageFolder(write("t.csv", "path,path\nphotos/cats/0.png,1\n")),
        r"different column names in its first line",
        [(lambda: ImageFolder(write("t.csv", "path,y\nphotos/cats/0.png,1\n")), 1)],
    ),
    "no column names": (
        lambda: ImageFolder(write("t.csv", "photos/cats/0.png,1\nphotos/cats/2.png,1\n")),
        r"insert a line such as `path,label`",
        [(lambda: ImageFolder(write("t.csv", "path,label\nphotos/cats/0.png,1\nphotos/cats/2.png,1\n")), 2)],
    ),
    "a comma in a value": (
        lambda: ImageFolder(write("t.csv", "path,label\nphotos/cats/0.png,a,b\n")),
        r"Put values that contain ',' in quotes",
        [(lambda: ImageFolder(write("t.csv", 'path,label\nphotos/cats/0.png,"a,b"\n')), 1)],
    ),
    "another encoding of text": (
        lambda: [Path("t.csv").write_bytes("path,y\nphotos/cats/0.png,é\n".encode("latin-1")), ImageFolder("t.csv")],
        r"Save it as UTF-8",
        [(lambda: ImageFolder(write("t.csv", "path,y\nphotos/cats/0.png,é\n")), 1)],
    ),
    "no table": (
        lambda: ImageFolder.from_table(["photos/cats/0.png"]),
        r"path of a CSV file, a DataFrame or a dict of columns",
        [(lambda: ImageFolder.from_table({"file": ["photos/cats/0.png"]}), 1)],
    ),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_advice_about_folders_works(here, kind):
    call, message, followed = FOLDERS[kind]
    with pytest.raises((ValueError, FileNotFoundError), match=f"(?s){message}"):
        call()
    for images, number in followed:
        assert count(images(), GREY if kind.startswith("pages") else ANY) == number


def test_the_advice_of_warnings_about_folders_works(here, monkeypatch):
    Path("photos/0.heic").write_bytes(b"?")
    with pytest.warns(UserWarning, match=r"Convert them, for example to PNG"):
        ImageFolder("photos")
    Path("photos/0.heic").rename("0.heic")
    Image.fromarray(PIXELS[0]).save("photos/0.png")
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "dogs":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match=r"make the folders readable"):
        assert len(ImageFolder("photos")) == 4
    monkeypatch.undo()
    monkeypatch.chdir(here)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(ImageFolder("photos")) == 7


# === Arrays, datasets, data of other libraries ===


def generator():
    yield from PIXELS


class Pairs(Batches):
    """A PyDataset of pairs of images."""

    def __init__(self, alone=False):
        super().__init__(IMAGES, labels=IMAGES)
        self.alone = alone

    def __getitem__(self, index):
        inputs, targets = super().__getitem__(index)
        return inputs if self.alone else (inputs, targets)


def torch_without_length(has_length):
    data = pytest.importorskip("torch").utils.data

    class Photos(data.Dataset):
        def __getitem__(self, index):
            return PIXELS[index]

    if has_length:
        Photos.__len__ = lambda self: len(PIXELS)
    return Photos()


def table_of_lists():
    return hugging_face(pixels=SMALL_PIXELS.tolist(), label=LABELS)


def mapped(row):
    return {"image": Image.fromarray(np.array(row["pixels"], np.uint8))}


def boxes(image, label):
    return image, [label] * (label % 2 + 1)


def collate_boxes(batch):
    images, labels = zip(*batch, strict=True)
    return np.stack(images), [*map(np.array, labels), None]


SOURCES = {
    "a PyDataset of pairs": (
        lambda: as_source(Pairs(), ANY),
        r"Pass the first element alone, a PyDataset that yields it.*pass the pairs to `train`.*`targets=`",
        [lambda: Pairs(alone=True), lambda: as_pairs(Pairs(), None, ANY).inputs],
        6,
    ),
    "an infinite dataset": (
        lambda: as_source(slices(IMAGES).repeat(), ANY, finite="images"),
        r"limit it with `\.take\(count\)`",
        [lambda: as_source(slices(IMAGES).repeat().take(6), ANY, finite="images")],
        6,
    ),
    "a generator": (
        lambda: as_source(generator(), ANY),
        r"`list\(images\)`, or to a dataset, `tf\.data\.Dataset\.from_generator\(function, output_signature="
        r"tf\.TensorSpec\(\(None, None, 3\), tf\.uint8\)\)`",
        [
            lambda: list(generator()),
            lambda: tf.data.Dataset.from_generator(
                generator, output_signature=tf.TensorSpec((None, None, 3), tf.uint8)
            ),
        ],
        6,
    ),
    "a PyDataset of single images": (
        lambda: as_source(Batches(IMAGES[:, 0]), ANY),
        r"must yield batches \(N, H, W, C\)",
        [lambda: Batches(IMAGES)],
        6,
    ),
    "uint8 and floats in a list": (
        lambda: as_source([PIXELS[0], IMAGES[1]], ANY),
        r"convert all of them to uint8 or all to float32",
        [lambda: [PIXELS[0], PIXELS[1]], lambda: [IMAGES[0], IMAGES[1]]],
        2,
    ),
    "uint8 and floats in a data set": (
        lambda: count(torch_data(wrap=lambda image, label: image if label < 105 else image / np.float32(255))),
        r"convert all of them to uint8 or all to float32",
        [lambda: torch_data(wrap=lambda image, label: image / np.float32(255))],
        11,
    ),
    "a PyTorch Dataset without a length": (
        lambda: as_source(torch_without_length(has_length=False), ANY),
        r"define `__len__` in its class, or use an IterableDataset",
        [lambda: torch_without_length(has_length=True)],
        6,
    ),
    "columns of lists": (
        lambda: as_source(table_of_lists(), ANY),
        r"make one with `\.map` or `\.cast_column`",
        [lambda: table_of_lists().map(mapped)],
        11,
    ),
    "labels of different lengths": (
        lambda: count(torch_data(2, boxes, collate_fn=collate_boxes)),
        r"must be numbers, texts or arrays.*return an image, or `\(image, label\)`, from.*`collate_fn`",
        [lambda: torch_data(2, boxes, collate_fn=lambda batch: np.stack([image for image, _ in batch]))],
        11,
    ),
    "images as labels": (
        lambda: as_source(torch_data(wrap=lambda image, label: (image, image)), ANY),
        r"pass both as arrays, `train\(images, targets=targets\)`.*pass a data set that yields only the first",
        [
            lambda: torch_data(wrap=lambda image, label: image),
            lambda: as_pairs(SMALL_PIXELS, SMALL_PIXELS, ANY).inputs,
            lambda: as_pairs(slices((SMALL_PIXELS, SMALL_PIXELS)), None, ANY).inputs,
        ],
        11,
    ),
    # === Pairs ===
    "batched in different ways": (
        lambda: list(as_pairs(slices(IMAGES).batch(3), slices(IMAGES).batch(2).take(2), ANY).in_order(2)),
        r"Batch both in the same way, or neither \(`dataset\.unbatch\(\)`\)",
        [
            lambda: as_pairs(slices(IMAGES).batch(3), slices(IMAGES).batch(3), ANY).inputs,
            lambda: as_pairs(slices(IMAGES).batch(3).unbatch(), slices(IMAGES).batch(2).unbatch(), ANY).inputs,
        ],
        6,
    ),
    "a folder and an array": (
        lambda: as_pairs("photos", IMAGES, ANY),
        r"the targets must be a folder of pictures with the same names\. Otherwise, pass arrays or datasets for both",
        [
            lambda: as_pairs("photos", "targets", ANY).inputs,
            lambda: as_pairs(PIXELS, IMAGES, ANY).inputs,
            lambda: as_pairs(slices(PIXELS), slices(IMAGES), ANY).inputs,
        ],
        6,
    ),
    "folders of two sizes": (
        lambda: as_pairs(ImageFolder("photos", side=8), "targets", ANY),
        r"`ImageFolder`s with the same `size`, `fit` and `crop`",
        [lambda: as_pairs(ImageFolder("photos", side=8), ImageFolder("targets", side=8), ANY).inputs],
        6,
    ),
    "augmented pairs": (
        lambda: as_pairs(ImageFolder("photos", augment=FLIP), "targets", ANY),
        r"omit it in both folders, and augment the pairs in a `tf\.data\.Dataset`",
        [
            lambda: as_pairs("photos", "targets", ANY).inputs,
            lambda: (
                as_pairs(
                    slices((PIXELS, PIXELS)).map(lambda *pair: tf.unstack(tf.image.random_flip_left_right(pair))),
                    None,
                    ANY,
                ).inputs
            ),
        ],
        6,
    ),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_advice_about_sources_works(here, kind):
    call, message, followed, number = SOURCES[kind]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
    for images in followed:
        assert count(images()) == number


def test_the_advice_about_pairs_of_folders_works(here):
    Path("targets/cats/0.png").rename("targets/cats/7.png")
    with pytest.raises(ValueError, match=r"rename them, or remove those without a partner"):
        as_pairs("photos", "targets", ANY)
    Path("photos/cats/0.png").rename("photos/cats/7.png")
    assert count(as_pairs("photos", "targets", ANY).inputs) == 6
    Path("targets/cats/7.png").unlink()
    with pytest.raises(ValueError, match=r"remove those without a partner"):
        as_pairs("photos", "targets", ANY)
    Path("photos/cats/7.png").unlink()
    assert count(as_pairs("photos", "targets", ANY).inputs) == 5
    Image.fromarray(PIXELS[1, :12]).save("targets/dogs/1.png")
    with pytest.raises(
        ValueError, match=r"resize one of the two, or pass both folders as `ImageFolder\(path, side=…\)`"
    ):
        list(as_pairs("photos", "targets", ANY).in_order(4))
    folders = ImageFolder("photos", side=8), ImageFolder("targets", side=8)
    assert sum(len(inputs) for inputs, _ in as_pairs(*folders, ANY).in_order(4)) == 5


def test_the_advice_for_vectors_works(here):
    sae = Autoencoder(shape=(4,), levels=[DenseLevel(2)])
    with pytest.raises(ValueError, match=r"made for vectors \(features\): pass an array or a dataset"):
        sae.encode("photos")
    vectors = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    assert sae.encode(vectors).shape == sae.encode(slices(vectors).batch(4)).shape == (9, 2)


def test_the_advice_for_complex_and_masked_images_works():
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (6, 16, 16)) * (1 + 1j)
    with pytest.raises(ValueError, match=r"`np\.abs\(images\)`, or `images\.real` and `images\.imag` as two channels"):
        as_source(values, (None, None, 2))
    assert count(np.stack([values.real, values.imag], axis=-1), (None, None, 2)) == 6
    masked = np.ma.masked_greater(IMAGES, 0.5)
    with pytest.raises(ValueError, match=r'`missing="ignore"`'):
        as_source(masked, ANY)
    assert sum(map(len, as_source(masked, **Stack(ANY, missing="ignore").source_options).in_order(4))) == 6


def test_extras_in_messages_exist():
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {
        name
        for file in (root / "stacked_autoencoder").rglob("*.py")
        for name in re.findall(r"stacked_autoencoder\[(\w+)\]", file.read_text(encoding="utf-8"))
    }
    assert {"tiff", "examples"} <= named <= {*extras}
