"""Fashion-MNIST (or MNIST) for the examples, and the table that they end in."""

import argparse
import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


class Data(NamedTuple):
    """Images are float32 in [0, 1], `(N, 28, 28, 1)`; labels whole numbers from 0 to 9, `(N,)`."""

    images: np.ndarray
    labels: np.ndarray
    valid_images: np.ndarray
    valid_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load(dataset: str = "fashion_mnist", count: int | None = None, enlarge: int = 1) -> Data:
    """55,000 images to train on, 5,000 to choose by, 10,000 to judge by.

    Fashion-MNIST is read from Debian's package if it is there; otherwise Keras downloads it, or MNIST, once.

    Args:
        dataset: `"fashion_mnist"` or `"mnist"`.
        count: of training images at most; as many of the others.
        enlarge: how many times as wide and high images are to be, in straight lines between pixels.
    """
    if dataset == "fashion_mnist" and DEBIAN.is_dir():
        (images, labels), (test_images, test_labels) = (
            (_idx(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28), _idx(f"{part}-labels-idx1-ubyte.gz", 8))
            for part in ("train", "t10k")
        )
    else:
        (images, labels), (test_images, test_labels) = getattr(keras.datasets, dataset).load_data()
    images, test_images = ((each / 255.0).astype(np.float32)[..., None] for each in (images, test_images))
    whole = images[:-5000], labels[:-5000], images[-5000:], labels[-5000:], test_images, test_labels
    data = Data(*(each[:count] for each in whole))
    if enlarge == 1:
        return data
    return data._replace(**{name: _enlarged(getattr(data, name), enlarge) for name in Data._fields if "images" in name})


def parser(description: str, out: str, epochs: int) -> argparse.ArgumentParser:
    """The arguments that all of these examples have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--dataset", choices=("fashion_mnist", "mnist"), default="fashion_mnist")
    made.add_argument("--out", type=Path, default=Path(out), help="folder for pictures")
    made.add_argument("--epochs", type=int, default=epochs)
    made.add_argument("--count", type=int, help="of training images at most, to try it out")
    return made


def add_enlarge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--enlarge", type=int, default=1, help="images are so many times 28 pixels wide, a power of 2")


def compare(title: str, rows: list[tuple[str, str, str]]) -> None:
    """Prints what was published beside what was reached: name, published, reached."""
    head = (title, "published", "reached")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(3)]
    print()
    for row in (head, *rows):
        print(f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}")


def show(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Prints a table; what a row doesn't have stays empty."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    width = max(len(name) for name in (title, *rows))
    print(f"\n{title:{width}}" + "".join(f"{name:>11}" for name in columns))
    for name, row in rows.items():
        cells = [f"{row[column]:11.4g}" if column in row else " " * 11 for column in columns]
        print(f"{name:{width}}{''.join(cells)}")


def _enlarged(images: np.ndarray, times: int) -> np.ndarray:
    grow = keras.layers.UpSampling2D(times, interpolation="bilinear")
    return np.concatenate([np.asarray(grow(images[first : first + 1000])) for first in range(0, len(images), 1000)])


def _idx(name: str, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress((DEBIAN / name).read_bytes()), np.uint8, offset=header)
