"""What `train` was given, as what a level of the stack sees and should restore."""

from __future__ import annotations

from typing import NamedTuple

from stacked_autoencoder.data.adapters import Images, as_source
from stacked_autoencoder.data.array import ArraySource
from stacked_autoencoder.data.source import Pairs
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils.images import Shape, times


class TrainingData(NamedTuple):
    """Images, or encodings of them that are there already.

    Attributes:
        pairs: of them, and of what is to be restored.
        level: index of the level that sees them, 0 for images.
        shape: of the images.
    """

    pairs: Pairs
    level: int
    shape: Shape


def training_data_of(
    stack: Stack, images: Images, targets: Images | None = None, *, name: str = "images"
) -> TrainingData:
    """Images, or the encodings of a level of this stack, which the next level sees.

    Args:
        targets: what the images should be restored to, themselves by default.
        name: of the argument, for messages; only `images` may be without end.

    Raises:
        ValueError: they don't fit the stack, or not each other.
    """
    if targets is not None:
        return _paired(stack, images, targets, name)
    if isinstance(images, EncodingStore) and images.level < len(stack.levels):
        level, above = stack.levels[images.level], images.level + 1
        if images.encoder == stack.fingerprint(images.level, images.multiple):
            if above == len(stack.levels):
                raise ValueError(
                    f"`{name}` is a store of level {images.level}, the last one: `add` a level that can be trained on "
                    f"it, or give the images. Received: {str(images.path)!r}"
                )
            factor = stack.factor_at(images.level)
            source = StoreSource(images, level.encoding_shape, stack.factor // factor)
            shape = (*times(source.shape[:2], factor), stack.shape[-1]) if level.is_image else stack.shape
            return TrainingData(Pairs(source), above, shape)
        if images.shape[-1] != stack.shape[-1]:
            raise ValueError(
                f"`{name}` is a store of level {images.level} that another encoder made than this stack's, or the same "
                f"before it was trained again: call `encode_to` anew. Received: {str(images.path)!r}"
            )
    source = as_source(images, **stack.source_options, finite=None if name == "images" else name)
    return TrainingData(Pairs(source), 0, source.shape)


def _paired(stack: Stack, images: Images, targets: Images, name: str) -> TrainingData:
    inputs, clean = as_source(images, **stack.source_options), as_source(targets, **stack.source_options)
    if not (isinstance(inputs, ArraySource) and isinstance(clean, ArraySource)):
        raise ValueError(
            f"`{name}` with targets needs both in memory, as arrays or lists, so that they stay in step. "
            f"Received: {type(images).__name__} and {type(targets).__name__}"
        )
    if len(inputs) != len(clean) or inputs.sizes() != clean.sizes():
        raise ValueError(
            f"`{name}` and its targets must be as many, and each pair of one size. Received: {inputs.describe()}, and "
            f"{clean.describe()}"
        )
    return TrainingData(Pairs(inputs, clean), 0, inputs.shape)
