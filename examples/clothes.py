"""Fashion-MNIST and MNIST for the examples, and the tables that they print."""

import argparse
import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # the files of Debian's package dataset-fashion-mnist
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
N_VALIDATION = 5000  # the last images of the training set
CHUNK = 1000  # images that are enlarged at once


class Data(NamedTuple):
    """A data set in three parts.

    Images are float32 arrays `(N, 28, 28, 1)` with values in [0, 1]. Labels are integers from 0 to 9, `(N,)`.
    """

    images: np.ndarray
    labels: np.ndarray
    valid_images: np.ndarray
    valid_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load(dataset: str = "fashion_mnist", count: int | None = None, enlarge: int = 1) -> Data:
    """Returns 55,000 training images, 5,000 validation images and 10,000 test images, with their labels.

    Fashion-MNIST is read from Debian's package if that is installed. Otherwise Keras downloads the data set once.

    Args:
        dataset: `"fashion_mnist"` or `"mnist"`.
        count: maximum number of images in each part.
        enlarge: factor by which height and width are enlarged, with bilinear interpolation.
    """
    if dataset == "fashion_mnist" and DEBIAN.is_dir():
        (images, labels), (test_images, test_labels) = (
            (
                _read_idx(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28),
                _read_idx(f"{part}-labels-idx1-ubyte.gz", 8),
            )
            for part in ("train", "t10k")
        )
    else:
        (images, labels), (test_images, test_labels) = getattr(keras.datasets, dataset).load_data()
    images, test_images = ((each / 255.0).astype(np.float32)[..., None] for each in (images, test_images))
    parts = (
        images[:-N_VALIDATION],
        labels[:-N_VALIDATION],
        images[-N_VALIDATION:],
        labels[-N_VALIDATION:],
        test_images,
        test_labels,
    )
    data = Data(*(part[:count] for part in parts))
    if enlarge == 1:
        return data
    return data._replace(**{name: _enlarge(getattr(data, name), enlarge) for name in Data._fields if "images" in name})


def parser(description: str, out: str, epochs: int) -> argparse.ArgumentParser:
    """Returns a parser of the arguments that all examples with these data sets have.

    Args:
        description: the docstring of the example.
        out: default output folder.
        epochs: default number of epochs.
    """
    argument_parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    argument_parser.add_argument("--dataset", choices=("fashion_mnist", "mnist"), default="fashion_mnist")
    argument_parser.add_argument("--out", type=Path, default=Path(out), help="output folder for pictures")
    argument_parser.add_argument("--epochs", type=int, default=epochs, help="number of training epochs")
    argument_parser.add_argument("--count", type=int, help="maximum number of training images, for a quick trial")
    return argument_parser


def add_enlarge(parser: argparse.ArgumentParser) -> None:
    """Adds the argument `--enlarge` to a parser."""
    parser.add_argument(
        "--enlarge", type=int, default=1, help="factor by which 28x28 images are enlarged; a power of 2"
    )


def compare(title: str, rows: list[tuple[str, str, str]]) -> None:
    """Prints a table of published and measured values; each row is `(name, published, measured)`."""
    header = (title, "published", "measured")
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(3)]
    print()
    for name, published, measured in (header, *rows):
        print(f"{name:{widths[0]}}  {published:>{widths[1]}}  {measured:>{widths[2]}}")


def print_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Prints a table of numbers. A value that a row lacks is left blank.

    Args:
        title: header of the first column.
        rows: `{name of the row: {name of the column: value}}`.
    """
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    width = max(len(name) for name in (title, *rows))
    print(f"\n{title:{width}}" + "".join(f"{name:>11}" for name in columns))
    for name, row in rows.items():
        cells = [f"{row[column]:11.4g}" if column in row else " " * 11 for column in columns]
        print(f"{name:{width}}{''.join(cells)}")


def _enlarge(images: np.ndarray, factor: int) -> np.ndarray:
    upsample = keras.layers.UpSampling2D(factor, interpolation="bilinear")
    chunks = (images[first : first + CHUNK] for first in range(0, len(images), CHUNK))
    return np.concatenate([np.asarray(upsample(chunk)) for chunk in chunks])


def _read_idx(name: str, header_size: int) -> np.ndarray:
    """Returns the bytes that follow the header of a compressed IDX file."""
    return np.frombuffer(gzip.decompress((DEBIAN / name).read_bytes()), np.uint8, offset=header_size)
