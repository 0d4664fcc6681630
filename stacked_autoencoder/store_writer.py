"""Encoding a source of any length to disk: shard by shard, in constant memory, and on from where it was cut short."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.durable import only_writer, replacing, sync, write_json
from stacked_autoencoder.progress import Progress
from stacked_autoencoder.saving import versions
from stacked_autoencoder.shards import (
    FORMAT,
    HEAD,
    LOG,
    MANIFEST,
    Record,
    Shard,
    moments,
    part_name,
    read_log,
    read_manifest,
    shard_file,
    write_values,
)
from stacked_autoencoder.sources.base import PIXELS, Block, Shape, Source, pad_by_reflection, scaled
from stacked_autoencoder.stack import BATCH, Stack
from stacked_autoencoder.tiling import TILE, encode_tiles, tiler

DTYPES = ("float16", "float32")
SHARD_BYTES = 1 << 25
MOST_ROWS = 1024  # of a shard by default
ROWS_OF_ANY_SIZE = 16  # of one whose encodings' size isn't known beforehand; those of photographs can take 50 MB each


class StaleStore(ValueError):
    """What is there was made by another encoder, or from other images."""


def write_store(
    folder: Path,
    source: Source,
    encoders: Sequence[keras.Model],
    made: dict[str, Any],
    *,
    part: tuple[int, int] | None = None,
    verbose: int = 0,
) -> Path:
    """Encodes a source, or goes on with it; returns the folder of the finished store, that of the part if it is one.

    Args:
        encoders: what to apply, one after the other.
        made: what `made_by` says.
        part: `(i, n)`, the blocks to encode: every n-th from the i-th on.

    Raises:
        StaleStore: nothing was changed.
    """
    if part is not None:
        folder = folder / part_name(*part)
    folder.mkdir(parents=True, exist_ok=True)
    encode = encoding_of(tuple(encoders), source.factor, made["dtype"])
    about = {"part": None if part is None else list(part), "source": source.describe(), "versions": versions()}
    with only_writer(folder):
        head, done = _begun(folder, {"format": FORMAT, **made, **about})
        seen = set()

        @cache
        def is_whole(index: int) -> bool:
            return index in done and Shard(folder, done[index]).is_whole()

        def is_ours(index: int) -> bool:
            return part is None or index % part[1] == part[0]

        with ShardWriter(folder, head, done.values()) as writer, Progress(source.count(), verbose) as progress:
            for block in source.blocks(head["shard_size"], lambda index: is_ours(index) and not is_whole(index)):
                if not is_ours(block.index):
                    continue
                seen.add(block.index)
                record = done.get(block.index)
                if is_whole(block.index):
                    _check_source(folder, head, record, block, source)
                    progress.skip(record["rows"])
                    continue
                batches = []
                for images in block.batches(BATCH):
                    batches.append(encode(images))
                    batches[-1].check()
                    progress.add(len(images))
                _check_source(folder, head, record, block, source)
                if batches:  # not if all of its pictures are unreadable
                    writer.add(block, batches)
            gone = set(done) - seen
            if gone:
                _check_source(folder, head, done[min(gone)], None, source)
        writer.finish()
    return folder


class Encoded(NamedTuple):
    """The encodings of one batch, and over all pixels their extremes and, per channel, sums."""

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sum: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, dtype: str) -> Encoded:
        axes = tuple(range(values.ndim - 1))
        sums = values.sum(axes, dtype=np.float64), np.square(values).sum(axes, dtype=np.float64)
        with np.errstate(over="ignore"):  # `check` tells
            return cls(values.astype(dtype), values.min(), values.max(), *sums)

    def check(self) -> None:
        """Refuses what can't be kept."""
        largest = float(np.finfo(self.values.dtype).max)
        if not np.isfinite(self.squares).all():
            raise ValueError("An encoding isn't finite: a weight of the encoder is broken. Load or train it anew.")
        if max(-float(self.low), float(self.high)) > largest:
            raise ValueError(
                f"The encodings reach beyond {self.values.dtype}, whose largest value is {largest:g}: use "
                f'`dtype="float32"`. Received: encodings from {self.low:g} to {self.high:g}'
            )


