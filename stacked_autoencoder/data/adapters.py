"""What a user passes in → batches of float32 images, checked, scaled and padded.

    array, tensor        ─┐
    list of tensors       ├─▶ ArraySource ─┐
    tf.data.Dataset      ───▶ StreamSource ┼─▶ dataset(batch_size): float32 (N, H, W, C), one size per batch
    keras PyDataset      ───▶ StreamSource │
    HDF5, PyTorch, …     ───▶ StreamSource or RowsSource
    path, list of paths,  ─┐               │
    table, ImageFolder    ─┴▶ FolderSource ┤
    EncodingStore        ───▶ StoreSource  ┘

`uint8` becomes [-1, 1]; floats stay as they are and must lie in [-1, 1]. With a `value_range`, images of any dtype are
scaled from it. Sides become multiples of the stack's factor by reflection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.array import ArraySource
from stacked_autoencoder.data.dataset import StreamSource
from stacked_autoencoder.data.elements import Advice
from stacked_autoencoder.data.folder import FolderSource
from stacked_autoencoder.data.image_folder import ImageFolder, holds_pictures
from stacked_autoencoder.data.listing import is_path
from stacked_autoencoder.data.loaders import Elements, adapted
from stacked_autoencoder.data.rows import RowsSource
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils.checks import AXES, check_numeric, described
from stacked_autoencoder.utils.forks import check_not_forked
from stacked_autoencoder.utils.images import Shape
from stacked_autoencoder.utils.value_range import UNKNOWN, ValueRange

Images = Any


def as_source(
    images: Images, shape: Shape, *, factor: int = 1, values: ValueRange = UNKNOWN, finite: str | None = None
) -> Source:
    """Wraps whatever a user passes in.

    Args:
        images: array or tensor `(N, H, W, C)`; list of `(H, W, C)` or `(1, H, W, C)`, sizes may differ;
            `tf.data.Dataset` or `keras.utils.PyDataset` of images or `(images, labels)`; path of a folder, a
            picture or a CSV file, a list of such paths, a DataFrame with a column of them, or an `ImageFolder`; an
            `EncodingStore`; a data set or loader of Hugging Face, PyTorch, Grain, WebDataset, HDF5 or Zarr.
        shape: of one image, `None` where any size will do.
        factor: sides become multiples of it; smaller images are refused.
        values: range that the images must lie in, and how they are scaled for level 0.
        finite: name of the argument, if it must come to an end.

    Raises:
        ValueError: the images can't be what the model was made for. The message says which, and what to do.
        FileNotFoundError: a folder or picture that isn't there.
    """
    check_not_forked()
    source = _adapted(images, shape, factor, values)
    if isinstance(source, ArraySource):
        source.warn_of_unit_range()
    if finite is not None and source.is_endless:
        raise ValueError(f"`{finite}` is a dataset without end; give it one with `.take(number)`.")
    return source


def _adapted(images: Images, shape: Shape, factor: int, values: ValueRange) -> Source:
    if isinstance(images, Source):
        return images
    labels = None
    is_pair = isinstance(images, tuple) and len(images) == 2 and not all(map(is_path, images))
    if is_pair:  # (images, labels), as Keras has it
        images, labels = images
    if isinstance(images, EncodingStore):
        return StoreSource(images, shape, factor, values)
    if holds_pictures(images):
        images = ImageFolder(images)
    if isinstance(images, ImageFolder):
        if len(shape) != 3:
            raise ValueError(
                f"A folder holds images, and the model was made for {described(shape)}: give an array or a dataset. "
                f"Received: {images!r}"
            )
        return FolderSource(images, shape, factor, values)
    if isinstance(images, tf.data.Dataset):
        return StreamSource(images, shape, factor, values)
    if isinstance(images, keras.utils.PyDataset):
        return _from_py_dataset(images, shape).source(factor, values)
    if isinstance(images, Iterator):
        raise ValueError(
            "`images` is an iterator, which can be read only once, and training reads the images several times: give "
            "the loader that it comes from, not `iter(loader)`; of a generator make a list, `list(images)`, or "
            "`tf.data.Dataset.from_generator(function, output_signature=tf.TensorSpec((None, None, 3), tf.uint8))` of "
            f"the function that makes it. Received: images={images!r}"
        )
    loaded = adapted(images, shape)
    if isinstance(loaded, Elements):
        check_numeric(loaded.sample.dtype)
        return loaded.source(factor, values)
    if loaded is not None:
        source = RowsSource(loaded, shape, factor, values, labels)
        check_numeric(source.dtype)
        return source
    if isinstance(images, (list, tuple)):
        if not images:
            raise ValueError("`images` is empty; at least one image is needed. Received: images=[]")
        singles = [_single(_as_array(image), index, len(shape)) for index, image in enumerate(images)]
        return ArraySource(singles, shape, factor, values, labels)
    return ArraySource(_as_array(images), shape, factor, values, labels)


def _from_py_dataset(batches: keras.utils.PyDataset, shape: Shape) -> Elements:
    def iterate() -> Iterator[Any]:
        for index in range(len(batches)):
            batch = batches[index]
            images = batch[0] if isinstance(batch, (tuple, list)) else batch
            if isinstance(images, Mapping):
                names = [name for name, each in images.items() if np.ndim(each) == len(shape) + 1] or [*images]
                raise ValueError(
                    "The batches of a PyDataset are dicts: return the array from `__getitem__`, "
                    f"`batch[{names[0]!r}]`, or `(images, labels)`. Received: a dict of {', '.join(map(repr, images))}"
                )
            yield batch
        batches.on_epoch_end()

    axes = AXES[len(shape)]
    advice = Advice(
        f"return it from `__getitem__`, with the batch axis: (N, {axes[1:]}", "`np.moveaxis(images, 1, -1)`"
    )
    elements = Elements("PyDataset", iterate, shape, advice, len(batches))
    if elements.sample.ndim != len(shape) + 1:
        raise ValueError(
            f"A PyDataset must yield batches (N, {axes[1:]}. Received: a batch of shape {elements.sample.shape}"
        )
    return elements


def _as_array(images: Any) -> np.ndarray:
    array = images.numpy() if hasattr(images, "numpy") else np.asarray(images)
    if array.dtype == object and not array.shape:
        raise ValueError(
            "`images` must be an array, a list of arrays, a `tf.data.Dataset`, a PyDataset, an `ImageFolder`, paths of "
            "folders or pictures, or a data set of Hugging Face, PyTorch, Grain, WebDataset, HDF5 or Zarr. "
            f"Received: images={images!r}"
        )
    if array.dtype == object:
        raise ValueError(
            "`images` is an object array, which numpy makes of images of different sizes. Pass them as a list of "
            f"arrays (H, W, C) instead. Received: dtype=object, shape={array.shape}"
        )
    check_numeric(array.dtype)
    return array


def _single(image: np.ndarray, index: int, rank: int) -> np.ndarray:
    if image.ndim == rank + 1 and image.shape[0] == 1:
        return image[0]
    if image.ndim != rank:
        axes = AXES[rank]
        raise ValueError(
            f"A list must hold images of shape {axes} or (1, {axes[1:]}. Received: image {index} of shape {image.shape}"
        )
    return image
