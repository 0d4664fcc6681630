"""Encoding a source of any length to disk: shard by shard, in constant memory, and on from where it was cut short."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.durable import only_writer
from stacked_autoencoder.encoded import encoding_of
from stacked_autoencoder.errors import printable
from stacked_autoencoder.manifest import FORMAT, Record
from stacked_autoencoder.progress import Progress
from stacked_autoencoder.saving import versions
from stacked_autoencoder.shard_writer import Found, ShardWriter, look_into
from stacked_autoencoder.shards import Shard, part_name
from stacked_autoencoder.sources.base import Source
from stacked_autoencoder.sources.blocks import Block, Shape
from stacked_autoencoder.stack import BATCH, Stack

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
        folder: of the store; new, empty, or of a store.
        encoders: what to apply, one after the other.
        made: what `made_by` says.
        part: `(i, n)`, the blocks to encode: every n-th from the i-th on.

    Raises:
        StaleStore: nothing was changed.
        ForeignFiles: there are files that this library didn't write. Nothing of them was changed.
        RuntimeError: another process is writing to the folder.
    """
    if part is not None:
        folder = folder / part_name(*part)
    make_folder(folder)
    with only_writer(folder):
        write_alone(folder, source, encoders, made, part=part, verbose=verbose)
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
    encoders: Sequence[keras.Model],
    made: dict[str, Any],
    *,
    part: tuple[int, int] | None = None,
    verbose: int = 0,
) -> None:
    """What `write_store` does in the folder of the store or part, for which the caller has `only_writer`."""
    encode = encoding_of(tuple(encoders), source.factor, made["dtype"])
    about = {"part": None if part is None else list(part), "source": source.describe(), "versions": versions()}
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
                progress.skip(record["rows"])
                continue
            batches = []
            for images in block.batches(BATCH):
                batches.append(encode(images))
                batches[-1].check()
                progress.add(len(images))
            _check_source(folder, head, record, block, source)
            if batches:
                writer.add(block, batches)
            else:  # all of its pictures are unreadable
                writer.drop(block.index)
        gone = set(done) - seen
        if gone:
            _check_source(folder, head, done[min(gone)], None, source)
        writer.finish()


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
    sides = zip(old["shape"], head["shape"], strict=True)  # a source that has grown may have images of other sizes
    return old | {"shape": [side if side == other else None for side, other in sides]}


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
