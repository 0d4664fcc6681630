"""Converts anything that users pass as images to a source of float32 batches: checked, scaled and padded.

    array, tensor        ─┐
    DataFrame, sparse rows│
    list of tensors       ├─▶ ArraySource ─┐
    tf.data.Dataset      ───▶ StreamSource ┼─▶ dataset(batch_size): float32 (N, H, W, C), one size per batch
    keras PyDataset      ───▶ StreamSource │
    HDF5, PyTorch, …     ───▶ StreamSource or RowsSource
    path, list of paths,  ─┐               │
    table, ImageFolder    ─┴▶ FolderSource ┤
    EncodingStore        ───▶ StoreSource  ┘

`uint8` is scaled to [-1, 1]. Floats are not scaled and must lie in [-1, 1]. With a `value_range`, images of any dtype
are scaled from that range. Height and width are padded to multiples of the stack's factor by reflection. Vectors and
sequences can hold any numbers: integers, booleans, the columns of a table and the values of a sparse matrix are not
scaled; only `uint8` arrays are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.array import ArraySource
from stacked_autoencoder.data.dataframes import SparseRows, is_dataframe, is_sparse, rows_of_dataframe
from stacked_autoencoder.data.dataset import StreamSource
from stacked_autoencoder.data.elements import Advice
from stacked_autoencoder.data.folder import FolderSource
from stacked_autoencoder.data.image_folder import ImageFolder, holds_pictures
from stacked_autoencoder.data.joined_pairs import StreamPairs
from stacked_autoencoder.data.listing import is_path
from stacked_autoencoder.data.loaders import Elements, adapted
from stacked_autoencoder.data.pairs import Pairs, gives_pairs, paired
from stacked_autoencoder.data.rows import RowsSource
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils.checks import AXES, check_numeric, described
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.forks import check_not_forked
from stacked_autoencoder.utils.images import Shape
from stacked_autoencoder.utils.labels import check_is_label
from stacked_autoencoder.utils.value_range import UNKNOWN, ValueRange

Images = Any


def as_source(
    images: Images, shape: Shape, *, factor: int = 1, values: ValueRange = UNKNOWN, finite: str | None = None
) -> Source:
    """Makes a source of anything that users pass as images.

    Args:
        images: array or tensor `(N, H, W, C)`; list of `(H, W, C)` or `(1, H, W, C)` of any sizes;
            `tf.data.Dataset` or `keras.utils.PyDataset` of images or `(images, labels)`; path of a folder, a
            picture or a CSV file, a list of such paths, a DataFrame with a column of them, or an `ImageFolder`; an
            `EncodingStore`; a data set or loader of Hugging Face, PyTorch, Grain, WebDataset, HDF5 or Zarr. For vectors
            also a DataFrame or a sparse matrix with one row per vector.
        shape: shape of one image, `None` for a side of any length.
        factor: sides are padded to multiples of it; smaller images are an error.
        values: value range of the stack.
        finite: name of the argument, if infinite datasets are an error.

    Raises:
        ValueError: the images do not fit the model. The message names the reason and a fix.
        FileNotFoundError: a folder or picture does not exist.
    """
    check_not_forked()
    if len(shape) > 1 and gives_pairs(images, shape):  # labels of vectors may have the shape of vectors
        fix = "a PyDataset that yields it"
        if not isinstance(images, keras.utils.PyDataset):
            fix = "`images[0]`" if isinstance(images, tuple) else "`images.map(lambda first, *_: first)`"
        raise ValueError(
            "`images` gives pairs: the second element has the shape of the images, so it isn't labels. Pass the first "
            f"element alone, {fix}. To restore the second element from the first, pass the pairs to `train`, "
            "`fine_tune` or `evaluate`, or pass the second as `targets=`. "
            f"Received: {type(images).__name__} of pairs"
        )
    source = _adapted(images, shape, factor, values)
    _check_finite(source, finite)
    return source


def _check_finite(source: Source, argument: str | None) -> None:
    """Raises `ValueError` for an infinite dataset as an argument that must be finite."""
    if argument is not None and source.is_endless:
        raise ValueError(f"`{argument}` is an infinite dataset: limit it with `.take(count)`.")


def as_pairs(
    images: Images,
    targets: Images | None,
    shape: Shape,
    *,
    factor: int = 1,
    values: ValueRange = UNKNOWN,
    finite: str | None = None,
    name: str = "images",
) -> Pairs:
    """Makes pairs of inputs and targets: from `targets`, from a source of pairs, or with the inputs as targets.

    Args:
        images: as in `as_source`; also a dataset, PyDataset or tuple of pairs.
        targets: as in `as_source`; the same number, in the same order.
        shape: shape of one image, `None` for a side of any length.
        factor: sides are padded to multiples of it.
        values: value range of the stack.
        finite: name of the argument, if infinite datasets are an error.
        name: name of the argument that holds the images, for messages.

    Raises:
        ValueError: as in `as_source`, or inputs and targets are not pairs.
    """
    check_not_forked()
    options = {"shape": shape, "factor": factor, "values": values}
    if targets is None and isinstance(images, tuple) and gives_pairs(images, shape):
        images, targets = images
    if targets is not None:
        pairs = paired(as_source(images, **options), as_source(targets, **options), name)
    elif gives_pairs(images, shape):
        source = _adapted(images, **options)
        joined = StreamPairs.of_elements(source.whole, **options)
        joined.elements = source
        pairs = Pairs.of(joined)
    else:
        pairs = Pairs(_adapted(images, **options))
    _check_finite(pairs.inputs, finite)
    return pairs


def _adapted(images: Images, shape: Shape, factor: int, values: ValueRange) -> Source:
    if isinstance(images, Source):
        return images
    labels = None
    is_pair = isinstance(images, tuple) and len(images) == 2 and not all(map(is_path, images))
    if is_pair:  # (images, labels), as in Keras
        images, labels = images
    if isinstance(images, EncodingStore):
        return StoreSource(images, shape, factor, values, labels)
    is_folder = isinstance(images, ImageFolder) or is_path(images)
    if is_folder and len(shape) != 3:
        raise ValueError(
            f"A folder holds images, but the model was made for {described(shape)}: pass an array or a dataset. "
            f"Received: {images!r}"
        )
    if is_folder or (len(shape) == 3 and holds_pictures(images)):
        folder = images if isinstance(images, ImageFolder) else ImageFolder(images)
        return FolderSource(folder, shape, factor, values, labels)
    if isinstance(images, tf.data.Dataset):
        return StreamSource(images, shape, factor, values, labels)
    if isinstance(images, keras.utils.PyDataset):
        return _from_py_dataset(images, shape, values).source(factor, values, labels)
    if isinstance(images, Iterator):
        raise ValueError(
            "`images` is an iterator, which can be read only once, but training reads the images several times. Pass "
            "the loader itself, not `iter(loader)`. Convert a generator to a list, `list(images)`, or to a dataset, "
            "`tf.data.Dataset.from_generator(function, output_signature=tf.TensorSpec((None, None, 3), tf.uint8))`, "
            f"with the function that makes the generator. Received: images={images!r}"
        )
    loaded = adapted(images, shape)
    if isinstance(loaded, Elements):
        check_numeric(loaded.sample.dtype)
        check_is_label(loaded.label, loaded.sample, len(shape) + 1, loaded.name)
        return loaded.source(factor, values, labels)
    if loaded is not None:
        source = RowsSource(loaded, shape, factor, values, labels)
        check_numeric(source.dtype)
        return source
    if isinstance(images, (list, tuple)):
        if not images:
            raise ValueError("`images` is empty, but at least one image is needed. Received: images=[]")
        singles = [_single(_as_array(image, shape, values), index, shape) for index, image in enumerate(images)]
        return ArraySource(singles, shape, factor, values, labels)
    if is_dataframe(images):
        images = rows_of_dataframe(images, shape, values.missing)
    is_sparse_matrix = is_sparse(images)
    images = SparseRows(images, shape, values.missing) if is_sparse_matrix else _as_array(images, shape, values)
    return ArraySource(images, shape, factor, values, labels)


def _from_py_dataset(batches: keras.utils.PyDataset, shape: Shape, values: ValueRange) -> Elements:
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
            yield (
                (_unmasked(images, values), *batch[1:])
                if isinstance(batch, (tuple, list))
                else _unmasked(images, values)
            )
        batches.on_epoch_end()

    axes = AXES[len(shape)]
    advice = Advice(f"return it from `__getitem__` with the batch axis: (N, {axes[1:]}", "`np.moveaxis(images, 1, -1)`")
    elements = Elements("PyDataset", iterate, shape, advice, len(batches))
    if elements.sample.ndim != len(shape) + 1:
        raise ValueError(
            f"A PyDataset must yield batches (N, {axes[1:]}. Received: a batch of shape {elements.sample.shape}"
        )
    return elements


def _as_array(images: Any, shape: Shape, values: ValueRange) -> np.ndarray:
    images = _unmasked(images, values)
    array = images.numpy() if hasattr(images, "numpy") else np.asarray(images)
    if array.dtype == object:
        raise ValueError(_object_error(images, array, shape))
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"`images` must be numbers{_number_advice(array)}. Received: dtype={array.dtype}, shape={array.shape}"
        )
    return array


def _unmasked(images: Any, values: ValueRange) -> Any:
    """Replaces masked values of a masked array by NaN. Other images are returned unchanged.

    Raises:
        ValueError: there are masked values, but values must not be missing.
    """
    if not isinstance(images, np.ma.MaskedArray):
        return images
    mask = np.ma.getmaskarray(images)
    if values.missing == "error":
        if not mask.any():
            return images.data
        raise ValueError(
            "`images` is a masked array. Replace masked values with `images.filled(0)`, or make the Autoencoder with "
            '`missing="ignore"`, which leaves masked values out of the loss. '
            f"Received: {int(mask.sum())} masked values of {mask.size}"
        )
    # Floats even if nothing is masked, since other images of a list may have masked values.
    floats = images.data if np.issubdtype(images.dtype, np.floating) else values.to_user(images.data).numpy()
    return np.where(mask, np.array(np.nan, floats.dtype), floats)


def _object_error(images: Any, array: np.ndarray, shape: Shape) -> str:
    """Returns the message for data that NumPy cannot convert to an array of numbers, with a fix."""
    received = f"Received: dtype=object, shape={array.shape}"
    if isinstance(images, Mapping):
        names = ", ".join(map(repr, images))
        key = repr(next(iter(images))) if images else "…"
        return (
            f"`images` is a dict: pass one of its values, such as `images[{key}]`. Received: a dict of the keys "
            f"{printable(names, 200)}"
        )
    if not array.shape:
        return (
            "`images` must be an array, a list of arrays, a DataFrame or a sparse matrix of vectors, a "
            "`tf.data.Dataset`, a PyDataset, an `ImageFolder` or the path of a folder. "
            f"Received: images={printable(repr(images), 200)}"
        )
    try:
        array.astype(np.float32)
    except (TypeError, ValueError):
        pass
    else:
        return f"`images` is an object array of numbers: convert it with `images.astype('float32')`. {received}"
    if any(np.ndim(each) for each in array.ravel()):
        return (
            "`images` is an object array, as NumPy makes from images of different sizes. Pass them as a list of "
            f"arrays {AXES[len(shape)]} instead: `list(images)`. {received}"
        )
    other = next((each for each in array.ravel() if not isinstance(each, (int, float, np.number))), None)
    return (
        "`images` is an object array with items that are not numbers. Encode them as numbers, for example text with "
        f"`pd.get_dummies(pd.DataFrame(images).convert_dtypes(), dtype=float)`. {received}, with "
        f"{printable(repr(other), 100)}"
    )


def _number_advice(array: np.ndarray) -> str:
    """Returns advice for converting other values to numbers."""
    if array.dtype.kind in "SU":
        try:
            array.astype(np.float32)
        except ValueError:
            return ", but these are texts: encode them, such as by `pd.get_dummies(pd.DataFrame(images), dtype=float)`"
        return ", but these are written as text: convert them with `images.astype('float32')`"
    if array.dtype.kind == "c":
        return ", but these are complex: pass `np.abs(images)`, or `images.real` and `images.imag` as two channels"
    if array.dtype.kind in "mM":
        return ", but these are times: convert them with `images.astype('int64')`"
    if array.dtype.names:
        return ", but this array has named fields: pass it as a table, `pd.DataFrame(images)`"
    return ""


def _single(image: np.ndarray, index: int, shape: Shape) -> np.ndarray:
    rank = len(shape)
    if image.ndim == rank + 1 and image.shape[0] == 1:
        return image[0]
    if image.ndim != rank:
        axes = AXES[rank]
        advice = ""
        if image.ndim == rank + 1:
            advice = " Join batches with `np.concatenate(images)`."
        elif image.ndim == rank - 1 and rank == 1:
            advice = " Pass a single vector as `[images]`."
        elif image.ndim == rank - 1 and shape[-1] == 1:
            advice = " Add the last axis with `[image[..., None] for image in images]`."
        raise ValueError(
            f"A list must hold {described(shape)} or (1, {axes[1:]}.{advice} Received: image {index} of "
            f"shape {image.shape}"
        )
    return image
