"""Images from a folder of pictures."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from stacked_autoencoder.sources.base import Block, Shape, Source, batch_by_size

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


class FolderBlock(Block):
    def __init__(self, index: int, folder: Path, source: FolderSource) -> None:
        self.index = index
        self.source = source
        self.names = [path.relative_to(folder).as_posix() for path in source.paths]

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        return self.source.in_order(batch_size, scale=False)

    def fingerprint(self) -> str:
        """Of names, sizes and times of change: reading a million pictures to know them again would take too long."""
        stats = [path.stat() for path in self.source.paths]
        known = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(self.names, stats, strict=True)]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()


class FolderSource(Source):
    """The pictures below a folder, sorted by path; grey or colour as the model has one channel or three."""

    def __init__(self, folder: Path, shape: Shape, factor: int) -> None:
        super().__init__(shape, factor, check_range=True)
        self.folder = folder
        if not folder.is_dir():
            raise FileNotFoundError(f"`images` names a folder that isn't there. Received: {str(folder)!r}")
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
        if not self.paths:
            raise ValueError(f"No pictures ({', '.join(PICTURES)}) are below the folder. Received: {str(folder)!r}")
        if shape[-1] not in (1, 3):
            raise ValueError(
                f"Pictures in a folder are grey (1 channel) or colour (3); the model wants {shape[-1]}. Give the "
                "Autoencoder a shape that ends in 1 or 3."
            )
        self.check(np.zeros((1, 1, 1, 1), np.uint8), 0)

    def raw_batches(self, batch_size: int, shuffle: bool) -> tf.data.Dataset:
        return batch_by_size(self._decoded(shuffle), batch_size, self.shape)

    def raw_singles(self) -> tf.data.Dataset:
        return self._decoded(shuffle=False).batch(1)

    def _decoded(self, shuffle: bool) -> tf.data.Dataset:
        paths = tf.data.Dataset.from_tensor_slices([str(path) for path in self.paths])
        if shuffle:
            paths = paths.shuffle(len(self.paths), seed=np.random.randint(2**31))

        def read(path: tf.Tensor) -> tf.Tensor:
            return tf.io.decode_image(tf.io.read_file(path), channels=self.shape[-1], expand_animations=False)

        def decode(path: tf.Tensor) -> tf.Tensor:
            try:
                image = read(path)
                self.check_shape(image.shape)
            except (tf.errors.OpError, ValueError) as error:
                reason = str(getattr(error, "message", error))
                raise self.remember(ValueError(f"{path.numpy().decode()}: {reason}")) from None
            return image

        def decoded(path: tf.Tensor) -> tf.Tensor:
            image = tf.py_function(decode, [path], tf.uint8)
            image.set_shape(self.shape)
            return image

        return paths.map(decoded, num_parallel_calls=self.workers or tf.data.AUTOTUNE)

    def blocks(self, size: int) -> Iterator[FolderBlock]:
        for start in range(0, len(self.paths), size):
            part = copy.copy(self)
            part.paths, part.counted = self.paths[start : start + size], {}
            yield FolderBlock(start // size, self.folder, part)

    def count(self) -> int:
        return len(self.paths)

    def describe(self) -> str:
        return f"{len(self.paths)} pictures below {str(self.folder.resolve())!r}"

    def count_batches(self, batch_size: int) -> int:
        if None not in self.shape[:2]:
            return -(-len(self.paths) // batch_size)
        return sum(1 for _ in self.raw_batches(batch_size, shuffle=False))
