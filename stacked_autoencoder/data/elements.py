"""Converts an element of another library's data set to a NumPy array of images and their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from stacked_autoencoder.utils.checks import AXES
from stacked_autoencoder.utils.images import Shape

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow modes by number of channels
DEEP_MODES = ("I", "F")  # first letters of Pillow modes of more than 8 bits, which `convert` would clip


class Advice(NamedTuple):
    """What a user of a library can do about elements that cannot be used.

    Attributes:
        choose: how to select the image and the label.
        transpose: how to move the channels to the last axis.
    """

    choose: str
    transpose: str


def split(element: Any, shape: Shape, advice: Advice) -> tuple[np.ndarray, Any | None]:
    """Splits an element into images and labels.

    Args:
        element: an image or a batch, a tuple or list that begins with one, or a dict with one.
        shape: shape of one image that the model accepts.
        advice: advice of the library, for messages.

    Returns:
        One image `(H, W, C)` or a batch `(N, H, W, C)`, not scaled, and the labels: the second entry of a tuple; the
        number or text in a dict, or a dict of them if there are several; `None` without labels.

    Raises:
        ValueError: the element has no image, or its images are channels-first.
    """
    if isinstance(element, Mapping):
        return _split_mapping(element, shape, advice)
    if isinstance(element, (tuple, list)) and len(element) > 0 and not _are_pictures(element):
        images, label = element[0], element[1] if len(element) > 1 else None
    else:
        images, label = element, None
    return as_images(images, shape, advice), _as_label(label)


def as_images(value: Any, shape: Shape, advice: Advice) -> np.ndarray:
    """Converts a Pillow image, a tensor, an array or a list of these to an array with the axes of the model."""
    rank = len(shape)
    if isinstance(value, (list, tuple)) and len(value) > 0:
        singles = [as_images(each, shape, advice) for each in value]
        if len({single.shape for single in singles}) > 1:
            raise ValueError(
                "The images of a batch must have one size: resize them, or omit the batching, since single images of "
                f"any size are accepted. Received: shapes {singles[0].shape}, {singles[1].shape}, …"
            )
        array = np.stack(singles)
    elif is_picture(value):
        array = _from_picture(value, shape[-1])
    else:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.ndim not in (rank, rank + 1) or array.dtype.kind not in "buif":
        raise ValueError(
            f"An element must be {AXES[rank]}, a batch (N, {AXES[rank][1:]}, or a tuple that begins with one of these: "
            f"{advice.choose}. Received: {_shown(value)}"
        )
    if rank == 3 and array.shape[-1] != shape[-1] and array.shape[-3] == shape[-1]:
        raise ValueError(
            "The images are channels-first (C, H, W), but the model accepts channels-last (H, W, C): "
            f"{advice.transpose}. Received: shape={array.shape}"
        )
    return array


def is_picture(value: Any) -> bool:
    """Whether this is a Pillow image."""
    return any(each.__module__ == "PIL.Image" for each in type(value).__mro__)


def _are_pictures(values: Any) -> bool:
    return isinstance(values, list) and all(map(is_picture, values))


def _from_picture(picture: Any, channels: int) -> np.ndarray:
    """Converts a Pillow image like a picture file: upright, colour to grey by luma, an alpha channel onto white."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(DEEP_MODES):
        return np.repeat(np.asarray(picture)[..., None], channels, axis=-1)
    if picture.mode in ("LA", "PA", "RGBA") and channels in (1, 3):
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    array = np.asarray(picture.convert(MODES.get(channels, "RGB")))
    return array[..., None] if array.ndim == 2 else array


def _split_mapping(element: Mapping[str, Any], shape: Shape, advice: Advice) -> tuple[np.ndarray, Any | None]:
    entries = {
        name: value for name, value in element.items() if not str(name).startswith("__")
    }  # metadata of WebDataset
    names = [name for name, value in entries.items() if _can_be_images(value, len(shape))]
    if len(names) != 1:
        raise ValueError(
            f"The elements are dicts with {len(names) or 'no'} entries that can be images {AXES[len(shape)]}: "
            f"{advice.choose}. Received: {_shown(element)}"
        )
    images = as_images(entries.pop(names[0]), shape, advice)
    rank = images.ndim - len(shape)  # 1 if the labels have a batch axis
    labels = {
        name: _as_label(value) for name, value in entries.items() if value is not None and _rank_of(value) == rank
    }
    return images, (labels if len(labels) > 1 else next(iter(labels.values()), None))


def _can_be_images(value: Any, rank: int) -> bool:
    if is_picture(value) or (isinstance(value, list) and len(value) > 0 and _are_pictures(value)):
        return True
    return hasattr(value, "shape") and len(value.shape) in (rank, rank + 1)


def _rank_of(value: Any) -> int:
    if hasattr(value, "shape"):
        return len(value.shape)
    if isinstance(value, (list, tuple)):
        return 1 + max(map(_rank_of, value), default=0)
    return 0 if isinstance(value, (str, bytes, int, float)) else -1


def _as_label(value: Any) -> Any:
    return np.asarray(value.detach().cpu()) if hasattr(value, "detach") else value


def _shown(value: Any) -> str:
    """Describes an element in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_shown(each)}" for name, each in value.items()) + "}"
    if hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    return type(value).__name__
