"""Encoding a source of any length to disk: shard by shard, in constant memory, and on from where it was cut short."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.adapters import Images, as_source
from stacked_autoencoder.data.source import Block, Source
from stacked_autoencoder.inference.tiling import default_side, encode_tiles, tiler
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.store.manifest import DTYPES, FORMAT, LABELS, OPTIONAL, Record
from stacked_autoencoder.store.shards import Shard, part_name
from stacked_autoencoder.store.writer import Encoded, Found, ShardWriter, look_into
from stacked_autoencoder.utils.checks import positive_int, whole
from stacked_autoencoder.utils.console import Progress
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import expanded, only_writer
from stacked_autoencoder.utils.images import Shape, pad_by_reflection, without_missing
from stacked_autoencoder.utils.labels import Labels
from stacked_autoencoder.utils.value_range import ValueRange
from stacked_autoencoder.version import versions

SHARD_BYTES = 1 << 25
MOST_ROWS = 1024  # of a shard by default
ROWS_OF_ANY_SIZE = 16  # of one whose encodings' size isn't known beforehand; those of photographs can take 50 MB each


def encode_to_store(
    stack: Stack,
    path: str | os.PathLike[str],
    source: Images,
    level: int | None = None,
    *,
    shard_size: int | None = None,
    dtype: str = "float16",
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
    verbose: int = 1,
) -> EncodingStore:
    """Encodes images to disk; see `Autoencoder.encode_to`."""
    level = stack.index_of(level)
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}. Received: dtype={dtype!r}")
    if shard_size is not None:
        shard_size = positive_int("shard_size", shard_size)
    part = None if shard is None else _part(shard)
    images = as_source(source, **stack.source_options, finite="images")
    images.workers = None if workers is None else positive_int("workers", workers)
    folder = write_store(
        expanded(path),
        images,
        stack.levels[: level + 1],
        made_by(stack, level, images.shape, dtype, shard_size),
        part=part,
        verbose=verbose,
    )
    return EncodingStore(folder)


def _part(shard: tuple[int, int]) -> tuple[int, int]:
    several = isinstance(shard, Sequence) and len(shard) == 2
    index, count = map(whole, shard) if several else (None, None)
    if index is None or count is None or not 0 <= index < count:
        raise ValueError(f"`shard=(i, n)` is the i-th of n parts, 0 <= i < n. Received: shard={shard!r}")
    return index, count


class StaleStore(ValueError):
    """What is there was made by another encoder, or from other images."""


def write_store(
    folder: Path,
    source: Source,
    levels: Sequence[Level],
    made: dict[str, Any],
    *,
    part: tuple[int, int] | None = None,
    keep_labels: bool = True,
    verbose: int = 0,
) -> Path:
    """Encodes a source, or goes on with it; returns the folder of the finished store, that of the part if it is one.

    Args:
        folder: of the store; new, empty, or of a store.
        levels: whose encoders to apply, one after the other.
        made: what `made_by` says.
        part: `(i, n)`, the blocks to encode: every n-th from the i-th on.
        keep_labels: whether the store keeps what the source gives beside the images.

    Raises:
        StaleStore: nothing was changed.
        ForeignFiles: there are files that this library didn't write. Nothing of them was changed.
        RuntimeError: another process is writing to the folder.
    """
    if part is not None:
        folder = folder / part_name(*part)
    make_folder(folder)
    with only_writer(folder):
        write_alone(folder, source, levels, made, part=part, keep_labels=keep_labels, verbose=verbose)
    return folder


def make_folder(folder: Path) -> None:
    """Makes a folder, unless it is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        message = "`path` must be a folder, and there is a file of this name: choose another"
        raise type(error)(error.errno, message, str(folder)) from None


def write_alone(
    folder: Path,
    source: Source,
    levels: Sequence[Level],
    made: dict[str, Any],
    *,
    part: tuple[int, int] | None = None,
    keep_labels: bool = True,
    verbose: int = 0,
) -> None:
    """What `write_store` does in the folder of the store or part, for which the caller has `only_writer`."""
    fill_values = levels[0].fill_values
    encode = encoding_of(
        tuple(level.encoder for level in levels),
        source.factor,
        source.values,
        made["dtype"],
        None if fill_values is None else tuple(fill_values.tolist()),
    )
    if source.parts > 1:
        encode = partial(_parts_encoded, encode, source.parts)
    about = {"part": None if part is None else list(part), "source": source.describe(), "versions": versions()}
    if source.class_names is not None:
        about["class_names"] = source.class_names
    found = look_into(folder)
    head = _head(folder, found, {"format": FORMAT, **made, **about})
    done, seen = found.records, set()

    @cache
    def is_whole(index: int) -> bool:
        return index in done and Shard(folder, done[index], np.dtype(head["dtype"])).is_whole()

    def is_ours(index: int) -> bool:
        return part is None or index % part[1] == part[0]

    with ShardWriter(folder, head, found) as writer, Progress(source.count(), verbose) as progress:
        for block in source.blocks(head["shard_size"], lambda index: is_ours(index) and not is_whole(index)):
            if not is_ours(block.index):
                continue
            seen.add(block.index)
            record = done.get(block.index)
            if is_whole(block.index):
                _check_source(folder, head, record, block, source)
                labels = block.labels_of(record.get("names")) if keep_labels else None
                if keep_labels:
                    _check_labels(folder, record, labels)
                writer.label(block.index, labels)  # they may have changed
                progress.skip(record["rows"])
                continue
            batches = []
            for images in block.batches(BATCH):
                batches.append(encode(images))
                batches[-1].check()
                progress.add(len(images))
            _check_source(folder, head, record, block, source)
            if batches:
                writer.add(block, batches, keep_labels)
            else:  # all of its pictures are unreadable
                writer.drop(block.index)
        gone = set(done) - seen
        if gone:
            _check_source(folder, head, done[min(gone)], None, source)
        writer.finish()


