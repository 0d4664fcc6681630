"""Writes the files of an `EncodingStore` atomically.

Files change in an order that makes it safe to kill the process, and lets readers notice the change: the log is written
first, then an existing manifest is deleted, then shards are replaced, and the manifest is written last. The files of an
up-to-date store are not changed.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from stacked_autoencoder.store import compression
from stacked_autoencoder.store.manifest import (
    COMPRESSED,
    INT8,
    LABELS,
    LOG,
    MANIFEST,
    OPTIONAL,
    ForeignFiles,
    Log,
    Record,
    check_labels,
    head_of,
    moments,
    read_log,
    read_manifest,
)
from stacked_autoencoder.store.quantisation import Scale
from stacked_autoencoder.store.shards import npy_parts, shard_file, write_parts
from stacked_autoencoder.utils.files import is_regular, replacing_by, sha256, sync
from stacked_autoencoder.utils.labels import MOST_VALUES, Labels, values_per_image


class ShardSource(Protocol):
    """What the writer needs to know about the images of a shard. A block of a source provides it."""

    index: int
    names: list[str] | None
    labels: Labels | None

    def fingerprint(self) -> str: ...


class Encoded(NamedTuple):
    """The encodings of one batch, their extremes, and per channel the sums of their values and squares."""

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sum: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, dtype: str) -> Encoded:
        axes = tuple(range(values.ndim - 1))
        sums = values.sum(axes, dtype=np.float64), np.square(values).sum(axes, dtype=np.float64)
        with np.errstate(over="ignore"):  # reported by `check`
            return cls(values.astype(dtype), values.min(), values.max(), *sums)

    @classmethod
    def joined(cls, parts: Sequence[Encoded]) -> Encoded:
        """Joins encodings of one size along the last axis."""
        values, low, high, sums, squares = zip(*parts, strict=True)
        values, sums, squares = (np.concatenate(each, axis=-1) for each in (values, sums, squares))
        return cls(values, np.min(low), np.max(high), sums, squares)

    def check(self) -> None:
        """Raises `ValueError` for encodings that the store cannot hold."""
        largest = float(np.finfo(self.values.dtype).max)
        if not np.isfinite(self.squares).all():
            raise ValueError(
                "An encoding isn't finite: a weight of the encoder is broken (NaN or infinite). Load the stack again, "
                "or train a new one."
            )
        if max(-float(self.low), float(self.high)) > largest:
            raise ValueError(
                f"The encodings have values beyond {self.values.dtype}, whose largest value is {largest:g}: use "
                f'`dtype="float32"`. Received: encodings from {self.low:g} to {self.high:g}'
            )


RESERVED = 64  # shards that one line of the log reserves, since each line waits for the disk
TEMPORARY = re.compile(r"\.(?:\d{5,}\.(?:npy|zst)|manifest\.json|unfinished\.jsonl)\.([0-9a-f]{16})\.new")
SHOWN = 3  # files named in a message


class CannotWrite(OSError):
    """A file of a store cannot be written.

    Attributes:
        size: size of the shard in bytes, 0 for other files.
    """

    size = 0


class Found(NamedTuple):
    """The files of a store in a folder.

    Attributes:
        manifest: manifest of a finished store, or `None`.
        log: log of a store that is being written, or `None`.
    """

    manifest: dict[str, Any] | None
    log: Log | None

    @property
    def head(self) -> dict[str, Any] | None:
        """Metadata of the store, `None` if there is no store."""
        if self.manifest is not None:
            return head_of(self.manifest)
        return None if self.log is None else self.log.head

    @property
    def records(self) -> dict[int, Record]:
        """The records of the shards by index. Records of the log are newer than those of the manifest."""
        records = [] if self.manifest is None else self.manifest["shards"]
        return {record["index"]: record for record in [*records, *(self.log.records if self.log else ())]}

    @property
    def reserved(self) -> list[range]:
        """Indices of shards that `encode_to` may have written without a record."""
        return [] if self.log is None else self.log.reserved


def look_into(folder: Path) -> Found:
    """Reads the files of a store in a folder.

    Raises:
        ForeignFiles: the folder contains files that are not part of a store.
        ValueError: the manifest is damaged.
    """
    names = sorted(os.listdir(folder))
    if not names:
        return Found(None, None)
    if MANIFEST in names:
        try:
            return Found(read_manifest(folder), read_log(folder))
        except FileNotFoundError:
            raise ForeignFiles(
                f"{MANIFEST} is a symbolic link whose target does not exist: delete it. Received: path={str(folder)!r}"
            ) from None
    log = read_log(folder)
    if log is None:
        shown = ", ".join(map(ascii, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        raise ForeignFiles(
            f"`path` must be a new or empty folder, or one that `encode_to` has written: it does not overwrite other "
            f"files. The folder contains {shown}. Choose another folder. Received: path={str(folder)!r}"
        )
    return Found(None, log)


def delete_store(folder: Path) -> None:
    """Deletes the files of a store, and no other files. If the process is killed meanwhile, call it again."""
    found = look_into(folder)
    known, reserved = found.records.keys(), found.reserved
    for name in os.listdir(folder):
        match = re.fullmatch(r"(\d{5,20})\.(?:npy|zst)", name)
        index = None if match is None else int(match[1])
        is_shard = index in known or any(index in indices for indices in reserved)
        if is_shard and name == shard_file(folder, index, found.head["dtype"]).name and is_regular(folder / name):
            (folder / name).unlink()
    _delete_leftovers(folder, found.log)
    for name in (MANIFEST, LOG):  # last, since they make the folder a store
        sync(folder)
        (folder / name).unlink(missing_ok=True)
    sync(folder)


class ShardWriter:
    """Writes shards in the background, one at a time, so that encoding does not wait for the disk.

    Args:
        folder: folder of the store.
        head: metadata of the store.
        found: the files in the folder.
    """

    def __init__(self, folder: Path, head: dict[str, Any], found: Found) -> None:
        self.folder = folder
        self.head = head
        self.found = found
        self.records = found.records
        self.known = frozenset(self.records)
        self.dropped: list[int] = []
        self.reserved = [*found.reserved]
        self.token = secrets.token_hex(8)  # part of the names of temporary files
        self.log: io.FileIO | None = None
        self.thread = ThreadPoolExecutor(1)
        self.waiting: Future[None] | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self.thread.shutdown()
            if self.log is not None:
                self.log.close()

    def add(self, block: ShardSource, batches: list[Encoded], keep_labels: bool = True) -> None:
        """Writes the encodings of a block in the background. Raises an error of the previous block."""
        self._wait()
        with self._own_errors():
            self._begin(self._reservation(block.index))
        labels = block.labels if keep_labels else None
        self.waiting = self.thread.submit(self._write, block, batches, labels_record(labels, block.index))

    def label(self, index: int, labels: Labels | None) -> None:
        """Replaces the labels of an existing shard."""
        self._wait()
        before = self.records[index]
        record = {name: value for name, value in before.items() if name not in LABELS} | labels_record(labels, index)
        if record != before:
            with self._own_errors():
                self._begin([record])
            self.records[index] = record

    def drop(self, index: int) -> None:
        """Removes a damaged shard that cannot be encoded again."""
        self._wait()
        if self.records.pop(index, None) is not None:
            self.dropped.append(index)

    def finish(self) -> None:
        """Writes the manifest, which completes the store, unless the existing manifest has the same content."""
        self._wait()
        records = [self.records[index] for index in sorted(self.records)]
        manifest = self.found.manifest
        if (
            self.log is None
            and manifest is not None
            and manifest["shards"] == records
            and all(manifest.get(name) == self.head.get(name) for name in OPTIONAL)
        ):
            if self.found.log is not None:  # the process was killed after it had written the manifest
                self._clean_up()
            return
        mean, std = moments(records)
        summary = {
            "rows": sum(record["rows"] for record in records),
            "mean": mean.tolist(),
            "std": std.tolist(),
            "shards": records,
        }
        with self._own_errors():
            self._begin([])
            with replacing_by(self._temporary(MANIFEST), self.folder / MANIFEST) as stream:
                stream.write(json.dumps(self.head | summary, indent=1).encode())
        self._clean_up()

    def _begin(self, lines: list[dict[str, Any]]) -> None:
        """Writes lines to the log. The first call also writes the existing records, and then deletes the manifest.

        From then on, shards may change. Each call waits for the disk once.
        """
        if self.log is not None:
            if lines:
                self._append(*lines)
            return
        log = self.found.log
        self.log = _opened(self.folder / LOG, is_new=log is None)
        if log is None or log.head is None:
            self.log.truncate(0)
            self._append(self.head, *self.records.values(), {"temporary": self.token}, *lines)
        else:
            self.log.truncate(log.length)  # the last line may be incomplete
            known = {record["index"]: record for record in log.records}
            fresh = [record for index, record in self.records.items() if known.get(index) != record]
            self._append(*fresh, {"temporary": self.token}, *lines)
            if log.head != self.head:
                self._replace_head()
        sync(self.folder)
        if self.found.manifest is not None:
            (self.folder / MANIFEST).unlink()
            sync(self.folder)
        _delete_leftovers(self.folder, log)

    def _replace_head(self) -> None:
        """Rewrites the log with a new first line."""
        file = self.folder / LOG
        _, *lines = file.read_bytes().splitlines(keepends=True)
        self.log.close()
        with replacing_by(self._temporary(LOG), file) as stream:
            stream.writelines([json.dumps(self.head).encode() + b"\n", *lines])
        self.log = _opened(file, is_new=False)

    def _append(self, *lines: dict[str, Any]) -> None:
        for line in lines:
            left = memoryview(json.dumps(line).encode() + b"\n")
            while left:
                left = left[self.log.write(left) :]
        os.fsync(self.log.fileno())

    def _reservation(self, index: int) -> list[dict[str, Any]]:
        """Returns a line that reserves shards, since a killed process can leave a shard without a record."""
        if self._may_be_shard(index):
            return []
        step = 1 if self.head["part"] is None else self.head["part"][1]
        stop = index
        while stop < index + RESERVED * step and not os.path.lexists(self._file(stop)):
            stop += step
        if stop == index:
            return []
        self.reserved.append(range(index, stop, step))
        return [{"reserved": [index, stop, step]}]

    def _may_be_shard(self, index: int) -> bool:
        return index in self.known or any(index in indices for indices in self.reserved)

    def _file(self, index: int) -> Path:
        return shard_file(self.folder, index, self.head["dtype"])

    def _temporary(self, name: str) -> Path:
        return self.folder / f".{name}.{self.token}.new"

    def _clean_up(self) -> None:
        """Deletes files that a finished store does not need."""
        for index in self.dropped:
            if is_regular(self._file(index)):
                self._file(index).unlink()
        _delete_leftovers(self.folder, self.found.log)
        (self.folder / LOG).unlink()
        sync(self.folder)

    def _wait(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.result()

    def _write(self, block: ShardSource, batches: list[Encoded], labels: Record) -> None:
        file = self._file(block.index)
        record, parts = self._contents(block, batches)
        record |= labels
        size = sum(memoryview(part).nbytes for part in parts)
        with self._own_errors(size, file):
            if file.is_dir() or (os.path.lexists(file) and not self._may_be_shard(block.index)):
                checksum = self._adopted(file, parts)
            else:
                with replacing_by(self._temporary(file.name), file, reserve=size) as stream:
                    checksum = write_parts(stream, parts)
            record["sha256"] = checksum
            self._append(record)
        self.records[block.index] = record

    def _contents(self, block: ShardSource, batches: list[Encoded]) -> tuple[Record, list[Any]]:
        """Returns the record of the encodings of a block, without the checksum, and the parts of its file."""
        values = [batch.values for batch in batches]
        record = _record(block, batches)
        if self.head["dtype"] == COMPRESSED:
            center, step = np.array(record["sum"]) / record["values"], self.head["step"]
            parts, frames = compression.compressed([compression.quantised(piece, center, step) for piece in values])
            record |= {"center": center.tolist(), "step": step, "frames": [list(frame) for frame in frames]}
            return record, parts
        if self.head["dtype"] == INT8:
            scale = Scale.of(values)
            values = [scale.quantised(piece) for piece in values]
            record |= {"center": scale.center.tolist(), "reach": scale.reach.tolist()}
        is_one_shape = None not in record["shape"]
        shape = (record["rows"], *record["shape"]) if is_one_shape else (sum(piece.size for piece in values),)
        return record, npy_parts(shape, values)

    def _adopted(self, file: Path, parts: list[Any]) -> str:
        """Returns the checksum of a shard without a record, which a killed process of version 1.0 can have left.

        Raises:
            ForeignFiles: the file is not that shard.
        """
        with open(os.devnull, "wb") as nowhere:
            checksum = write_parts(nowhere, parts)
        if not is_regular(file) or sha256(file) != checksum:
            raise ForeignFiles(
                f"{file.name} isn't a file that `encode_to` has written, and it would be overwritten. Move it "
                f"elsewhere and call `encode_to` again, or choose another `path`. Received: path={str(self.folder)!r}"
            )
        return checksum

    @contextmanager
    def _own_errors(self, size: int = 0, file: Path | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"a shard of {size:,} bytes" if size else "the log or manifest of the store"
            failure = CannotWrite(
                error.errno,
                f"{error.strerror or error}: {what} can't be written. {len(self.records)} shards are complete; free "
                "disk space and call `encode_to` again, which continues from there",
                str(file or self.folder),
            )
            failure.size = size
            raise failure from error


def _opened(log: Path, is_new: bool) -> io.FileIO:
    """Opens a log for appending. Existing logs were checked before; symbolic links are refused."""
    flags = os.O_CREAT | os.O_EXCL if is_new else getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | flags, 0o666), "wb", 0)


def _delete_leftovers(folder: Path, log: Log | None) -> None:
    """Deletes temporary files of killed processes whose names are in the log."""
    for name in os.listdir(folder) if log is not None and log.tokens else ():
        match = TEMPORARY.fullmatch(name)
        if match is not None and match[1] in log.tokens and is_regular(folder / name):
            (folder / name).unlink()


def _record(block: ShardSource, batches: Sequence[Encoded]) -> Record:
    """Returns the record of the encodings of a block, without the checksum."""
    values = [batch.values for batch in batches]
    channels = values[0].shape[-1]
    sizes = [list(batch.shape[1:-1]) for batch in values for _ in batch]
    is_one_shape = all(size == sizes[0] for size in sizes)
    record: Record = {
        "index": block.index,
        "rows": len(sizes),
        "shape": [*sizes[0], channels] if is_one_shape else [None, None, channels],
        "values": sum(batch.size for batch in values) // channels,
        "sum": np.sum([batch.sum for batch in batches], axis=0, dtype=np.float64).tolist(),
        "squares": np.sum([batch.squares for batch in batches], axis=0, dtype=np.float64).tolist(),
        "source": block.fingerprint(),
    }
    if not is_one_shape:
        record["sizes"] = sizes
    if block.names is not None:
        record["names"] = block.names
    return record


def labels_record(labels: Labels | None, index: int) -> Record:
    """Returns the entry of a record for its labels.

    Raises:
        ValueError: a manifest cannot hold these labels.
    """
    if labels is None:
        return {}
    size = values_per_image(labels)
    if size > MOST_VALUES:
        raise ValueError(
            f"A store holds labels of up to {MOST_VALUES} values per image, since they are written as text. Leave them "
            "out and save them in a separate file, for example `np.save('labels.npy', labels)`, whose rows have the "
            "order of the images. Convert one-hot labels with `labels.argmax(axis=-1)`. If the stack should restore "
            f"them, pass them as `targets=` of `train`. Received: {size} values per image"
        )
    columns = labels if isinstance(labels, dict) else {"": labels}
    lists = {name: values.tolist() for name, values in columns.items()}
    try:
        for items in lists.values():
            check_labels(items)
    except ValueError as error:
        raise ValueError(
            f"The labels of shard {index} can't be stored: {error}. Convert them, or leave them out."
        ) from error
    return {"named_labels": lists} if isinstance(labels, dict) else {"labels": lists[""]}
