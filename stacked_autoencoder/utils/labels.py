"""Labels beside images: one array, or several by name.

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
MOST_VALUES = 128  # per image, in a store, whose manifest is text
WAY_OUT = "Convert them, or leave the labels out"


def as_labels(labels: Any, count: int | None = None, images: str = "images") -> Labels:
    """Labels as a user gives them → one array, or several by name.

    Args:
        labels: `(N, …)` numbers, booleans, texts, or bytes, which are read as UTF-8; a dict or a tuple of these; or a
            list with a dict or a tuple for each image. Tuples get the names `"0"`, `"1"`, ….
        count: how many images there are, `None` if it isn't known.
        images: what they are labels of, for messages.

    Raises:
        ValueError: they aren't labels, or their number differs from `count`.
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
            "The names of labels must be texts, at least one, such as {'age': ages}. "
            f"Received: labels of the names {list(named)}"
        )
    return {name: _checked(_as_array(values, name), name, count, images) for name, values in named.items()}


def check_is_label(label: Any, image: np.ndarray, rank: int, name: str) -> None:
    """Raises `ValueError` if what another library's data set gives beside its images is images, too.

    Args:
        label: beside `image`, one or a batch.
        rank: number of axes of `image`; 2 and less are vectors, which labels may resemble.
        name: of the data set, for messages.
    """
    is_array = hasattr(label, "shape")  # lists may be of several lengths
    if rank > 2 and is_array and tuple(label.shape) == image.shape:
        raise ValueError(
            "The second element has the shape of the images, so it isn't a label. To restore the first to the second, "
            "give both as arrays, `train(images, targets=targets)`, or as a `tf.data.Dataset` or `PyDataset` of pairs; "
            f"else give a data set of the first alone. Received: a {name} of pairs of shape {image.shape}"
        )


def labels_at(labels: Labels | None, rows: Any) -> Labels | None:
    """The labels of some images, by a slice or by indices."""
    if isinstance(labels, dict):
        return {name: values[rows] for name, values in labels.items()}
    return None if labels is None else labels[rows]


def count_of(labels: Labels) -> int:
    """How many images they are labels of."""
    return len(next(iter(labels.values()))) if isinstance(labels, dict) else len(labels)


def spec_of_labels(labels: np.ndarray) -> tf.TensorSpec:
    """The `tf.TensorSpec` of batches of such labels."""
    return tf.TensorSpec((None, *labels.shape[1:]), tf.string if labels.dtype.kind == "U" else labels.dtype)


def values_per_image(labels: Labels) -> int:
    columns = labels.values() if isinstance(labels, dict) else [labels]
    return sum(math.prod(values.shape[1:]) for values in columns)


def _is_one_label(label: Any) -> bool:
    """Whether this is the label of one image, not an array of the labels of all."""
    return isinstance(label, (str, bytes, Mapping, tuple)) or (not isinstance(label, list) and np.ndim(label) == 0)


def _by_name(labels: Sequence[Any]) -> dict[str, list[Any]]:
    """A dict or a tuple per image → a list per name."""
    rows = [dict(enumerate(row)) if isinstance(row, tuple) else row for row in labels]
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or row.keys() != rows[0].keys():
            raise ValueError(
                "Labels as a dict or tuple per image must have the same names for all. Received: "
                f"{labels[0]!r} for image 0, {labels[index]!r} for image {index}"
            )
    return {str(name) if isinstance(name, int) else name: [row[name] for row in rows] for name in rows[0]}


def _as_array(values: Any, name: str) -> np.ndarray:
    which = f"The labels {name!r}" if name else "The labels"
    try:
        array = values.numpy() if hasattr(values, "numpy") else np.asarray(values)
    except ValueError:  # lists of several lengths
        raise ValueError(
            f"{which} must all have one shape. {WAY_OUT}. Received: {type(values).__name__} of several shapes"
        ) from None
    array = np.asarray(array)
    # Of a list with texts and numbers numpy makes texts without a word, so that its items are looked at one by one.
    if array.dtype.kind in "OS" or (array.dtype.kind == "U" and not isinstance(values, np.ndarray)):
        items = array if array.dtype.kind in "OS" else np.array(values, dtype=object)
        array = _of_items(items, which)
    if array.dtype.kind not in KINDS:
        raise ValueError(
            f"{which} must be numbers, booleans or texts. {WAY_OUT}; `.astype(str)` makes texts. "
            f"Received: dtype={array.dtype}"
        )
    return array


def _of_items(items: np.ndarray, which: str) -> np.ndarray:
    """An array of objects → one of numbers or of texts."""
    leaves = []
    for item in items.reshape(-1):
        try:
            leaves.append(item.decode() if isinstance(item, bytes) else item)
        except UnicodeDecodeError:
            raise ValueError(
                f"{which} are bytes, which must be UTF-8: decode them, such as `[label.decode('latin-1') for label in "
                f"labels]`. Received: {item[:40]!r}"
            ) from None
    texts = sum(isinstance(leaf, str) for leaf in leaves)
    numbers = sum(isinstance(leaf, (bool, int, float, np.bool_, np.integer, np.floating)) for leaf in leaves)
    if len(leaves) not in (texts, numbers):
        kinds = sorted({type(leaf).__name__ for leaf in leaves})
        raise ValueError(
            f"{which} must be numbers or texts, all of one kind and shape. {WAY_OUT}. Received: {', '.join(kinds[:5])}"
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
