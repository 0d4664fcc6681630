"""Labels of images: one array, or several arrays by name.

[3, 1, 2], an array, a tensor           ─┐
["cat", "dog"], [b"cat", b"dog"]         ├─▶ (N, …) numbers, booleans or texts
{"age": ages, "kind": kinds}            ─┐
(ages, kinds)                            ├─▶ {"age": (N, …), "kind": (N, …)}, or {"0": …, "1": …} of tuples
[{"age": 3, "kind": "cat"}, …]          ─┘
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Labels = np.ndarray | dict[str, np.ndarray]

KINDS = "biufU"  # of numpy's: booleans, numbers, texts
MOST_VALUES = 128  # per image in a store, since its manifest is a text file
ADVICE = "Convert them, or leave the labels out"


def as_labels(labels: Any, count: int | None = None, images: str = "images") -> Labels:
    """Converts labels to one array, or to several arrays by name.

    Args:
        labels: `(N, …)` numbers, booleans, texts, or bytes, which are decoded as UTF-8; a dict or a tuple of these; or
            a list with a dict or a tuple for each image. Entries of tuples get the names `"0"`, `"1"`, ….
        count: number of images, `None` if it is not known.
        images: name of the argument that holds the images, for messages.

    Raises:
        ValueError: these are not labels, or their number differs from `count`.
    """
    if isinstance(labels, Mapping):
        named = labels
    elif isinstance(labels, tuple) and labels and not any(map(_is_one_label, labels)):
        named = {str(index): values for index, values in enumerate(labels)}
    elif isinstance(labels, (list, tuple)) and labels and isinstance(labels[0], (Mapping, tuple)):
        named = _by_name(labels)
    else:
        return _checked(_as_array(labels, ""), "", count, images)
    if not named or not all(isinstance(name, str) for name in named):
        raise ValueError(
            "Names of labels must be texts, at least one, for example {'age': ages}. "
            f"Received: labels with the names {list(named)}"
        )
    return {name: _checked(_as_array(values, name), name, count, images) for name, values in named.items()}


def check_is_label(label: Any, image: np.ndarray, rank: int, name: str) -> None:
    """Raises `ValueError` if the second element that another library's data set yields is an image, not a label.

    Args:
        label: second element, for one image or a batch.
        image: first element.
        rank: number of axes of `image`; 2 or less are vectors, which labels may resemble.
        name: name of the data set, for messages.
    """
    is_array = hasattr(label, "shape")  # lists may have several lengths
    if rank > 2 and is_array and tuple(label.shape) == image.shape:
        raise ValueError(
            "The second element has the shape of the images, so it is not a label. To train a stack that restores the "
            "second element from the first, pass both as arrays, `train(images, targets=targets)`, or as a "
            "`tf.data.Dataset` or `PyDataset` of pairs. Otherwise, pass a data set that yields only the first element. "
            f"Received: a {name} of pairs of shape {image.shape}"
        )


def labels_at(labels: Labels | None, rows: Any) -> Labels | None:
    """Returns the labels of some images, selected by a slice or by indices."""
    if isinstance(labels, dict):
        return {name: values[rows] for name, values in labels.items()}
    return None if labels is None else labels[rows]


def count_of(labels: Labels) -> int:
    """Returns the number of images that have labels."""
    return len(next(iter(labels.values()))) if isinstance(labels, dict) else len(labels)


def spec_of_labels(labels: np.ndarray) -> tf.TensorSpec:
    """Returns the `tf.TensorSpec` of batches of these labels."""
    return tf.TensorSpec((None, *labels.shape[1:]), tf.string if labels.dtype.kind == "U" else labels.dtype)


def values_per_image(labels: Labels) -> int:
    columns = labels.values() if isinstance(labels, dict) else [labels]
    return sum(math.prod(values.shape[1:]) for values in columns)


def _is_one_label(label: Any) -> bool:
    """Whether this is the label of one image, not an array of labels."""
    return isinstance(label, (str, bytes, Mapping, tuple)) or (not isinstance(label, list) and np.ndim(label) == 0)


def _by_name(labels: Sequence[Any]) -> dict[str, list[Any]]:
    """Converts a dict or a tuple per image to a list per name."""
    rows = [dict(enumerate(row)) if isinstance(row, tuple) else row for row in labels]
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or row.keys() != rows[0].keys():
            raise ValueError(
                "Labels that are a dict or tuple per image must have the same names for all images. Received: "
                f"{labels[0]!r} for image 0, {labels[index]!r} for image {index}"
            )
    return {str(name) if isinstance(name, int) else name: [row[name] for row in rows] for name in rows[0]}


def _as_array(values: Any, name: str) -> np.ndarray:
    which = f"The labels {name!r}" if name else "The labels"
    try:
        array = values.numpy() if hasattr(values, "numpy") else np.asarray(values)
    except ValueError:  # lists of different lengths
        raise ValueError(
            f"{which} must all have one shape. {ADVICE}. Received: {type(values).__name__} of several shapes"
        ) from None
    array = np.asarray(array)
    # NumPy silently converts a list of texts and numbers to texts, so its items are checked one by one.
    if array.dtype.kind in "OS" or (array.dtype.kind == "U" and not isinstance(values, np.ndarray)):
        items = array if array.dtype.kind in "OS" else np.array(values, dtype=object)
        array = _of_items(items, which)
    if array.dtype.kind not in KINDS:
        raise ValueError(
            f"{which} must be numbers, booleans or texts. {ADVICE}; `.astype(str)` makes texts. "
            f"Received: dtype={array.dtype}"
        )
    return array


def _of_items(items: np.ndarray, which: str) -> np.ndarray:
    """Converts an array of objects to an array of numbers or texts."""
    leaves = []
    for item in items.reshape(-1):
        try:
            leaves.append(item.decode() if isinstance(item, bytes) else item)
        except UnicodeDecodeError:
            raise ValueError(
                f"{which} are bytes, which must be UTF-8: decode them first, for example with "
                f"`[label.decode('latin-1') for label in labels]`. Received: {item[:40]!r}"
            ) from None
    texts = sum(isinstance(leaf, str) for leaf in leaves)
    numbers = sum(isinstance(leaf, (bool, int, float, np.bool_, np.integer, np.floating)) for leaf in leaves)
    if len(leaves) not in (texts, numbers):
        kinds = sorted({type(leaf).__name__ for leaf in leaves})
        raise ValueError(
            f"{which} must be numbers or texts, all of one kind and shape. {ADVICE}. Received: {', '.join(kinds[:5])}"
        )
    return np.array(leaves).reshape(items.shape)


def _checked(array: np.ndarray, name: str, count: int | None, images: str) -> np.ndarray:
    if array.ndim == 0:
        raise ValueError(f"`{images}` as (images, labels) needs one label per image. Received: a single label, {array}")
    if count is not None and len(array) != count:
        named = f" {name!r}" if name else ""
        raise ValueError(
            f"`{images}` as (images, labels) needs one label per image. Received: {count} images, {len(array)} "
            f"labels{named}"
        )
    return array
