"""Adapters to the data sets of other libraries: HDF5, Zarr, Hugging Face, PyTorch, Grain and WebDataset.

An adapter returns `Rows`, which are read by position, or `Elements`, which are iterated over:

    h5py.Dataset, zarr.Array, datasets.Dataset, torch Dataset, grain.MapDataset       → Rows
    datasets.IterableDataset, torch DataLoader and IterableDataset, grain.IterDataset
    and DataLoader, webdataset.WebDataset                                             → Elements

These libraries are not imported here: the adapter is chosen by the module in which the type of an object is defined.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.dataset import StreamSource
from stacked_autoencoder.data.elements import Advice, as_images, split
from stacked_autoencoder.data.rows import Images, Rows
from stacked_autoencoder.utils.checks import described
from stacked_autoencoder.utils.generators import generated
from stacked_autoencoder.utils.images import Shape
from stacked_autoencoder.utils.value_range import ValueRange

AT_ONCE = 32  # single images per element of TensorFlow's generator, whose time per element is constant

HUGGING_FACE = Advice(
    choose='select columns with `.select_columns(["image", "label"])`, and convert them to images with `.map`',
    transpose="leave out `.with_format` or `.with_transform`, which transposes them",
)
TORCH = Advice(
    choose="return an image, or `(image, label)`, from the data set's `__getitem__`, its transform or `collate_fn`",
    transpose="end the data set's transform with `image.movedim(-3, -1)`",
)
GRAIN = Advice(
    choose='select the image and the label with `.map(lambda element: (element["image"], element["label"]))`',
    transpose="`.map(lambda image: np.moveaxis(image, -3, -1))`",
)
WEB_DATASET = Advice(
    choose='decode and select with `.decode("pil").to_tuple("jpg", "cls")`, with the suffixes of your files',
    transpose='`.decode("pil")` instead of `"torchrgb"`, or `.map_tuple(lambda image: image.movedim(-3, -1))`',
)


class Elements:
    """The protocol for data that are iterated over. Each pass calls `iterate` again.

    Args:
        name: name of the data set, for messages.
        iterate: function without arguments that returns an iterator over the elements.
        shape: shape of one image that the model accepts.
        advice: advice for elements that cannot be used.
        count: number of elements, if it is known.
    """

    def __init__(
        self, name: str, iterate: Callable[[], Iterator[Any]], shape: Shape, advice: Advice, count: int | None = None
    ) -> None:
        self.name, self.iterate, self.shape, self.advice, self.count = name, iterate, shape, advice, count
        first = next(iter(iterate()), None)
        if first is None:
            raise ValueError(f"`images` is empty, but at least one image is needed. Received: an empty {name}")
        self.sample, self.label = split(first, shape, advice)

    def source(self, factor: int, values: ValueRange, labels: Any = None) -> StreamSource:
        """Makes the source. Batches keep their size; single images are batched when the source is read."""
        batched = self.sample.ndim > len(self.shape)
        reader: list[weakref.ref[StreamSource]] = []  # a strong reference would keep it until the process ends

        def generate() -> Iterator[tuple[Any, ...]]:
            try:
                yield from self._batches() if batched else self._joined()
            except Exception as error:  # libraries raise errors of any type
                source = reader[0]() if reader else None
                if source is not None:
                    source.remember(error)
                raise

        signature = [tf.TensorSpec((*(None,) * len(self.shape), self.sample.shape[-1]), self.sample.dtype)]
        if self.label is not None:
            signature.append(self._signature(batched))
        joined = generated(generate, tuple(signature)).prefetch(2)
        dataset = joined if batched else joined.unbatch()
        if self.count is not None:
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(self.count))
        source = StreamSource(dataset, self.shape, factor, values, labels, neighbours=joined)
        reader.append(weakref.ref(source))
        return source

    def _signature(self, batched: bool) -> Any:
        """Returns the specs of the labels."""

        def spec(array: np.ndarray) -> tf.TensorSpec:
            if array.dtype.kind == "O":
                raise ValueError("an array of objects")
            dtype = tf.string if array.dtype.kind in "US" else array.dtype
            return tf.TensorSpec((None,) * (array.ndim if batched else array.ndim + 1), dtype)

        try:
            arrays = _arrays(self.label)
            return {name: spec(each) for name, each in arrays.items()} if isinstance(arrays, dict) else spec(arrays)
        except ValueError:  # raised by NumPy for lists of different lengths
            raise ValueError(
                f"The labels of a {self.name} must be numbers, texts or arrays of numbers: {self.advice.choose}. "
                f"Received: {type(self.label).__name__}"
            ) from None

    def _split(self) -> Iterator[tuple[np.ndarray, Any]]:
        for element in self.iterate():
            images, label = split(element, self.shape, self.advice)
            if images.ndim != self.sample.ndim or images.dtype != self.sample.dtype:
                raise ValueError(
                    f"The elements of a {self.name} must have the number of axes and the dtype of the first element. "
                    f"Received: {self.sample.dtype} of shape {self.sample.shape} first, then {images.dtype} of shape "
                    f"{images.shape}"
                )
            yield images, label

    def _batches(self) -> Iterator[tuple[Any, ...]]:
        for images, labels in self._split():
            yield (images,) if self.label is None else (images, _arrays(labels))

    def _joined(self) -> Iterator[tuple[Any, ...]]:
        """Yields small batches of neighbours of one size."""
        waiting: list[np.ndarray] = []
        labels: list[Any] = []

        def joined() -> tuple[Any, ...]:
            return (np.stack(waiting),) if self.label is None else (np.stack(waiting), _stacked(labels))

        for image, label in self._split():
            if waiting and (len(waiting) == AT_ONCE or image.shape != waiting[0].shape):
                yield joined()
                waiting, labels = [], []
            waiting.append(image)
            labels.append(label)
        if waiting:
            yield joined()


def _arrays(label: Any) -> Any:
    return {name: np.asarray(each) for name, each in label.items()} if isinstance(label, Mapping) else np.asarray(label)


def _stacked(labels: list[Any]) -> Any:
    if isinstance(labels[0], Mapping):
        return {name: np.asarray([each[name] for each in labels]) for name in labels[0]}
    return np.asarray(labels)


def adapted(data: Any, shape: Shape) -> Rows | Elements | None:
    """Adapts an object of another library; returns `None` if there is no adapter for it.

    Args:
        data: any object.
        shape: shape of one image that the model accepts.

    Raises:
        ValueError: the library is supported, but the object cannot be used as images.
    """
    modules = {each.__module__ for each in type(data).__mro__}
    for prefix, adapter in ADAPTERS.items():
        if any(f"{module}.".startswith(f"{prefix}.") for module in modules):
            return adapter(data, f"{prefix.partition('.')[0]} {type(data).__name__}", shape)
    return None


# === Arrays in files ===


class ArrayRows(Rows):
    """An array in a file, `(N, H, W, C)`, read in slices."""

    def __init__(self, array: Any, name: str, chunk: int) -> None:
        self.array, self.name, self.chunk = array, name, chunk
        self.shape = tuple(array.shape[1:])

    def __len__(self) -> int:
        return self.array.shape[0] if self.array.shape else 0

    def read(self, rows: range | np.ndarray) -> tuple[Images, None]:
        return self.array[rows[0] : rows[-1] + 1], None


def _from_array(data: Any, name: str, shape: Shape) -> ArrayRows:
    if not hasattr(data, "shape"):
        names = ", ".join(map(repr, data.keys())) if hasattr(data, "keys") else "none"
        raise ValueError(f"`images` is a {name}: pass one of its arrays, `images[name]`. Received: names {names}")
    chunks = data.chunks
    return ArrayRows(data, name, chunks[0] if chunks else 1)


# === Data sets of items ===


class ItemRows(Rows):
    """A sequence of items: images, or tuples or dicts with an image."""

    def __init__(self, items: Any, name: str, shape: Shape, advice: Advice) -> None:
        self.items, self.name, self.image_shape, self.advice = items, name, shape, advice

    def __len__(self) -> int:
        return len(self.items)

    def read(self, rows: range | np.ndarray) -> tuple[list[np.ndarray], list[Any] | None]:
        pairs = [split(self._item(int(row)), self.image_shape, self.advice) for row in rows]
        labels = [label for _, label in pairs]
        return [image for image, _ in pairs], None if labels[0] is None else labels

    def _item(self, row: int) -> Any:
        item = self.items[row]
        if item is None:
            raise ValueError(
                f"`images` is a {self.name} with items that are None, like a filtered `grain.MapDataset`: pass "
                f"`images.to_iter_dataset()`, which skips them. Received: None as item {row}"
            )
        return item


def _from_items(items: Any, name: str, shape: Shape, advice: Advice) -> Rows | Elements:
    """Returns `Rows` if the items are images, `Elements` if they are batches."""
    if len(items) == 0:
        raise ValueError(f"`images` is empty, but at least one image is needed. Received: a {name} of length 0")
    if split(items[0], shape, advice)[0].ndim == len(shape):
        return ItemRows(items, name, shape, advice)
    count = len(items)
    return Elements(name, lambda: (items[index] for index in range(count)), shape, advice, count)


def _from_torch(data: Any, name: str, shape: Shape) -> Rows | Elements | None:
    from torch.utils.data import DataLoader, Dataset, IterableDataset

    if isinstance(data, IterableDataset):
        return Elements(name, lambda: iter(data), shape, TORCH)
    if isinstance(data, DataLoader):
        known = not isinstance(data.dataset, IterableDataset)
        return Elements(name, lambda: iter(data), shape, TORCH, len(data) if known else None)
    if not isinstance(data, Dataset):
        return None
    if not hasattr(data, "__len__"):
        raise ValueError(
            f"`images` is a {name} without a length: define `__len__` in its class, or use an IterableDataset."
        )
    return _from_items(data, name, shape, TORCH)


def _from_web_dataset(data: Any, name: str, shape: Shape) -> Elements:
    return Elements(name, lambda: iter(data), shape, WEB_DATASET)


def _from_grain(data: Any, name: str, shape: Shape) -> Rows | Elements:
    if not hasattr(data, "__getitem__"):  # an IterDataset or a DataLoader
        # Grain has no public way to find out whether a DataLoader ends. By default, it does not.
        if _is_endless(getattr(data, "_sampler", None)):
            raise ValueError(
                "`images` is an infinite grain DataLoader: pass `num_epochs=1` to its sampler or to `grain.load`; "
                "`epochs` repeats it."
            )
        return Elements(name, lambda: iter(data), shape, GRAIN)
    if len(data) == sys.maxsize:
        raise ValueError("`images` is an infinite grain MapDataset: leave out `.repeat()`; `epochs` repeats it.")
    if len(data) > 0 and data[0] is None:
        return Elements(name, lambda: iter(data.to_iter_dataset()), shape, GRAIN)
    return _from_items(data, name, shape, GRAIN)


def _is_endless(sampler: Any | None) -> bool:
    """Whether a sampler of Grain is infinite. A finite one raises `IndexError` for a large index."""
    try:
        return sampler is not None and sampler[sys.maxsize // 2] is not None
    except IndexError:
        return False


# === Tables of Hugging Face ===

ARRAYS = {1: ("List", "Sequence", "LargeList"), 2: ("Array2D",), 3: ("Array3D", "Image")}  # features, by rank


class TableRows(Rows):
    """A table with one column of images."""

    def __init__(self, table: Any, name: str, image: str, labels: list[str], shape: Shape) -> None:
        self.name, self.image_shape, self.image = name, shape, image
        feature = table.features[image]
        self.shape = tuple(feature.shape) if type(feature).__name__ in ("Array2D", "Array3D") else None
        self.images = _formatted(table.select_columns([image]), image)
        self.restored = _restored_by(feature)
        self.labels = table.select_columns(labels).with_format(None) if labels else None

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: range | np.ndarray) -> tuple[list[np.ndarray], list[Any] | None]:
        key = slice(rows.start, rows.stop) if isinstance(rows, range) else rows.tolist()
        column = self.images[key][self.image]
        images = [as_images(self.restored(each), self.image_shape, HUGGING_FACE) for each in column]
        if self.labels is None:
            return images, None
        columns = self.labels[key]
        if len(columns) == 1:
            return images, next(iter(columns.values()))
        return images, [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _from_hugging_face(data: Any, name: str, shape: Shape) -> Rows | Elements:
    from datasets import IterableDataset

    if isinstance(data, dict):  # a DatasetDict
        raise ValueError(f"`images` is a {name}: pass one of its splits, `images[name]`. Received: {', '.join(data)}")
    is_table = not isinstance(data, IterableDataset)
    if data.features is None or (
        is_table and data.format["type"] == "custom"
    ):  # the transform decides what the items are
        if is_table:
            return _from_items(data, name, shape, HUGGING_FACE)
        return Elements(name, lambda: iter(data), shape, HUGGING_FACE)
    if is_table:
        data = data.select_columns(data.format["columns"])
    image, labels = _columns(data.features, shape)
    if is_table:
        return TableRows(data, name, image, labels, shape)
    selected = _formatted(data.select_columns([image, *labels]), image)
    restored = _restored_by(data.features[image])
    return Elements(name, lambda: ({**row, image: restored(row[image])} for row in selected), shape, HUGGING_FACE)


def _columns(features: Mapping[str, Any], shape: Shape) -> tuple[str, list[str]]:
    """Returns the name of the column of images, and the names of columns that can be labels."""
    images = [name for name, feature in features.items() if type(feature).__name__ in ARRAYS[len(shape)]]
    if len(images) != 1:
        columns = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        raise ValueError(
            f"`images` has {len(images) or 'no'} columns of {described(shape)}, but one is needed. Select it with "
            f"`.select_columns`, or make one with `.map` or `.cast_column`. Received: columns {columns}"
        )
    labels = [name for name, feature in features.items() if type(feature).__name__ in ("ClassLabel", "Value")]
    return images[0], labels


def _formatted(data: Any, image: str) -> Any:
    """Returns the data with images as Pillow images or NumPy arrays, whatever format the user has set."""
    return data.with_format(None if type(data.features[image]).__name__ == "Image" else "numpy")


def _restored_by(feature: Any) -> Callable[[Any], Any]:
    """Returns a function that restores the dtype of an image: the NumPy format converts all integers to int64."""
    if type(feature).__name__ == "Image":
        return lambda image: image
    dtype = feature.dtype if hasattr(feature, "shape") else feature.feature.dtype
    return lambda image: np.asarray(image, dtype)


ADAPTERS: dict[str, Callable[[Any, str, Shape], Rows | Elements | None]] = {
    "h5py": _from_array,
    "zarr": _from_array,
    "datasets.arrow_dataset": _from_hugging_face,
    "datasets.iterable_dataset": _from_hugging_face,
    "datasets.dataset_dict": _from_hugging_face,
    "webdataset": _from_web_dataset,  # before PyTorch, whose IterableDataset it derives from
    "torch.utils.data": _from_torch,
    "grain": _from_grain,
}
