"""`EncodingStore`: encodings on disk, written by `Autoencoder.encode_to`.

<path>/manifest.json   metadata of the store and one record per shard; written last
<path>/00000.npy …     shards: the encodings of consecutive images, float16, float32 or int8; compressed ones are `.zst`
<path>/part0-of-2/ …   or one such folder per writer, if several processes wrote the store
"""

from __future__ import annotations

import hashlib
import html
import json
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import tensorflow as tf

from stacked_autoencoder.store import compression, conversion, quantisation
from stacked_autoencoder.store.manifest import (
    LABELS,
    LOG,
    MANIFEST,
    check_labels,
    moments,
    read_manifest,
    values_dtype,
)
from stacked_autoencoder.store.shards import Mark, Shard, mark_of, part_name, shard_of
from stacked_autoencoder.utils.checks import features_to_keep, positive_int
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import expanded
from stacked_autoencoder.utils.generators import generated
from stacked_autoencoder.utils.images import Shape, index_batches
from stacked_autoencoder.utils.labels import Labels, labels_at, spec_of_labels
from stacked_autoencoder.utils.seeds import EpochShuffler

SHOWN = 3  # shards or parts named in a message


class EncodingStore:
    """Encodings on disk, with their labels and the names of their images.

    `Autoencoder.encode_to` writes a store and returns it. Index a store like an array to read encodings into memory,
    pass it to `train` and to heads, or use `dataset` to train any Keras model on it.

    When a store is opened, it checks that all its files exist and have the right size, but reads no encodings. If the
    files change later, reading raises an error. Open the store again in this case. Stores can be pickled and copied;
    the copy opens the folder again. Several threads can read from one store.

    In a terminal and in a notebook, a store is shown as a table of its properties.

    Args:
        path: folder that `encode_to` wrote, or a folder that contains all parts written with `shard=(i, n)`.

    Attributes:
        path: path of the folder.
        level: index of the level that made the encodings.
        encoder: SHA-256 of the weights and arguments of all levels that made the encodings.
        multiple: number to whose multiples the height and width of the images were padded.
        shape: `(N, *encoding_shape)`, with `None` for a side whose length varies.
        dtype: dtype of the encodings that are read, `float16` or `float32`.
        file_dtype: dtype of the files: `float16` or `float32`; `int8` or, in compressed files, `int32`, whose numbers
            are read as float32.
        loss_budget: the `loss_budget` of `encode_to`, or `None`.
        added_loss: share by which the rounding of a compressed store increases the loss of reconstructions, measured
            on held-out images of the source when the store was created (the largest of all parts); otherwise `None`.
        mean: float64 array `(channels,)`, mean of each channel, for models that need standardised inputs.
        std: float64 array `(channels,)`, standard deviation of each channel.
        names: list of `N` paths of the images, relative to the folder that was encoded, or `None`.
        labels: array `(N, …)`, a dict of such arrays, or `None`.
        class_names: names of the classes, in the order of the integer `labels`, or `None`.

    Raises:
        FileNotFoundError: there is no store at `path`, or a part is missing.
        ValueError: the store is not finished, its manifest is damaged, or a shard is missing or damaged.

    Example:
        >>> store = sae.encode_to("encodings", (images, labels))  # 1,000 images (64, 64, 3)
        >>> store.shape, store.dtype
        ((1000, 8, 8, 64), dtype('float16'))
        >>> z = store[:100]                                       # (100, 8, 8, 64) float16
        >>> model.fit(store.dataset(64, shuffle=True), epochs=5)  # batches (64, 8, 8, 64) float32, (64,) labels
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = expanded(path)
        marks, manifests = _manifests(self.path)
        head = next(iter(manifests.values()))
        self.level: int = head["level"]
        self.encoder: str = head["encoder"]
        self.multiple: int = head["multiple"]
        self.class_names: list[str] | None = head.get("class_names")
        self.loss_budget: float | None = head.get("loss_budget")
        added = [manifest["added_loss"] for manifest in manifests.values() if "added_loss" in manifest]
        self.added_loss: float | None = max(added, default=None)
        self.file_dtype, self.dtype = np.dtype(head["dtype"]), np.dtype(values_dtype(head["dtype"]))
        records = [(folder, record) for folder, manifest in manifests.items() for record in manifest["shards"]]
        shards = [shard_of(folder, record, head["dtype"]) for folder, record in records]
        self.shards = sorted(shards, key=lambda shard: shard.index)
        self._check_shards()
        _check_unchanged(self.path, marks)
        self.mean, self.std = moments([shard.record for shard in self.shards])
        self._ends = np.cumsum([0, *(shard.rows for shard in self.shards)])
        shapes = {shard.shape for shard in self.shards}
        self.shape: Shape = (len(self), *(shapes.pop() if len(shapes) == 1 else _common_shape(manifests.values())))

    def __reduce__(self) -> tuple[Callable[..., EncodingStore], tuple[Any, ...]]:
        path = os.path.abspath(self.path)  # another process can have another working directory
        return _reopened, (type(self), path, self._identity)

    @cached_property
    def _identity(self) -> str:
        """SHA-256 of the checksums of all shards."""
        known = [self.encoder, [[shard.index, shard.record["sha256"]] for shard in self.shards]]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    def __repr__(self) -> str:
        rows = self._properties()
        width = max(len(name) for name, _ in rows)
        return "\n".join(
            [f"EncodingStore({str(self.path)!r})", *(f"  {name:<{width}}  {value}" for name, value in rows)]
        )

    def _repr_html_(self) -> str:
        """The table of the properties, for notebooks."""
        rows = "".join(
            f"<tr><th style='text-align: left'>{name}</th><td style='text-align: left'>{html.escape(value)}</td></tr>"
            for name, value in self._properties()
        )
        return f"<table><caption>EncodingStore({html.escape(repr(str(self.path)))})</caption>{rows}</table>"

    def _properties(self) -> list[tuple[str, str]]:
        """Names and values of the properties that a user wants to see first."""
        size = sum(shard.bytes_on_disk for shard in self.shards)
        return [
            ("encodings", f"{len(self):,}"),
            ("shape", str(self.shape[1:])),
            ("dtype", self._dtypes()),
            ("size on disk", f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"),
            *([("added loss", f"{self.added_loss:.2%}")] if self.added_loss is not None else []),
            ("level", str(self.level)),
            ("labels", _described(self.labels, self.class_names)),
        ]

    def _dtypes(self) -> str:
        if self.file_dtype == self.dtype:
            return str(self.dtype)
        compressed = " compressed" if self.loss_budget is not None else ""
        return f"{self.file_dtype}{compressed}, read as {self.dtype}"

    def __len__(self) -> int:
        """Returns the number of encodings."""
        return int(self._ends[-1])

    @cached_property
    def names(self) -> list[str] | None:
        """List of `N` paths of the images, relative to the folder that was encoded; `None` without paths."""
        names = self._listed("names")
        return None if names is None else [*chain.from_iterable(names)]

    @cached_property
    def labels(self) -> Labels | None:
        """Array `(N, …)` with the label of each image, or `None` without labels.

        If images have several labels, it is a dict from name to such an array.
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
        """Reads encodings.

        Args:
            key: an integer, a slice, an index array or list, or a boolean mask.

        Returns:
            For an integer, one encoding with the shape `encoding_shape`. Otherwise an array `(n, *encoding_shape)`, or
            a list of arrays if the sizes of encodings vary. The dtype is that of the store.

        Raises:
            IndexError: the index is out of range.
            ValueError: a shard has changed since the store was opened.

        Example:
            >>> store[17]         # (8, 8, 64)
            >>> store[:100]       # (100, 8, 8, 64)
            >>> store[[3, 1, 2]]  # (3, 8, 8, 64)
        """
        if isinstance(key, slice):
            return self._rows(np.arange(*key.indices(len(self))))
        if np.ndim(key) == 0:
            return self._rows(np.array([range(len(self))[key]]))[0]
        return self._rows(np.arange(len(self))[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if None in self.shape:
            raise ValueError(
                "Encodings of different sizes cannot be one array: read them as a list, `store[:]`. "
                f"Received: shape={self.shape}"
            )
        return np.asarray(self[:], dtype)

    def dataset(
        self,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        repeat: bool = False,
        n_out: int | None = None,
    ) -> tf.data.Dataset:
        """Returns a dataset of batches of encodings.

        Args:
            batch_size: encodings per batch. If the sizes of encodings vary, each batch holds encodings of one size.
            shuffle: whether each epoch has a new random order, over the whole store.
            seed: seed of the random orders. The order of an epoch depends only on the seed and the number of the epoch.
            repeat: whether to repeat the encodings infinitely.
            n_out: number of features to keep of each encoding, the leading ones; by default all.

        Returns:
            `tf.data.Dataset` of float32 batches `(batch_size, *encoding_shape)`, or of `(encodings, labels)` if the
            store has labels. If images have several labels, `labels` is a dict by name.

        Raises:
            ValueError: `batch_size` is not a positive whole number, `n_out` is not a whole number from 1 to the number
                of features, or `repeat=True` and the store is empty.

        Example:
            >>> model.fit(store.dataset(64, shuffle=True), epochs=5)
            >>> ages = store.dataset(64).map(lambda z, labels: (z, labels["age"]))  # one of several labels
        """
        batch_size = positive_int("batch_size", batch_size)
        if repeat and len(self) == 0:
            raise ValueError(
                "`repeat=True` needs at least one encoding, but this store is empty: omit `repeat`. "
                f"Received: {str(self.path)!r}"
            )
        features = features_to_keep(n_out, self.shape[-1])
        epochs = EpochShuffler(seed if shuffle else None)

        def generate() -> Iterator[Any]:
            while True:
                for indices in self.index_batches(batch_size, epochs.next()):
                    batch = self.batch(indices)[..., :features]
                    yield batch if self.labels is None else (batch, labels_at(self.labels, indices))
                if not repeat:
                    return

        signature: Any = tf.TensorSpec((None, *self.shape[1:-1], features), tf.float32)
        if self.labels is not None:
            signature = (signature, tf.nest.map_structure(spec_of_labels, self.labels))
        batches = generated(generate, signature)
        count = tf.data.INFINITE_CARDINALITY if repeat else len(self.index_batches(batch_size, None))
        return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2)

    def verify(self) -> None:
        """Reads every shard and compares it with its checksum.

        Raises:
            ValueError: shards are damaged or missing. The message names them. Call `encode_to` with the same images
                and path to encode only these shards again.
        """
        damaged = [_shown(shard, self.path) for shard in self.shards if not shard.is_whole()]
        if damaged:
            raise ValueError(
                f"{', '.join(damaged)} of {len(self.shards)} shards damaged or missing: call `encode_to` with the same "
                f"source and path again, which encodes only these shards. Received: {str(self.path)!r}"
            )

    def to_zarr(self, path: str | os.PathLike[str]) -> Path:
        """Copies the store to a Zarr group: an array `encodings`, and arrays with mean, standard deviation and labels.

        Names of images, classes and labels that are texts become attributes of the group. Several labels by name become
        `labels.<name>`. The memory that is needed does not grow with the number of encodings.

        Args:
            path: new folder.

        Returns:
            The path of the folder.

        Raises:
            ImportError: Zarr is not installed: `pip install "stacked_autoencoder[zarr]"`.
            ValueError: the sizes of encodings vary.
            FileExistsError: the folder exists and is not empty.

        Example:
            >>> zarr.open_group(store.to_zarr("encodings.zarr"))["encodings"][:100]
        """
        return conversion.to_zarr(self, path)

    def to_webdataset(self, path: str | os.PathLike[str], rows_per_file: int = 10_000) -> Path:
        """Copies the store to a folder of tar files for WebDataset, named `000000.tar`, `000001.tar` and so on.

        Each sample has the encoding as `npy`, and as `json` its `name` and its label, `labels`, or several labels,
        `labels.<name>`.

        Args:
            path: new folder.
            rows_per_file: encodings per tar file.

        Returns:
            The path of the folder.

        Raises:
            ImportError: WebDataset is not installed: `pip install "stacked_autoencoder[webdataset]"`.
            ValueError: `rows_per_file` is not a positive whole number.
            FileExistsError: the folder exists and is not empty.

        Example:
            >>> store.to_webdataset("tars")
            >>> dataset = webdataset.WebDataset("tars/{000000..000003}.tar", shardshuffle=False).decode()
            >>> next(iter(dataset))["npy"]                     # (8, 8, 64)
        """
        return conversion.to_webdataset(self, path, positive_int("rows_per_file", rows_per_file))

    def to_safetensors(self, path: str | os.PathLike[str]) -> Path:
        """Copies the store to a folder of safetensors files, one for each shard.

        They are named `encodings-00001-of-00004.safetensors` and so on. Each has the tensors `encodings`, `mean`, `std`
        and the labels that are numbers (`labels`, or `labels.<name>` for several). Names of images, classes and labels
        that are texts are JSON in its metadata.

        Args:
            path: new folder.

        Returns:
            The path of the folder.

        Raises:
            ImportError: safetensors is not installed: `pip install "stacked_autoencoder[safetensors]"`.
            ValueError: the sizes of encodings vary.
            FileExistsError: the folder exists and is not empty.

        Example:
            >>> folder = store.to_safetensors("tensors")
            >>> safetensors.torch.load_file(folder / "encodings-00001-of-00001.safetensors")["encodings"]
        """
        return conversion.to_safetensors(self, path)

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Reads encodings of one size as float32."""
        return np.asarray(self._rows(indices), np.float32)

    def index_batches(self, batch_size: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """Plans batches of one size each: in order, or shuffled within and across sizes if `rng` is given."""
        sizes = [shard.size(row) for shard in self.shards for row in range(shard.rows)] if None in self.shape else None
        return index_batches(sizes, len(self), batch_size, rng)

    def _check_shards(self) -> None:
        """Raises `ValueError` if a shard is missing, truncated, or not the one in the manifest."""
        for shard, following in zip(self.shards, self.shards[1:], strict=False):
            if shard.index == following.index:
                raise ValueError(
                    f"Two parts of this store hold shard {shard.index}: move one of them to another folder. "
                    f"Received: {str(self.path)!r}"
                )
        problems = [(shard, problem) for shard in self.shards if (problem := shard.problem()) is not None]
        if problems:
            named = "; ".join(f"{_shown(shard, self.path)} {problem}" for shard, problem in problems[:SHOWN])
            more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise ValueError(
                f"{len(problems)} of {len(self.shards)} shards can't be used. {named}{more}. The store is damaged: "
                "call `encode_to` with the same source and path again, which encodes only these shards. "
                f"Received: {str(self.path)!r}"
            )

    def _rows(self, indices: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """Reads encodings as one array, or as a list if their sizes vary."""
        numbers, shards = self._numbers(indices)
        if self.file_dtype == self.dtype:
            return numbers
        if isinstance(numbers, list):
            return [self._restored(each, shard, (-1,)) for each, shard in zip(numbers, shards, strict=True)]
        return self._restored(numbers, shards, (len(shards), *[1] * (len(self.shape) - 2), self.shape[-1]))

    def _restored(self, numbers: np.ndarray, shards: Any, shape: Shape) -> np.ndarray:
        """Returns numbers of rounded encodings as float32; `shape` is that of the scales of their shards."""
        center = self._center[shards].reshape(shape)
        if self.loss_budget is not None:
            return compression.restored(numbers, center, self._step[shards].reshape((*shape[:-1], 1)))
        return quantisation.restored(numbers, center, self._reach[shards].reshape(shape))

    @cached_property
    def _center(self) -> np.ndarray:
        """Mean of each channel of each shard, for rounded encodings."""
        return np.array([shard.record["center"] for shard in self.shards])

    @cached_property
    def _step(self) -> np.ndarray:
        """Step of each shard, for compressed encodings."""
        return np.array([shard.record["step"] for shard in self.shards])

    @cached_property
    def _reach(self) -> np.ndarray:
        """Largest distance from the mean in each channel of each shard, for int8."""
        return np.array([shard.record["reach"] for shard in self.shards])

    def _numbers(self, indices: np.ndarray) -> tuple[np.ndarray | list[np.ndarray], np.ndarray]:
        """Reads what the files contain, as `_rows` returns it, and the position of the shard of each index."""
        if indices.ndim != 1:
            raise IndexError(f"A store can be indexed along one axis only. Received: an index of shape {indices.shape}")
        # Sorted, so that each file is read once, and neighbouring rows with one call.
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        shards = np.searchsorted(self._ends, ordered, side="right") - 1
        follows = (np.diff(ordered) == 1) & (np.diff(shards) == 0)
        shard_of_index = np.empty_like(shards)
        shard_of_index[order] = shards
        positions, rows, shards = order.tolist(), (ordered - self._ends[shards]).tolist(), shards.tolist()
        if None in self.shape:
            result: Any = [np.empty(0)] * len(positions)
            for position, shard, row in zip(positions, shards, rows, strict=True):
                result[position] = np.empty(self.shards[shard].size(row), self.file_dtype)
        else:
            result = np.empty((len(positions), *self.shape[1:]), self.file_dtype)
            content, size = _bytes_of(result), result[:1].nbytes
            follows &= np.diff(order) == 1
        wanted: dict[int, list[tuple[int, list[memoryview]]]] = {}
        firsts = [0, *(np.flatnonzero(~follows) + 1).tolist()] if positions else []
        for first, end in zip(firsts, [*firsts[1:], len(positions)], strict=False):
            if None in self.shape:
                buffers = [_bytes_of(result[position]) for position in positions[first:end]]
            else:
                start = positions[first] * size
                buffers = [content[start : start + (end - first) * size]]
            wanted.setdefault(shards[first], []).append((rows[first], buffers))
        for shard, runs in wanted.items():
            self.shards[shard].read(runs)
        return result, shard_of_index

    def _listed(self, name: str) -> list[Any] | None:
        """Returns an entry of the records of all shards, `None` unless every record has it."""
        if any(name not in shard.record for shard in self.shards):
            return None
        return [shard.record[name] for shard in self.shards]

    def _as_array(self, labels: list[Any]) -> np.ndarray:
        try:
            if labels:
                check_labels(labels)
        except ValueError as error:
            raise ValueError(f"The labels of this store are invalid: {error}. Received: {str(self.path)!r}") from None
        return np.asarray(labels)


def _described(labels: Labels | None, class_names: list[str] | None) -> str:
    """Describes labels in one line: the dtype, and the classes or names."""
    if labels is None:
        return "none"
    if isinstance(labels, dict):
        return ", ".join(f"{printable(name, 40)} ({_described(values, None)})" for name, values in labels.items())
    kind = "text" if labels.dtype.kind == "U" else str(labels.dtype)
    if labels.ndim > 1:
        kind += f" of shape {labels.shape[1:]}"
    if class_names is None:
        return kind
    more = f" and {len(class_names) - SHOWN:,} more" if len(class_names) > SHOWN else ""
    names = ", ".join(printable(name, 40) for name in class_names[:SHOWN])
    return f"{kind}, {len(class_names):,} classes: {names}{more}"


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _shown(shard: Shard, path: Path) -> str:
    return printable(shard.file.relative_to(path), 100)


def _reopened(kind: type[EncodingStore], path: str, identity: str) -> EncodingStore:
    """Opens a store that was pickled or copied."""
    store = kind(path)
    if store._identity != identity:
        raise ValueError(
            "The store has been rewritten since it was pickled or copied: open it again with `EncodingStore(path)`. "
            f"Received: {path!r}"
        )
    return store


def _manifests(path: Path) -> tuple[dict[Path, Mark], dict[Path, dict[str, Any]]]:
    """Reads the manifest of a store, or the manifests of its parts.

    Returns:
        For each folder, what identifies its manifest file, and the content of the manifest.
    """
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
            "This store isn't finished: call `encode_to` with the same source and path again, which continues where it "
            f"stopped. Received: {str(path)!r}"
        )
    raise FileNotFoundError(
        "There is no store of encodings here: pass the folder that `encode_to` has written, "
        f"`store = sae.encode_to(path, images)`. Received: {str(path)!r}"
    )


def _marks(folders: list[Path]) -> dict[Path, Mark | None]:
    """Returns what identifies the manifest file of each folder, `None` for a folder without one."""
    marks: dict[Path, Mark | None] = {}
    for folder in folders:
        try:
            marks[folder] = mark_of(os.stat(folder / MANIFEST))
        except OSError:
            marks[folder] = None
    return marks


def _check_unchanged(path: Path, marks: dict[Path, Mark | None]) -> None:
    """Raises `ValueError` if a manifest changed while the store was opened."""
    if _marks([*marks]) != marks:
        raise ValueError(
            f"A process is writing to this store: open it when `encode_to` has returned. Received: {str(path)!r}"
        )


def _common_shape(manifests: Any) -> Shape:
    """Returns the shape of an encoding, with `None` for a side that differs between parts."""
    sides = zip(*(manifest["shape"] for manifest in manifests), strict=True)
    return tuple(side[0] if len(set(side)) == 1 else None for side in sides)


def _check_parts(path: Path, manifests: list[dict[str, Any]]) -> None:
    """Raises an error if parts do not belong together, or if one is missing."""
    if any(manifest["part"] is None for manifest in manifests):
        raise ValueError(
            "This folder contains several stores that are not all parts of one store: open each by its own path. "
            f"Received: {str(path)!r}"
        )
    settings = [
        {**{name: manifest[name] for name in ("encoder", "level", "dtype", "shard_size")}, "n": manifest["part"][1]}
        | {"loss_budget": manifest.get("loss_budget")}
        for manifest in manifests
    ]
    for setting, manifest in zip(settings, manifests, strict=True):
        setting["channels"] = manifest["shape"][-1]
    for name in settings[0]:
        values = sorted({str(setting[name]) for setting in settings})
        if len(values) > 1:
            shown = " and ".join(printable(value, 100) for value in values[:SHOWN])
            raise ValueError(
                f"The parts of a store must be made alike, and these differ in `{name}`. Write all parts with the same "
                f"stack and arguments of `encode_to`. Received: {shown} in {str(path)!r}"
            )
    names = [manifest["class_names"] for manifest in manifests if "class_names" in manifest]
    if any(other != names[0] for other in names):
        raise ValueError(
            "The parts of a store must be made alike, and these differ in `class_names`. Write all parts from the same "
            "images. "
            f"Received: {printable(names, 200)} in {str(path)!r}"
        )
    for name in ("names", *LABELS):
        if len({name in record for manifest in manifests for record in manifest["shards"]}) > 1:
            raise ValueError(
                f"The parts of a store must be made alike, and only some of these have `{name}`. Write all parts from "
                "the same images. "
                f"Received: {str(path)!r}"
            )
    records = [record for manifest in manifests for record in manifest["shards"]]
    named = sorted({tuple(sorted(record.get("named_labels", ()))) for record in records})
    if len(named) > 1:
        shown = " and ".join(printable([*names], 100) for names in named[:SHOWN])
        raise ValueError(
            "The parts of a store must be made alike, and the names of their labels differ. Write all parts with the "
            "same names of labels. "
            f"Received: {shown} in {str(path)!r}"
        )
    count, present = settings[0]["n"], {manifest["part"][0] for manifest in manifests}
    missing = [*islice((part_name(index, count) for index in range(count) if index not in present), SHOWN)]
    if missing:
        more = count - len(present) - len(missing)
        raise FileNotFoundError(
            f"{', '.join(missing)}{f' and {more:,} more' if more else ''} missing or not finished: a folder of parts "
            "needs all of them. Write each with `encode_to(path, images, shard=(i, n))`. "
            f"Received: {str(path)!r}"
        )
