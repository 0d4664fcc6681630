"""Images one after the other: in blocks, which become the shards of a store, and in batches of neighbours."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

Shape = tuple[int | None, ...]
PIXELS = 1 << 22  # in a batch that isn't trained on
OPEN_SIDE = 512  # what a side is taken for that isn't known


class Block(ABC):
    """Neighbouring images of a source: what becomes one shard of a store.

    Attributes:
        index: of the block in its source.
        names: where each image came from, if the source knows.
        labels: what the source gives beside the images, if anything; complete when `batches` has been read.
    """

    index: int
    names: list[str] | None = None
    labels: Sequence[Any] | None = None

    @abstractmethod
    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """The images in order and as they are (`uint8` unscaled), each batch of one size; to be read once."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 by which these images are known again. A stream reads what is left of the block for it."""


class ImageBlock(Block):
    """A block that knows its images one by one, and by what they hold."""

    @abstractmethod
    def images(self) -> Iterator[np.ndarray]:
        """Single images in order, as they are."""

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        return joined_neighbours((image[None] for image in self.images()), batch_size)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for image in self.images():
            add_image(digest, image)
        return digest.hexdigest()


def joined_neighbours(batches: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Small batches → as many neighbours of one size as fit into a batch, in order."""
    waiting: list[np.ndarray] = []
    for images in batches:
        full = sum(map(len, waiting)) + len(images) > fitting(batch_size, images.shape[1:])
        if waiting and (full or waiting[0].shape[1:] != images.shape[1:]):
            yield np.concatenate(waiting)
            waiting = []
        waiting.append(images)
    if waiting:
        yield np.concatenate(waiting)


def fitting(batch_size: int, shape: Shape) -> int:
    """How many images of such a shape to take at once: fewer where they are large, as those of an open size may be."""
    return max(1, min(batch_size, PIXELS // math.prod(side or OPEN_SIDE for side in shape[:-1])))


def add_image(digest: Any, image: np.ndarray) -> None:
    """Adds an image to a `hashlib` digest: the same images have one fingerprint, whatever they come in."""
    digest.update(f"{image.shape} {image.dtype}".encode())
    digest.update(np.ascontiguousarray(image).data)
