"""Encodings on disk: written once by `Autoencoder.encode_to`, read as often as one likes.

<path>/manifest.json   what made the encodings, and what every shard holds; written last
<path>/00000.npy …     the encodings of one block of the source each, float16 or float32
<path>/part0-of-2/ …   or such folders, one from each of several writers
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from stacked_autoencoder.seeds import Passes
from stacked_autoencoder.shards import LOG, MANIFEST, Shard, moments, part_name, read_manifest
from stacked_autoencoder.sources.base import index_batches
from stacked_autoencoder.sources.blocks import Shape
from stacked_autoencoder.sources.released import generated


class EncodingStore:
    """Encodings on disk, memory-mapped, with where they came from.

    Args:
        path: what `encode_to` wrote, or a folder of such parts, written with `shard=(i, n)`.

    Attributes:
        level: index of the level whose encodings these are.
        encoder: SHA-256 of the weights and the arguments of all levels that made them.
        multiple: what height and width of the images were padded to.
        shape: `(N, *encoding_shape)`, `None` for a side that differs.
        dtype: `float16` or `float32`.
        mean: `(channels,)` mean of the encodings, float64, for models that need standardised input.
        std: `(channels,)` their standard deviation.

    Raises:
        FileNotFoundError: nothing is there, or a part is missing.
        ValueError: the store isn't finished, or its manifest is damaged.

    Example:
        >>> store = EncodingStore("encodings")
        >>> store[17], store[:100], store[[3, 1, 2]]         # numpy: one encoding, a batch, a batch
        >>> model.fit(store.dataset(64, shuffle=True))       # float32; with labels, if the images had them
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        manifests = _manifests(self.path)
        head = next(iter(manifests.values()))
        self.level: int = head["level"]
        self.encoder: str = head["encoder"]
        self.multiple: int = head["multiple"]
        self.dtype = np.dtype(head["dtype"])
        shards = [Shard(folder, record) for folder, manifest in manifests.items() for record in manifest["shards"]]
        self.shards = sorted(shards, key=lambda shard: shard.index)
        self.mean, self.std = moments([shard.record for shard in self.shards])
        self._ends = np.cumsum([0, *(shard.rows for shard in self.shards)])
        shapes = {shard.shape for shard in self.shards}
        self.shape: Shape = (len(self), *(shapes.pop() if len(shapes) == 1 else head["shape"]))

    def __len__(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def names(self) -> list[str] | None:
        """Where each encoding came from: paths below the folder that was encoded; `None` if the source had no names."""
        return self._listed("names")

    @cached_property
    def labels(self) -> np.ndarray | None:
        """What the source gave beside each image, `None` if nothing."""
        labels = self._listed("labels")
        return None if labels is None else np.asarray(labels)

    def __getitem__(self, key: Any) -> np.ndarray | list[np.ndarray]:
        """One encoding, or several as `(n, *encoding_shape)`, as a list where sizes differ; in the store's dtype.

        Args:
            key: a number, a slice, an index array or a mask.
        """
        if np.ndim(key) == 0 and not isinstance(key, slice):
            return self._rows(np.array([range(len(self))[key]]))[0]
        rows = self._rows(np.arange(len(self))[key])
        if None in self.shape:
            return rows
        return np.stack(rows) if rows else np.empty((0, *self.shape[1:]), self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if None in self.shape:
            raise ValueError(f"These encodings differ in size: take a list, `store[:]`. Received: shape={self.shape}")
        return np.asarray(self[:], dtype)

    def dataset(
        self, batch_size: int = 32, shuffle: bool = False, seed: int = 0, repeat: bool = False
    ) -> tf.data.Dataset:
        """Batches of float32 encodings, or of `(encodings, labels)` if there are labels.

        Args:
            batch_size: encodings per batch; where sizes differ, each batch holds one size.
            shuffle: whether to take them in an order of its own in each epoch, over the whole store.
            seed: the order is a function of this and of the number of the epoch, counted per dataset.
            repeat: whether to go on without end.
        """
        epochs = Passes(seed if shuffle else None)

        def generate() -> Iterator[Any]:
            while True:
                for indices in self.index_batches(batch_size, epochs.next()):
                    batch = self.batch(indices)
                    yield batch if self.labels is None else (batch, self.labels[indices])
                if not repeat:
                    return

        signature: Any = tf.TensorSpec((None, *self.shape[1:]), tf.float32)
        if self.labels is not None:
            signature = (signature, tf.TensorSpec((None, *self.labels.shape[1:]), self.labels.dtype))
        batches = generated(generate, signature)
        count = tf.data.INFINITE_CARDINALITY if repeat else len(self.index_batches(batch_size, None))
        return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2)

    def verify(self) -> None:
        """Reads every shard and compares it with its checksum.

        Raises:
            ValueError: names the shards that are damaged or missing. `encode_to` on the same source redoes only them.
        """
        damaged = [str(shard.file.relative_to(self.path)) for shard in self.shards if not shard.is_whole()]
        if damaged:
            raise ValueError(
                f"{', '.join(damaged)} of {len(self.shards)} shards damaged or missing: call `encode_to` with the same "
                f"source and path again, which encodes only these anew. Received: {str(self.path)!r}"
            )

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Some encodings of one size, as float32."""
        return np.stack(self._rows(indices)).astype(np.float32)

    def index_batches(self, batch_size: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """Index batches of one size each, in order or, with a generator, shuffled within and across sizes."""
        sizes = [shard.size(row) for shard in self.shards for row in range(shard.rows)] if None in self.shape else None
        return index_batches(sizes, len(self), batch_size, rng)

    def _rows(self, indices: np.ndarray) -> list[np.ndarray]:
        """Copies of single encodings, so that nothing keeps a file mapped."""
        homes = np.searchsorted(self._ends, indices, side="right") - 1
        rows = [
            np.array(self.shards[home].row(index - self._ends[home]))
            for home, index in zip(homes, indices, strict=True)
        ]
        for home in set(homes.tolist()):  # a row read at random can map two megabytes around it
            self.shards[home].release()
        return rows

    def _listed(self, name: str) -> list[Any] | None:
        if any(name not in shard.record for shard in self.shards):
            return None
        return [item for shard in self.shards for item in shard.record[name]]


def _manifests(path: Path) -> dict[Path, dict[str, Any]]:
    """The manifest of a store, or those of its parts, by folder."""
    if (path / MANIFEST).is_file():
        return {path: read_manifest(path)}
    parts = {file.parent: read_manifest(file.parent) for file in sorted(path.glob(f"part*/{MANIFEST}"))}
    if parts:
        _check_parts(path, list(parts.values()))
        return parts
    if (path / LOG).is_file():
        raise ValueError(
            "This store isn't finished: call `encode_to` with the same source and path again, which goes on where it "
            f"was cut short. Received: {str(path)!r}"
        )
    raise FileNotFoundError(f"There is no store of encodings here. Received: {str(path)!r}")


def _check_parts(path: Path, manifests: list[dict[str, Any]]) -> None:
    """Refuses parts that don't belong together, or that aren't all there."""
    abouts = [
        {**{name: manifest[name] for name in ("encoder", "level", "dtype", "shard_size")}, "n": manifest["part"][1]}
        for manifest in manifests
    ]
    for name in abouts[0]:
        values = sorted({str(about[name]) for about in abouts})
        if len(values) > 1:
            raise ValueError(
                f"The parts of a store must be made alike, and these differ in `{name}`. "
                f"Received: {' and '.join(values)} in {str(path)!r}"
            )
    expected = {part_name(index, abouts[0]["n"]) for index in range(abouts[0]["n"])}
    missing = sorted(expected - {part_name(*manifest["part"]) for manifest in manifests})
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)} missing or not finished: a folder of parts needs all of them. "
            f"Received: {str(path)!r}"
        )