@lru_cache(maxsize=2)  # tracing takes as long as a thousand small images
def encoding_of(encoders: tuple[keras.Model, ...], factor: int, dtype: str) -> Callable[[np.ndarray], Encoded]:
    """From images as they are to what is kept of them, as one graph: nothing in between is copied out.

    Large images go tile by tile.
    """

    def whole(images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        values = pad_by_reflection(scaled(images), factor)
        for encoder in encoders:
            values = encoder(values, training=False)
        axes = list(range(values.shape.rank - 1))
        sums = tf.reduce_sum(values, axes), tf.reduce_sum(tf.square(values), axes)
        return tf.cast(values, dtype), tf.reduce_min(values), tf.reduce_max(values), *sums

    def encode(images: np.ndarray) -> Encoded:
        if math.prod(images.shape[1:3]) <= PIXELS or len(encoders[-1].output_shape) == 2:
            return Encoded(*map(np.asarray, graph(tf.convert_to_tensor(images))))
        (image,) = images  # there is one, so large are they
        return Encoded.of(encode_tiles(tiler(encoders), image, factor, TILE)[None], dtype)

    graph = tf.function(whole, reduce_retracing=True)
    return encode


def made_by(stack: Stack, depth: int, images: Shape, dtype: str, shard_size: int | None = None) -> dict[str, Any]:
    """What decides the encodings of a level, of images of such a shape; files of a handy size by default."""
    shape = stack.shape_at(depth, images)
    if shard_size is None and None in shape:
        shard_size = ROWS_OF_ANY_SIZE
    if shard_size is None:
        shard_size = int(np.clip(SHARD_BYTES // (np.prod(shape) * np.dtype(dtype).itemsize), 1, MOST_ROWS))
    return {
        "encoder": stack.fingerprint(depth),
        "multiple": stack.factor,
        "level": depth,
        "shape": list(shape),
        "dtype": dtype,
        "shard_size": shard_size,
    }


class ShardWriter:
    """Writes shards in the background, one at a time, so that encoding doesn't wait for the disk.

    Args:
        folder: of the store.
        head: what made the store.
        records: of the shards that are there.
    """

    def __init__(self, folder: Path, head: dict[str, Any], records: Sequence[Record]) -> None:
        self.folder = folder
        self.head = head
        self.records = {record["index"]: record for record in records}
        self.thread = ThreadPoolExecutor(1)
        self.waiting: Future[None] | None = None
        for leftover in folder.glob(".*.new"):  # of a process that was killed
            leftover.unlink()
        with replacing(folder / LOG) as log:  # anew, since the last line may be half there
            log.writelines(_line(content) for content in (head, *records))

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self.thread.shutdown()

    def add(self, block: Block, batches: list[Encoded]) -> None:
        """Takes the encodings of a block. Raises what went wrong with the one before."""
        self._wait()
        self.waiting = self.thread.submit(self._write, block, batches)

    def finish(self) -> None:
        """Writes the manifest, which makes the store one."""
        records = [self.records[index] for index in sorted(self.records)]
        mean, std = moments(records)
        summary = {
            "rows": sum(record["rows"] for record in records),
            "mean": mean.tolist(),
            "std": std.tolist(),
            "shards": records,
        }
        write_json(self.folder / MANIFEST, self.head | summary)
        (self.folder / LOG).unlink()
        sync(self.folder)

    def _wait(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.result()

    def _write(self, block: Block, batches: list[Encoded]) -> None:
        file = shard_file(self.folder, block.index)
        values = [batch.values for batch in batches]
        record = _record(block, batches)
        alike = None not in record["shape"]
        shape = (record["rows"], *record["shape"]) if alike else (sum(piece.size for piece in values),)
        size = sum(piece.nbytes for piece in values)
        try:
            with replacing(file, reserve=size) as stream:
                checksum = write_values(stream, shape, values)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: a shard of {size:,} bytes can't be written. {len(self.records)} shards are "
                "whole; make room and call `encode_to` again, which goes on from there",
                str(file),
            ) from error
        self.records[block.index] = record | {"sha256": checksum}
        with (self.folder / LOG).open("ab") as log:
            log.write(_line(self.records[block.index]))
            log.flush()
            os.fsync(log.fileno())


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _record(block: Block, batches: list[Encoded]) -> Record:
    """What the manifest says of a block's encodings, but for the checksum."""
    values = [batch.values for batch in batches]
    channels = values[0].shape[-1]
    sizes = [list(batch.shape[1:-1]) for batch in values for _ in batch]
    alike = all(size == sizes[0] for size in sizes)
    record: Record = {
        "index": block.index,
        "rows": len(sizes),
        "shape": [*sizes[0], channels] if alike else [None, None, channels],
        "values": sum(batch.size for batch in values) // channels,
        "sum": np.sum([batch.sum for batch in batches], axis=0, dtype=np.float64).tolist(),
        "squares": np.sum([batch.squares for batch in batches], axis=0, dtype=np.float64).tolist(),
        "source": block.fingerprint(),
    }
    if not alike:
        record["sizes"] = sizes
    if block.names is not None:
        record["names"] = block.names
    if block.labels is not None:
        record["labels"] = np.asarray(block.labels).tolist()
    return record


def _begun(folder: Path, head: dict[str, Any]) -> tuple[dict[str, Any], dict[int, Record]]:
    """What made the store that is there already, and the records of its shards by index; refuses to mix two makings."""
    old, records = read_log(folder)
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        old = {name: manifest[name] for name in HEAD}
        records = manifest["shards"] + records
    if old is None:
        return head, {}
    for name, what in (("encoder", "encoder"), ("dtype", "`dtype`"), ("shard_size", "`shard_size`")):
        if old[name] != head[name]:
            raise StaleStore(
                f"{str(folder)!r} holds encodings made with another {what}: {_named(old, name)}. Choose another path, "
                f"or delete the store. Received: {_named(head, name)}"
            )
    return old, {record["index"]: record for record in records}


def _named(head: dict[str, Any], name: str) -> str:
    return f"encoder {head['encoder'][:12]}… of level {head['level']}" if name == "encoder" else repr(head[name])


def _check_source(
    folder: Path, head: dict[str, Any], record: Record | None, block: Block | None, source: Source
) -> None:
    """Refuses to mix the encodings of two sources: a block must be the one that a shard's record was made from."""
    if record is None or (block is not None and block.fingerprint() == record["source"]):
        return
    raise StaleStore(
        f"{str(folder)!r} holds the encodings of another source ({head['source']}), or its images have changed or come "
        f"in another order: shard {record['index']} was made of others. Choose another path, or delete the store. "
        f"Received: {source.describe()}"
    )
