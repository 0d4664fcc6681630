"""Encodings on disk: written once by `Autoencoder.encode_to`, read as often as one likes.

<path>/manifest.json   what made the encodings, and what every shard holds; written last
<path>/00000.npy …     the encodings of one block of the source each, float16 or float32
<path>/part0-of-2/ …   or such folders, one from each of several writers
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import tensorflow as tf

from stacked_autoencoder.store.manifest import LABELS, LOG, MANIFEST, check_labels, moments, read_manifest
from stacked_autoencoder.store.shards import Mark, Shard, mark_of, part_name
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import expanded
from stacked_autoencoder.utils.generators import generated
from stacked_autoencoder.utils.images import Shape, index_batches
from stacked_autoencoder.utils.labels import Labels, labels_at, spec_of_labels
from stacked_autoencoder.utils.seeds import EpochShuffler

SHOWN = 3  # shards or parts that a message names


class EncodingStore:
    """Encodings on disk, read when they are asked for, with where they came from.

    Opening a store looks at every file of it. What is read later is of these files, or an error: a store whose folder
    is written to must be opened again. A store can be pickled and copied; what is made of it opens the folder again.
    Several threads may read from one store.

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
        class_names: names of the classes whose numbers `labels` are, `None` if the source had none.

    Raises:
        FileNotFoundError: nothing is there, or a part is missing.
        ValueError: the store isn't finished, its manifest is damaged, or a shard is missing, cut short or another.

    Example:
        >>> store = EncodingStore("encodings")
        >>> store[17], store[:100], store[[3, 1, 2]]         # numpy: one encoding, a batch, a batch
        >>> model.fit(store.dataset(64, shuffle=True))       # float32; with labels, if the images had them
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = expanded(path)
        marks, manifests = _manifests(self.path)
        head = next(iter(manifests.values()))
        self.level: int = head["level"]
        self.encoder: str = head["encoder"]
        self.multiple: int = head["multiple"]
        self.class_names: list[str] | None = head.get("class_names")
        self.dtype = np.dtype(head["dtype"])
        records = [(folder, record) for folder, manifest in manifests.items() for record in manifest["shards"]]
        shards = [Shard(folder, record, self.dtype) for folder, record in records]
        self.shards = sorted(shards, key=lambda shard: shard.index)
        self._check_shards()
        _check_unchanged(self.path, marks)
        self.mean, self.std = moments([shard.record for shard in self.shards])
        self._ends = np.cumsum([0, *(shard.rows for shard in self.shards)])
        shapes = {shard.shape for shard in self.shards}
        self.shape: Shape = (len(self), *(shapes.pop() if len(shapes) == 1 else _common_shape(manifests.values())))

    def __reduce__(self) -> tuple[Callable[..., EncodingStore], tuple[Any, ...]]:
        path = os.path.abspath(self.path)  # another process may have another working directory
        return _opened_again, (type(self), path, self._identity)

    @cached_property
    def _identity(self) -> str:
        """SHA-256 of what the manifests say of the shards."""
        known = [self.encoder, [[shard.index, shard.record["sha256"]] for shard in self.shards]]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def names(self) -> list[str] | None:
        """Where each encoding came from: paths below the folder that was encoded; `None` if the source had no names."""
        names = self._listed("names")
        return None if names is None else [*chain.from_iterable(names)]

    @cached_property
    def labels(self) -> Labels | None:
        """`(N, …)`: what the source gave beside each image, `None` if nothing.

        Several labels per image are a dict of such arrays by name.
        """
        columns = self._listed("named_labels")
        if columns:
            return {name: self._as_array([*chain.from_iterable(each[name] for each in columns)]) for name in columns[0]}
        labels = self._listed("labels")
        return None if labels is None else self._as_array([*chain.from_iterable(labels)])

    @overload
    def __getitem__(self, key: int | np.integer) -> np.ndarray: ...

    @overload
    def __getitem__(self, key: Any) -> np.ndarray | list[np.ndarray]: ...

    def __getitem__(self, key: Any) -> np.ndarray | list[np.ndarray]:
        """One encoding, or several as `(n, *encoding_shape)`, as a list where sizes differ; in the store's dtype.

        Args:
            key: a number, a slice, an index array or a mask.

        Raises:
            ValueError: a shard has changed since the store was opened.
        """
        if isinstance(key, slice):
            return self._rows(np.arange(*key.indices(len(self))))
        if np.ndim(key) == 0:
            return self._rows(np.array([range(len(self))[key]]))[0]
        return self._rows(np.arange(len(self))[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if None in self.shape:
            raise ValueError(f"These encodings differ in size: take a list, `store[:]`. Received: shape={self.shape}")
        return np.asarray(self[:], dtype)

    def dataset(
        self, batch_size: int = 32, shuffle: bool = False, seed: int = 0, repeat: bool = False
    ) -> tf.data.Dataset:
        """Batches of float32 encodings, or of `(encodings, labels)` if there are labels.

        Several labels per image come as a dict by name: `.map(lambda z, labels: (z, labels["age"]))` takes one.

        Args:
            batch_size: encodings per batch; where sizes differ, each batch holds one size.
            shuffle: whether to take them in an order of its own in each epoch, over the whole store.
            seed: the order is a function of this and of the number of the epoch, counted per dataset.
            repeat: whether to repeat the encodings infinitely.

        Raises:
            ValueError: `repeat` of an empty store, which would never yield a batch.
        """
        batch_size = positive_int("batch_size", batch_size)
        if repeat and len(self) == 0:
            raise ValueError(
                "`repeat=True` needs at least one encoding, and this store is empty: leave `repeat` out. "
                f"Received: {str(self.path)!r}"
            )
        epochs = EpochShuffler(seed if shuffle else None)

        def generate() -> Iterator[Any]:
            while True:
                for indices in self.index_batches(batch_size, epochs.next()):
                    batch = self.batch(indices)
                    yield batch if self.labels is None else (batch, labels_at(self.labels, indices))
                if not repeat:
                    return

        signature: Any = tf.TensorSpec((None, *self.shape[1:]), tf.float32)
        if self.labels is not None:
            signature = (signature, tf.nest.map_structure(spec_of_labels, self.labels))
        batches = generated(generate, signature)
        count = tf.data.INFINITE_CARDINALITY if repeat else len(self.index_batches(batch_size, None))
        return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2)

    def verify(self) -> None:
        """Reads every shard and compares it with its checksum.

        Raises:
            ValueError: names the shards that are damaged or missing. `encode_to` on the same source redoes only them.
        """
        damaged = [_shown(shard, self.path) for shard in self.shards if not shard.is_whole()]
        if damaged:
            raise ValueError(
                f"{', '.join(damaged)} of {len(self.shards)} shards damaged or missing: call `encode_to` with the same "
                f"source and path again, which encodes only these anew. Received: {str(self.path)!r}"
            )

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Some encodings of one size, as float32."""
        return np.asarray(self._rows(indices), np.float32)

    def index_batches(self, batch_size: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """Index batches of one size each, in order or, with a generator, shuffled within and across sizes."""
        sizes = [shard.size(row) for shard in self.shards for row in range(shard.rows)] if None in self.shape else None
        return index_batches(sizes, len(self), batch_size, rng)

    def _check_shards(self) -> None:
        """Refuses a store of which a file is missing, cut short, or another."""
        for shard, following in zip(self.shards, self.shards[1:], strict=False):
            if shard.index == following.index:
                raise ValueError(f"Two parts of this store hold shard {shard.index}. Received: {str(self.path)!r}")
        problems = [(shard, problem) for shard in self.shards if (problem := shard.problem()) is not None]
        if problems:
            shown = "; ".join(f"{_shown(shard, self.path)} {problem}" for shard, problem in problems[:SHOWN])
            more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise ValueError(
                f"{len(problems)} of {len(self.shards)} shards can't be used. {shown}{more}. The store is damaged: "
                "call `encode_to` with the same source and path again, which encodes only these anew. "
                f"Received: {str(self.path)!r}"
            )

    def _rows(self, indices: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """Some encodings: one array, or a list where sizes differ."""
        if indices.ndim != 1:
            raise IndexError(f"A store has one axis to index. Received: an index of shape {indices.shape}")
        # In the order of the files, so that each is read once, and neighbours at once.
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        shards = np.searchsorted(self._ends, ordered, side="right") - 1
        follows = (np.diff(ordered) == 1) & (np.diff(shards) == 0)
        places, rows, shards = order.tolist(), (ordered - self._ends[shards]).tolist(), shards.tolist()
        if None in self.shape:
            result: Any = [np.empty(0)] * len(places)
            for place, shard, row in zip(places, shards, rows, strict=True):
                result[place] = np.empty(self.shards[shard].size(row), self.dtype)
        else:
            result = np.empty((len(places), *self.shape[1:]), self.dtype)
            content, size = _bytes_of(result), result[:1].nbytes
            follows &= np.diff(order) == 1
        wanted: dict[int, list[tuple[int, list[memoryview]]]] = {}
        firsts = [0, *(np.flatnonzero(~follows) + 1).tolist()] if places else []
        for first, end in zip(firsts, [*firsts[1:], len(places)], strict=False):
            if None in self.shape:
                buffers = [_bytes_of(result[place]) for place in places[first:end]]
            else:
                start = places[first] * size
                buffers = [content[start : start + (end - first) * size]]
            wanted.setdefault(shards[first], []).append((rows[first], buffers))
        for shard, runs in wanted.items():
            self.shards[shard].read(runs)
        return result

    def _listed(self, name: str) -> list[Any] | None:
        """What the records of all shards say, `None` unless each says something."""
        if any(name not in shard.record for shard in self.shards):
            return None
        return [shard.record[name] for shard in self.shards]

    def _as_array(self, labels: list[Any]) -> np.ndarray:
        try:
            if labels:
                check_labels(labels)
        except ValueError as error:
            raise ValueError(f"The labels of this store are no array: {error}. Received: {str(self.path)!r}") from None
        return np.asarray(labels)


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _shown(shard: Shard, path: Path) -> str:
    return printable(shard.file.relative_to(path), 100)


def _opened_again(kind: type[EncodingStore], path: str, identity: str) -> EncodingStore:
    """A store that was pickled or copied."""
    store = kind(path)
    if store._identity != identity:
        raise ValueError(
            "This store isn't the one any more that was pickled or copied: open it with `EncodingStore(path)`. "
            f"Received: {path!r}"
        )
    return store


def _manifests(path: Path) -> tuple[dict[Path, Mark], dict[Path, dict[str, Any]]]:
    """The manifest of a store, or those of its parts, by folder; and what the files were known by before."""
    if os.path.lexists(path / MANIFEST):
        folders = [path]
    else:
        folders = [file.parent for file in sorted(path.glob(f"part*/{MANIFEST}"))]
    marks = _marks(folders)
    if folders and None not in marks.values():
        manifests = {folder: read_manifest(folder) for folder in folders}
        if folders != [path]:
            _check_parts(path, list(manifests.values()))
        return marks, manifests
    if (path / LOG).is_file():
        raise ValueError(
            "This store isn't finished: call `encode_to` with the same source and path again, which goes on where it "
            f"was cut short. Received: {str(path)!r}"
        )
    raise FileNotFoundError(f"There is no store of encodings here. Received: {str(path)!r}")


def _marks(folders: list[Path]) -> dict[Path, Mark | None]:
    """What manifests are known by, `None` where there is none."""
    marks: dict[Path, Mark | None] = {}
    for folder in folders:
        try:
            marks[folder] = mark_of(os.stat(folder / MANIFEST))
        except OSError:
            marks[folder] = None
    return marks


def _check_unchanged(path: Path, marks: dict[Path, Mark | None]) -> None:
    """Refuses shards that may be of another manifest than the one that was read."""
    if _marks([*marks]) != marks:
        raise ValueError(
            f"A process is writing to this store: open it when `encode_to` has returned. Received: {str(path)!r}"
        )


def _common_shape(manifests: Any) -> Shape:
    """The shape of an encoding, `None` for a side that differs between parts."""
    sides = zip(*(manifest["shape"] for manifest in manifests), strict=True)
    return tuple(side[0] if len(set(side)) == 1 else None for side in sides)


def _check_parts(path: Path, manifests: list[dict[str, Any]]) -> None:
    """Refuses parts that don't belong together, or that aren't all there."""
    if any(manifest["part"] is None for manifest in manifests):
        raise ValueError(
            "This folder holds several stores, of which not all are parts of one: open each by its own path. "
            f"Received: {str(path)!r}"
        )
    abouts = [
        {**{name: manifest[name] for name in ("encoder", "level", "dtype", "shard_size")}, "n": manifest["part"][1]}
        for manifest in manifests
    ]
    for about, manifest in zip(abouts, manifests, strict=True):
        about["channels"] = manifest["shape"][-1]
    for name in abouts[0]:
        values = sorted({str(about[name]) for about in abouts})
        if len(values) > 1:
            shown = " and ".join(printable(value, 100) for value in values[:SHOWN])
            raise ValueError(
                f"The parts of a store must be made alike, and these differ in `{name}`. "
                f"Received: {shown} in {str(path)!r}"
            )
    names = [manifest["class_names"] for manifest in manifests if "class_names" in manifest]
    if any(other != names[0] for other in names):
        raise ValueError(
            "The parts of a store must be made alike, and these differ in `class_names`. "
            f"Received: {printable(names, 200)} in {str(path)!r}"
        )
    for name in ("names", *LABELS):
        if len({name in record for manifest in manifests for record in manifest["shards"]}) > 1:
            raise ValueError(
                f"The parts of a store must be made alike, and only some of these have `{name}`. "
                f"Received: {str(path)!r}"
            )
    records = [record for manifest in manifests for record in manifest["shards"]]
    named = sorted({tuple(sorted(record.get("named_labels", ()))) for record in records})
    if len(named) > 1:
        shown = " and ".join(printable([*names], 100) for names in named[:SHOWN])
        raise ValueError(
            "The parts of a store must be made alike, and the names of their labels differ. "
            f"Received: {shown} in {str(path)!r}"
        )
    count, there = abouts[0]["n"], {manifest["part"][0] for manifest in manifests}
    missing = [*islice((part_name(index, count) for index in range(count) if index not in there), SHOWN)]
    if missing:
        more = count - len(there) - len(missing)
        raise FileNotFoundError(
            f"{', '.join(missing)}{f' and {more:,} more' if more else ''} missing or not finished: a folder of parts "
            f"needs all of them. Received: {str(path)!r}"
        )
