"""What a user passes in → batches of float32 images, checked, scaled and padded.

    array, tensor        ─┐
    list of tensors       ├─▶ ArraySource ─┐
    tf.data.Dataset      ───▶ StreamSource ┼─▶ dataset(batch_size): float32 (N, H, W, C), one size per batch
    keras PyDataset      ───▶ StreamSource │
    path, ImageFolder    ───▶ FolderSource ┤
    EncodingStore        ───▶ StoreSource  ┘

`uint8` becomes [-1, 1]; floats stay as they are and must lie in [-1, 1]. Sides become multiples of the stack's factor
by reflection.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.array import ArraySource
from stacked_autoencoder.data.dataset import StreamSource
from stacked_autoencoder.data.folder import FolderSource
from stacked_autoencoder.data.image_folder import ImageFolder
from stacked_autoencoder.data.pairs import Pairs, StreamPairs, paired
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils.checks import AXES, described
from stacked_autoencoder.utils.forks import check_not_forked
from stacked_autoencoder.utils.generators import generated
from stacked_autoencoder.utils.images import Shape
from stacked_autoencoder.utils.labels import as_labels, spec_of_labels

Images = Any


def as_source(
    images: Images, shape: Shape, *, factor: int = 1, check_range: bool = True, finite: str | None = None
) -> Source:
    """Wraps whatever a user passes in.

    Args:
        images: array or tensor `(N, H, W, C)`; list of `(H, W, C)` or `(1, H, W, C)`, sizes may differ;
            `tf.data.Dataset` or `keras.utils.PyDataset` of images or `(images, labels)`; path of a folder, or an
            `ImageFolder`; an `EncodingStore`.
        shape: of one image, `None` where any size will do.
        factor: sides become multiples of it; smaller images are refused.
        check_range: whether floats must lie in [-1, 1].
        finite: name of the argument, if it must come to an end.

    Raises:
        ValueError: the images can't be what the model was made for. The message says which, and what to do.
        FileNotFoundError: a folder that isn't there.
    """
    check_not_forked()
    if len(shape) > 1 and gives_pairs(images, shape):  # of vectors, the second may be labels of as many values
        alone = "a PyDataset that yields it"
        if not isinstance(images, keras.utils.PyDataset):
            alone = "`images[0]`" if isinstance(images, tuple) else "`images.map(lambda first, *_: first)`"
        raise ValueError(
            "`images` gives pairs, of which the second element isn't labels: it has the shape of the images. Give the "
            f"first alone, {alone}. To restore the first to the second, give the pairs to `train`, `fine_tune` or "
            f"`evaluate`, or the second as `targets=` there. Received: {type(images).__name__} of pairs"
        )
    source = _adapted(images, shape, factor, check_range)
    if finite is not None and source.is_endless:
        raise ValueError(f"`{finite}` is a dataset without end; give it one with `.take(number)`.")
    return source


def as_pairs(
    images: Images,
    targets: Images | None,
    shape: Shape,
    *,
    factor: int = 1,
    check_range: bool = True,
    finite: str | None = None,
    name: str = "images",
) -> Pairs:
    """Images, and what they should be restored to: `targets`, or the second element of pairs; else themselves.

    Args:
        images: as in `as_source`; also a dataset, PyDataset or tuple of pairs.
        targets: the same; as many, in the same order.
        name: of the argument, for messages.

    Raises:
        ValueError: as in `as_source`, or they don't make pairs.
    """
    check_not_forked()
    options = {"shape": shape, "factor": factor, "check_range": check_range}
    if targets is None and isinstance(images, tuple) and gives_pairs(images, shape):
        images, targets = images
    if targets is not None:
        pairs = paired(as_source(images, **options), as_source(targets, **options), name)
    elif gives_pairs(images, shape):
        dataset = images if isinstance(images, tf.data.Dataset) else _from_py_dataset(images, len(shape))
        pairs = Pairs.of(StreamPairs.of_elements(dataset, **options))
    else:
        pairs = Pairs(as_source(images, **options))
    if finite is not None and pairs.inputs.is_endless:
        raise ValueError(f"`{finite}` is a dataset without end; give it one with `.take(number)`.")
    return pairs


def gives_pairs(images: Images, shape: Shape) -> bool:
    """Whether a second element is given that is like the images, so that it isn't labels.

    Args:
        shape: of one image, as the model takes it.
    """
    if isinstance(images, tuple) and len(images) == 2:
        if isinstance(images[1], (*SOURCES, str, os.PathLike)):
            return True
        first, second = (_array_shape(part, len(shape)) for part in images)
        # A folder or a dataset has images of the model's shape.
        return _are_alike((None, *shape) if isinstance(images[0], (*SOURCES, str, os.PathLike)) else first, second)
    if isinstance(images, tf.data.Dataset):
        spec = images.element_spec
        parts = spec[:2] if isinstance(spec, tuple) else ()
    elif isinstance(images, keras.utils.PyDataset) and len(images) > 0:
        batch = images[0]
        parts = batch[:2] if isinstance(batch, (tuple, list)) else ()
    else:
        return False
    shapes = [tuple(part.shape) for part in parts if getattr(part, "shape", None) is not None and _has_rank(part)]
    if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]):
        return False
    if len(shapes[0]) == len(shape):  # of single images
        shapes = [(None, *each) for each in shapes]
    return len(shapes[0]) == len(shape) + 1 and _are_alike(*shapes)


SOURCES = (ImageFolder, EncodingStore, tf.data.Dataset, keras.utils.PyDataset)  # of images, which labels never are


def _has_rank(part: Any) -> bool:
    return getattr(part.shape, "rank", 0) is not None


def _array_shape(images: Any, rank: int) -> Shape | None:
    """Of an array or a list of arrays, `None` for a side that differs; `None` for anything else."""
    if isinstance(images, (list, tuple)) and images and hasattr(images[0], "shape"):
        shapes = [tuple(getattr(image, "shape", ())) for image in images]
        shapes = [shape[1:] if len(shape) == rank + 1 and shape[0] == 1 else shape for shape in shapes]
        if any(len(shape) != rank for shape in shapes):
            return None
        sides = (set(side) for side in zip(*shapes, strict=True))
        return (len(images), *(side.pop() if len(side) == 1 else None for side in sides))
    shape = getattr(images, "shape", None)
    return tuple(shape) if shape is not None and len(shape) == rank + 1 else None


def _are_alike(shape: Shape | None, other: Shape | None) -> bool:
    """Whether images of these shapes can be pairs, as far as is known; the number of them aside."""
    if shape is None or other is None or len(shape) != len(other):
        return False
    return all(None in pair or pair[0] == pair[1] for pair in [*zip(shape, other, strict=True)][1:])


def _adapted(images: Images, shape: Shape, factor: int, check_range: bool) -> Source:
    if isinstance(images, Source):
        return images
    labels = None
    if isinstance(images, tuple) and len(images) == 2:  # (images, labels), as Keras has it
        images, labels = images
    if isinstance(images, EncodingStore):
        return StoreSource(images, shape, factor, check_range, labels)
    if isinstance(images, (str, os.PathLike)):
        images = ImageFolder(images)
    if isinstance(images, ImageFolder):
        if len(shape) != 3:
            raise ValueError(
                f"A folder holds images, and the model was made for {described(shape)}: give an array or a dataset. "
                f"Received: {images!r}"
            )
        return FolderSource(images, shape, factor, labels)
    if isinstance(images, keras.utils.PyDataset):
        images = _from_py_dataset(images, len(shape))
    if isinstance(images, tf.data.Dataset):
        return StreamSource(images, shape, factor, check_range, labels)
    if isinstance(images, (list, tuple)):
        if not images:
            raise ValueError("`images` is empty; at least one image is needed. Received: images=[]")
        singles = [_single(_as_array(image), index, len(shape)) for index, image in enumerate(images)]
        return ArraySource(singles, shape, factor, check_range, labels)
    return ArraySource(_as_array(images), shape, factor, check_range, labels)


def _from_py_dataset(batches: keras.utils.PyDataset, rank: int) -> tf.data.Dataset:
    def arrays(item: Any) -> tuple[Any, ...]:
        """Images, and labels if there are any; sample weights are of no use here."""
        images, labels, *_ = (*item, None) if isinstance(item, (tuple, list)) else (item, None)
        images = np.asarray(images)
        return (images,) if labels is None else (images, as_labels(labels, len(images)))

    def generate() -> Iterator[tuple[Any, ...]]:
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
    signature += [tf.nest.map_structure(spec_of_labels, each) for each in labels]
    dataset = generated(generate, tuple(signature))
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))


def _as_array(images: Any) -> np.ndarray:
    array = images.numpy() if hasattr(images, "numpy") else np.asarray(images)
    if array.dtype == object and not array.shape:
        raise ValueError(
            "`images` must be an array, a list of arrays, a `tf.data.Dataset`, a PyDataset, an `ImageFolder` or "
            f"the path of a folder. Received: images={images!r}"
        )
    if array.dtype == object:
        raise ValueError(
            "`images` is an object array, which numpy makes of images of different sizes. Pass them as a list of "
            f"arrays (H, W, C) instead. Received: dtype=object, shape={array.shape}"
        )
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            "`images` must be uint8 (0 to 255) or floats in [-1, 1]; convert with `images.astype('uint8')` if they are "
            f"pixels. Received: dtype={array.dtype}"
        )
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
