"""The source for stores: encodings as the input of the next level."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.source import DatasetSource, ImageBlock, everything
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils.generators import generated
from stacked_autoencoder.utils.images import Shape
from stacked_autoencoder.utils.labels import Labels, as_labels, labels_at
from stacked_autoencoder.utils.seeds import EpochShuffler
from stacked_autoencoder.utils.value_range import UNLIMITED, ValueRange


class StoreBlock(ImageBlock):
    def __init__(self, index: int, store: EncodingStore, rows: range, labels: Labels | None) -> None:
        self.index = index
        self.store = store
        self.rows = rows
        self.names = None if store.names is None else store.names[rows.start : rows.stop]
        self.labels = labels_at(labels, slice(rows.start, rows.stop))

    def images(self) -> Iterator[np.ndarray]:
        return (self.store[row] for row in self.rows)


class StoreSource(DatasetSource):
    """Encodings that are read from a store as they are needed. `labels` replace the labels of the store."""

    def __init__(
        self,
        store: EncodingStore,
        shape: Shape,
        factor: int = 1,
        values: ValueRange = UNLIMITED,
        labels: Any = None,
    ) -> None:
        super().__init__(shape, factor, values)
        self.store = store
        self.labels = None if labels is None else as_labels(labels, len(store))
        if len(store) == 0:
            raise ValueError(f"The store is empty, but at least one encoding is needed. Received: {str(store.path)!r}")
        self.check_shape(store.shape[1:])
        self.shape = store.shape[1:]
        self.class_names = store.class_names

    def raw_batches(self, batch_size: int, shuffle: bool, first_pass: int = 0) -> tf.data.Dataset:
        passes = EpochShuffler.drawn(shuffle, first_pass)
        return self._generated(lambda: self.store.index_batches(batch_size, passes.next()))

    def raw_singles(self) -> tf.data.Dataset:
        return self._generated(lambda: (np.array([row]) for row in range(len(self.store))))

    def count_batches(self, batch_size: int) -> int:
        return len(self.store.index_batches(batch_size))

    def blocks(self, size: int, wanted: Callable[[int], bool] = everything) -> Iterator[StoreBlock]:
        labels = self.store.labels if self.labels is None else self.labels
        for start in range(0, len(self.store), size):
            rows = range(start, min(start + size, len(self.store)))
            yield StoreBlock(start // size, self.store, rows, labels)

    def sizes(self) -> Iterator[Shape]:
        """Yields the shape of every encoding."""
        if None not in self.store.shape:
            return repeat(self.store.shape[1:], len(self.store))
        return (shard.size(row) for shard in self.store.shards for row in range(shard.rows))

    def count(self) -> int:
        return len(self.store)

    def describe(self) -> str:
        return f"the store {str(self.store.path.resolve())!r}"

    def _generated(self, plan: Callable[[], Iterable[np.ndarray]]) -> tf.data.Dataset:
        def generate() -> Iterator[np.ndarray]:
            for indices in plan():
                try:  # a file of the store may have been changed or deleted
                    batch = self.check(self.store.batch(indices), int(indices[0]))
                except (ValueError, OSError) as error:
                    raise self.remember(error) from None
                yield batch

        return generated(generate, tf.TensorSpec((None, *self.shape), tf.float32))
