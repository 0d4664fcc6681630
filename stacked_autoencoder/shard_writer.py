"""Writing the files of an `EncodingStore`, each whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from stacked_autoencoder.durable import replacing, sync, write_json
from stacked_autoencoder.encoded import Encoded
from stacked_autoencoder.shards import LOG, MANIFEST, Record, moments, shard_file, write_values
from stacked_autoencoder.sources.blocks import Block


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

    def drop(self, index: int) -> None:
        """Forgets a shard that was damaged and can't be made anew."""
        self._wait()
        self.records.pop(index, None)

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
