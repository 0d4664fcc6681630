"""What `train` was given, as what a level of the stack sees and should restore."""

from __future__ import annotations

from typing import NamedTuple

from stacked_autoencoder.data.adapters import Images, as_pairs
from stacked_autoencoder.data.pairs import Pairs, paired
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
        targets: what the images should be restored to, the second element of pairs or themselves by default.
        name: of the argument, for messages; only `images` may be infinite.

    Raises:
        ValueError: they don't fit the stack, or not each other.
    """
    stored = _stored(stack, images, name)
    if stored is not None and targets is not None:
        clean = _stored(stack, targets, "targets")
        if clean is None or clean.level != stored.level:
            raise ValueError(
                f"`{name}` is a store of level {images.level}, so its targets must be one of this level, too: what the "
                "same stack makes of the images to restore, by `encode_to`. "
                f"Received: targets={type(targets).__name__}"
            )
        return stored._replace(pairs=paired(stored.pairs.inputs, clean.pairs.inputs, name))
    if stored is not None:
        return stored
    finite = None if name == "images" else name
    pairs = as_pairs(images, targets, **stack.source_options, finite=finite, name=name)
    return TrainingData(pairs, 0, pairs.inputs.shape)


def _stored(stack: Stack, images: Images, name: str) -> TrainingData | None:
    """The encodings of a level of this stack; `None` if that isn't what was given."""
    if not isinstance(images, EncodingStore) or images.level >= len(stack.levels):
        return None
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
    return None
