"""Conversion of the arguments of `train` to inputs and targets of a level."""

from __future__ import annotations

from typing import NamedTuple

from stacked_autoencoder.data.adapters import Images, as_pairs
from stacked_autoencoder.data.pairs import Pairs, paired
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils.images import Shape, times


class TrainingData(NamedTuple):
    """Images, or their stored encodings.

    Attributes:
        pairs: the inputs and targets.
        level: index of the level that receives them; 0 for images.
        shape: shape of the images.
    """

    pairs: Pairs
    level: int
    shape: Shape


def training_data_of(
    stack: Stack, images: Images, targets: Images | None = None, *, name: str = "images"
) -> TrainingData:
    """Returns the training data: images, or a store of encodings, which the next level receives.

    Args:
        stack: the stack to train.
        images: images, pairs, or a store that this stack wrote.
        targets: targets of the reconstruction; by default the second element of pairs, or the images.
        name: name of the argument, for messages. Only `images` may be infinite.

    Raises:
        ValueError: the data don't fit the stack, or the targets don't fit the images.
    """
    stored = _of_store(stack, images, name)
    if stored is not None and targets is not None:
        stored_targets = _of_store(stack, targets, "targets")
        if stored_targets is None or stored_targets.level != stored.level:
            raise ValueError(
                f"`{name}` is a store of level {images.level}, so `targets` must be a store of the same level. Encode "
                f"the target images with `encode_to(…, level={images.level})` of the same stack. "
                f"Received: targets={type(targets).__name__}"
            )
        return stored._replace(pairs=paired(stored.pairs.inputs, stored_targets.pairs.inputs, name))
    if stored is not None:
        return stored
    finite = None if name == "images" else name
    pairs = as_pairs(images, targets, **stack.source_options, finite=finite, name=name)
    return TrainingData(pairs, 0, pairs.inputs.shape)


def _of_store(stack: Stack, images: Images, name: str) -> TrainingData | None:
    """Returns the encodings in a store that this stack wrote; `None` for anything else."""
    if not isinstance(images, EncodingStore) or images.level >= len(stack.levels):
        return None
    level, above = stack.levels[images.level], images.level + 1
    if images.encoder == stack.fingerprint(images.level, images.multiple):
        if above == len(stack.levels):
            raise ValueError(
                f"`{name}` is a store of level {images.level}, the last one, so there is no level to train on it. Add "
                f"one with `sae.add(…)`, or pass the images. Received: {str(images.path)!r}"
            )
        factor = stack.factor_at(images.level)
        source = StoreSource(images, level.encoding_shape, stack.factor // factor)
        shape = (*times(source.shape[:2], factor), stack.shape[-1]) if level.is_image else stack.shape
        return TrainingData(Pairs(source), above, shape)
    if images.shape[-1] != stack.shape[-1]:
        raise ValueError(
            f"`{name}` is a store of level {images.level} that another encoder wrote, or this one before it was "
            f"trained again. Encode the images again with `encode_to` and a new path. Received: {str(images.path)!r}"
        )
    return None