def _parts_encoded(encode: Callable[[np.ndarray], Encoded], parts: int, images: np.ndarray) -> Encoded:
    """Images that are joined along the last axis, each encoded alone."""
    return Encoded.joined([encode(part) for part in np.split(images, parts, axis=-1)])


def made_by(
    stack: Stack, level: int, images: Shape, dtype: str, shard_size: int | None = None, parts: int = 1
) -> dict[str, Any]:
    """What decides the encodings of a level, of images of such a shape; files of a handy size by default.

    Args:
        parts: encodings that are joined along the last axis.
    """
    *sides, channels = stack.shape_at(level, images)
    shape = (*sides, channels * parts)
    if shard_size is None and None in shape:
        shard_size = ROWS_OF_ANY_SIZE
    if shard_size is None:
        shard_size = int(np.clip(SHARD_BYTES // (np.prod(shape) * np.dtype(dtype).itemsize), 1, MOST_ROWS))
    return {
        "encoder": stack.fingerprint(level),
        "multiple": stack.factor,
        "level": level,
        "shape": list(shape),
        "dtype": dtype,
        "shard_size": shard_size,
    }


def _head(folder: Path, found: Found, head: dict[str, Any]) -> dict[str, Any]:
    """What made the store that is there already, else what will make it; refuses to mix two makings."""
    old = found.head
    if old is None:
        return head
    for name, what in (("encoder", "encoder"), ("dtype", "`dtype`"), ("shard_size", "`shard_size`"), ("part", "part")):
        if old[name] != head[name]:
            raise StaleStore(
                f"{str(folder)!r} holds encodings made with another {what}: {_named(old, name)}. Choose another path, "
                f"or delete the store. Received: {_named(head, name)}"
            )
    if len(old["shape"]) != len(head["shape"]):
        raise StaleStore(
            f"{str(folder)!r} holds encodings of shape {old['shape']}. Choose another path, or delete the store. "
            f"Received: encodings of shape {head['shape']}"
        )
    classes, known = head.get("class_names"), old.get("class_names")
    if classes is not None and known is not None and classes[: len(known)] != known:
        raise StaleStore(
            f"{str(folder)!r} holds labels that are numbers of the classes {printable(known, 300)}. Choose another "
            f"path, or give the `ImageFolder` these `class_names`. Received: {printable(classes, 300)}"
        )
    sides = zip(old["shape"], head["shape"], strict=True)  # a source that has grown may have images of other sizes
    optional = {name: head[name] for name in OPTIONAL if name in head}
    return old | optional | {"shape": [side if side == other else None for side, other in sides]}


def _named(head: dict[str, Any], name: str) -> str:
    if name != "encoder":
        return repr(head[name])
    return f"encoder {printable(head['encoder'][:12])}… of level {head['level']}"


def _check_source(
    folder: Path, head: dict[str, Any], record: Record | None, block: Block | None, source: Source
) -> None:
    """Refuses to mix the encodings of two sources: a block must be the one that a shard's record was made from."""
    if record is None or (block is not None and block.fingerprint() == record["source"]):
        return
    shown = printable(head["source"], 300)
    raise StaleStore(
        f"{str(folder)!r} holds the encodings of another source ({shown}), or its images have changed or come "
        f"in another order: shard {record['index']} was made of others. Choose another path, or delete the store. "
        f"Received: {source.describe()}"
    )


def _check_labels(folder: Path, record: Record, labels: Labels | None) -> None:
    """Refuses to lose the labels of a store, or to leave some of its encodings without."""
    if labels is None and any(name in record for name in LABELS):
        raise ValueError(
            f"{str(folder)!r} holds labels, and this source gives none: give `(images, labels)` as before, or open the "
            f"store with `EncodingStore(path)`. Received: images without labels"
        )


@lru_cache(maxsize=2)  # tracing takes as long as a thousand small images
def encoding_of(
    encoders: tuple[keras.Model, ...],
    factor: int,
    value_range: ValueRange,
    dtype: str,
    fill_values: tuple[float, ...] | None = None,
) -> Callable[[np.ndarray], Encoded]:
    """From images as they are to what is kept of them, as one graph: nothing in between is copied out.

    Large images go tile by tile.

    Args:
        fill_values: what stands for NaN in each channel, `None` where there is none.
    """
    fill = None if fill_values is None else partial(without_missing, replacements=np.array(fill_values))

    def whole(images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        values = pad_by_reflection(value_range.to_level(images), factor)
        if fill is not None:
            values = fill(values)
        for encoder in encoders:
            values = encoder(values, training=False)
        axes = list(range(values.shape.rank - 1))
        sums = tf.reduce_sum(values, axes), tf.reduce_sum(tf.square(values), axes)
        return tf.cast(values, dtype), tf.reduce_min(values), tf.reduce_max(values), *sums

    def scale(images: np.ndarray) -> tf.Tensor:
        values = value_range.to_level(images)
        return values if fill is None else fill(values)

    def encode(images: np.ndarray) -> Encoded:
        is_image = len(encoders[-1].output_shape) == 4
        side = default_side(images.shape[1:3]) if is_image else None
        if side is None:
            return Encoded(*map(np.asarray, graph(tf.convert_to_tensor(images))))
        (image,) = images  # there is one, so large are they
        return Encoded.of(encode_tiles(tiler(encoders), image, factor, side, scale)[None], dtype)

    graph = tf.function(whole, reduce_retracing=True)
    return encode
