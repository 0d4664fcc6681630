"""What a user passes in → batches of float32 images, checked, scaled and padded.

    array, tensor        ─┐
    DataFrame, sparse rows│
    list of tensors       ├─▶ ArraySource ─┐
    tf.data.Dataset      ───▶ StreamSource ┼─▶ dataset(batch_size): float32 (N, H, W, C), one size per batch
    keras PyDataset      ───▶ StreamSource │
    path, ImageFolder    ───▶ FolderSource ┤
    EncodingStore        ───▶ StoreSource  ┘

`uint8` becomes [-1, 1]; floats stay as they are and must lie in [-1, 1]. Sides become multiples of the stack's factor
by reflection. Values of vectors and sequences are any numbers: integers and booleans, the columns of a table and what a
sparse matrix holds are taken as they are, and only `uint8` arrays are scaled.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.array import ArraySource
from stacked_autoencoder.data.dataset import StreamSource
from stacked_autoencoder.data.folder import FolderSource
from stacked_autoencoder.data.image_folder import ImageFolder
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.data.tables import SparseRows, is_sparse, is_table, rows_of_table
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils.checks import AXES, described
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.forks import check_not_forked
from stacked_autoencoder.utils.generators import generated
from stacked_autoencoder.utils.images import Shape, scaled

Images = Any


def as_source(
    images: Images,
    shape: Shape,
    *,
    factor: int = 1,
    check_range: bool = True,
    missing: str = "error",
    finite: str | None = None,
) -> Source:
    """Wraps whatever a user passes in.

    Args:
        images: array or tensor `(N, H, W, C)`; list of `(H, W, C)` or `(1, H, W, C)`, sizes may differ;
            `tf.data.Dataset` or `keras.utils.PyDataset` of images or `(images, labels)`; path of a folder, or an
            `ImageFolder`; an `EncodingStore`. For vectors also a DataFrame or a sparse matrix, one row each.
        shape: of one image, `None` where any size will do.
        factor: sides become multiples of it; smaller images are refused.
        check_range: whether floats must lie in [-1, 1].
        missing: `"error"` to refuse NaN and masked values; `"ignore"` to let them through, as NaN.
        finite: name of the argument, if it must come to an end.

    Raises:
        ValueError: the images can't be what the model was made for. The message says which, and what to do.
        FileNotFoundError: a folder that isn't there.
    """
    check_not_forked()
    source = _adapted(images, shape, factor, check_range, missing)
    if finite is not None and source.is_endless:
        raise ValueError(f"`{finite}` is a dataset without end; give it one with `.take(number)`.")
    return source


def _adapted(images: Images, shape: Shape, factor: int, check_range: bool, missing: str) -> Source:
    if isinstance(images, Source):
        return images
    labels = None
    if isinstance(images, tuple) and len(images) == 2:  # (images, labels), as Keras has it
        images, labels = images
    if isinstance(images, EncodingStore):
        return StoreSource(images, shape, factor, check_range)
    if isinstance(images, (str, os.PathLike)):
        images = ImageFolder(images)
    if isinstance(images, ImageFolder):
        if len(shape) != 3:
            raise ValueError(
                f"A folder holds images, and the model was made for {described(shape)}: give an array or a dataset. "
                f"Received: {images!r}"
            )
        return FolderSource(images, shape, factor)
    if isinstance(images, tf.data.Dataset):
        return StreamSource(images, shape, factor, check_range, missing)
    if isinstance(images, keras.utils.PyDataset):
        return StreamSource(_from_py_dataset(images, len(shape), missing), shape, factor, check_range, missing)
    if isinstance(images, (list, tuple)):
        if not images:
            raise ValueError("`images` is empty; at least one image is needed. Received: images=[]")
        singles = [_single(_as_array(image, shape, missing), index, shape) for index, image in enumerate(images)]
        return ArraySource(singles, shape, factor, check_range, labels, missing)
    if is_table(images):
        images = rows_of_table(images, shape, missing)
    images = SparseRows(images, shape, missing) if is_sparse(images) else _as_array(images, shape, missing)
    return ArraySource(images, shape, factor, check_range, labels, missing)


def _from_py_dataset(batches: keras.utils.PyDataset, rank: int, missing: str) -> tf.data.Dataset:
    def arrays(item: Any) -> tuple[np.ndarray, ...]:
        """Images, and labels if there are any; sample weights are of no use here."""
        images, *labels = item[:2] if isinstance(item, (tuple, list)) else (item,)
        return (np.asarray(_unmasked(images, missing)), *map(np.asarray, labels))

    def generate() -> Iterator[tuple[np.ndarray, ...]]:
        for index in range(len(batches)):
            yield arrays(batches[index])
        batches.on_epoch_end()

    if len(batches) == 0:
        raise ValueError("`images` is empty; at least one image is needed. Received: a PyDataset of length 0")
    sample, *labels = arrays(batches[0])
    if sample.ndim != rank + 1:
        raise ValueError(
            f"A PyDataset must yield batches (N, {AXES[rank][1:]}. Received: a batch of shape {sample.shape}"
        )
    signature = [tf.TensorSpec((*(None,) * rank, sample.shape[-1]), sample.dtype)]
    signature += [tf.TensorSpec((None, *each.shape[1:]), each.dtype) for each in labels]
    dataset = generated(generate, tuple(signature))
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))


def _as_array(images: Any, shape: Shape, missing: str) -> np.ndarray:
    images = _unmasked(images, missing)
    array = images.numpy() if hasattr(images, "numpy") else np.asarray(images)
    if array.dtype == object:
        raise ValueError(_object_error(images, array, shape))
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"`images` must be numbers{_number_advice(array)}. Received: dtype={array.dtype}, shape={array.shape}"
        )
    if len(shape) == 3 and array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            "`images` must be uint8 (0 to 255) or floats in [-1, 1]; convert with `images.astype('uint8')` if they are "
            f"pixels. Received: dtype={array.dtype}"
        )
    return array


def _unmasked(images: Any, missing: str) -> Any:
    """A masked array as one whose masked values are NaN; anything else as it is.

    Raises:
        ValueError: there are masked values, and none may be missing.
    """
    if not isinstance(images, np.ma.MaskedArray):
        return images
    mask = np.ma.getmaskarray(images)
    if missing == "error":
        if not mask.any():
            return images.data
        raise ValueError(
            "`images` is a masked array. Put a value in place of what is masked with `images.filled(0)`, or make the "
            'Autoencoder with `missing="ignore"`, which leaves masked values out of the loss. '
            f"Received: {int(mask.sum())} masked values of {mask.size}"
        )
    # Floats even if nothing is masked: of a list, other images may have gaps.
    values = images.data if np.issubdtype(images.dtype, np.floating) else scaled(images.data).numpy()
    return np.where(mask, np.array(np.nan, values.dtype), values)


def _object_error(images: Any, array: np.ndarray, shape: Shape) -> str:
    """The message for what numpy makes no array of numbers of, with what helps."""
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
            "`images` is an object array, which numpy makes of images of different sizes. Pass them as a list of "
            f"arrays {AXES[len(shape)]} instead: `list(images)`. {received}"
        )
    other = next((each for each in array.ravel() if not isinstance(each, (int, float, np.number))), None)
    return (
        "`images` is an object array that holds something else than numbers. Encode it as numbers, text for example "
        f"with `pd.get_dummies(pd.DataFrame(images).convert_dtypes(), dtype=float)`. {received}, with "
        f"{printable(repr(other), 100)}"
    )


def _number_advice(array: np.ndarray) -> str:
    """How to make numbers of what aren't any."""
    if array.dtype.kind in "SU":
        try:
            array.astype(np.float32)
        except ValueError:
            return ", and this is text: encode it, for example with `pd.get_dummies(pd.DataFrame(images), dtype=float)`"
        return ", and these are written as text: convert them with `images.astype('float32')`"
    if array.dtype.kind == "c":
        return ", and these are complex: pass `np.abs(images)`, or `images.real` and `images.imag` as two channels"
    if array.dtype.kind in "mM":
        return ", and these are times: convert them with `images.astype('int64')`"
    if array.dtype.names:
        return ", and this has named fields: pass it as a table, `pd.DataFrame(images)`"
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
            advice = " One vector is given with `[images]`."
        elif image.ndim == rank - 1 and shape[-1] == 1:
            advice = " Add the last axis with `[image[..., None] for image in images]`."
        raise ValueError(
            f"A list must hold {described(shape)} or (1, {axes[1:]}, one each.{advice} Received: image {index} of "
            f"shape {image.shape}"
        )
    return image
