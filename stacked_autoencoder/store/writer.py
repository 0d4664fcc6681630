"""Writing the files of an `EncodingStore`, each whole or not at all.

The order in which files change makes any kill harmless, and tells readers: the log is written first, then a manifest
that is there goes, then shards are replaced, and the manifest comes last. A store that needs nothing keeps its files.
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

from stacked_autoencoder.store.manifest import (
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
from stacked_autoencoder.store.shards import shard_file, write_values
from stacked_autoencoder.utils.files import is_regular, replacing_by, sha256, sync
from stacked_autoencoder.utils.labels import MOST_VALUES, Labels, values_per_image


class ShardSource(Protocol):
    """What the writer asks of the images behind a shard: a block of a source has it."""

    index: int
    names: list[str] | None
    labels: Labels | None

    def fingerprint(self) -> str: ...


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

    @classmethod
    def joined(cls, parts: Sequence[Encoded]) -> Encoded:
        """Encodings of one size, joined along the last axis."""
        values, low, high, sums, squares = zip(*parts, strict=True)
        values, sums, squares = (np.concatenate(each, axis=-1) for each in (values, sums, squares))
        return cls(values, np.min(low), np.max(high), sums, squares)

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


RESERVED = 64  # shards that one line of the log names beforehand: each costs a wait for the disk
TEMPORARY = re.compile(r"\.(?:\d{5,}\.npy|manifest\.json|unfinished\.jsonl)\.([0-9a-f]{16})\.new")
SHOWN = 3  # names of files that aren't ours, in a message


class CannotWrite(OSError):
    """A file of a store can't be written.

    Attributes:
        size: bytes of the shard, 0 for another file.
    """

    size = 0


class Found(NamedTuple):
    """What is in the folder of a store.

    Attributes:
        manifest: of a finished store, if it is one.
        log: of one that is being written, if there is one.
    """

    manifest: dict[str, Any] | None
    log: Log | None

    @property
    def head(self) -> dict[str, Any] | None:
        """What made the store, if there is one."""
        if self.manifest is not None:
            return head_of(self.manifest)
        return None if self.log is None else self.log.head

    @property
    def records(self) -> dict[int, Record]:
        """The records of its shards by index; what the log says is later than the manifest."""
        records = [] if self.manifest is None else self.manifest["shards"]
        return {record["index"]: record for record in [*records, *(self.log.records if self.log else ())]}

    @property
    def reserved(self) -> list[range]:
        """Indices of shards that this library may have written without a record."""
        return [] if self.log is None else self.log.reserved


def look_into(folder: Path) -> Found:
    """What is in the folder of a store.

    Raises:
        ForeignFiles: something that isn't part of one.
        ValueError: the manifest is damaged.
    """
    names = sorted(os.listdir(folder))
    if not names:
        return Found(None, None)
    if MANIFEST in names:
        try:
            return Found(read_manifest(folder), read_log(folder))
        except FileNotFoundError:
            raise ForeignFiles(f"{MANIFEST} is a link that leads nowhere. Received: path={str(folder)!r}") from None
    log = read_log(folder)
    if log is None:
        shown = ", ".join(map(ascii, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        raise ForeignFiles(
            f"`path` must be a new or empty folder, or one that `encode_to` has written, so that nothing of yours is "
            f"lost. There are other files: {shown}. Choose another folder. Received: path={str(folder)!r}"
        )
    return Found(None, log)


def delete_store(folder: Path) -> None:
    """Deletes the files of a store, and no other; only its writer may. Killed in between, it can be called again."""
    found = look_into(folder)
    known, reserved = found.records.keys(), found.reserved
    for name in os.listdir(folder):
        index = int(name.removesuffix(".npy")) if re.fullmatch(r"\d{5,20}\.npy", name) else None
        is_ours = index in known or any(index in some for some in reserved)
        if is_ours and name == shard_file(folder, index).name and is_regular(folder / name):
            (folder / name).unlink()
    _delete_leftovers(folder, found.log)
    for name in (MANIFEST, LOG):  # last, since they say that the folder is a store
        sync(folder)
        (folder / name).unlink(missing_ok=True)
    sync(folder)


class ShardWriter:
    """Writes shards in the background, one at a time, so that encoding doesn't wait for the disk.

    Args:
        folder: of the store.
        head: what made the store.
        found: what is in the folder.
    """

    def __init__(self, folder: Path, head: dict[str, Any], found: Found) -> None:
        self.folder = folder
        self.head = head
        self.found = found
        self.records = found.records
        self.known = frozenset(self.records)
        self.dropped: list[int] = []
        self.reserved = [*found.reserved]
        self.token = secrets.token_hex(8)  # of the names of temporary files
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
        """Takes the encodings of a block. Raises what went wrong with the one before."""
        self._wait()
        with self._own_errors():
            self._begin(self._reservation(block.index))
        labels = block.labels if keep_labels else None
        self.waiting = self.thread.submit(self._write, block, batches, labels_record(labels, block.index))

    def label(self, index: int, labels: Labels | None) -> None:
        """Gives the encodings of a shard that is there already these labels, and no others."""
        self._wait()
        before = self.records[index]
        record = {name: value for name, value in before.items() if name not in LABELS} | labels_record(labels, index)
        if record != before:
            with self._own_errors():
                self._begin([record])
            self.records[index] = record

    def drop(self, index: int) -> None:
        """Forgets a shard that was damaged and can't be made anew."""
        self._wait()
        if self.records.pop(index, None) is not None:
            self.dropped.append(index)

    def finish(self) -> None:
        """Writes the manifest, which makes the store one, unless the one that is there says the same."""
        self._wait()
        records = [self.records[index] for index in sorted(self.records)]
        there = self.found.manifest
        if (
            self.log is None
            and there is not None
            and there["shards"] == records
            and all(there.get(name) == self.head.get(name) for name in OPTIONAL)
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
        """Writes lines to the log; at first also what is there, and then takes the manifest away.

        From there on shards may change. It waits for the disk once.
        """
        if self.log is not None:
            if lines:
                self._append(*lines)
            return
        there = self.found.log
        self.log = _opened(self.folder / LOG, is_new=there is None)
        if there is None or there.head is None:
            self.log.truncate(0)
            self._append(self.head, *self.records.values(), {"temporary": self.token}, *lines)
        else:
            self.log.truncate(there.length)  # the last line may be half there
            known = {record["index"]: record for record in there.records}
            fresh = [record for index, record in self.records.items() if known.get(index) != record]
            self._append(*fresh, {"temporary": self.token}, *lines)
            if there.head != self.head:
                self._replace_head()
        sync(self.folder)
        if self.found.manifest is not None:
            (self.folder / MANIFEST).unlink()
            sync(self.folder)
        _delete_leftovers(self.folder, there)

    def _replace_head(self) -> None:
        """Writes the log anew with another first line."""
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
        """A line with names of shards that don't exist yet: a killed process can leave one without a record."""
        if self._may_be_ours(index):
            return []
        step = 1 if self.head["part"] is None else self.head["part"][1]
        stop = index
        while stop < index + RESERVED * step and not os.path.lexists(shard_file(self.folder, stop)):
            stop += step
        if stop == index:
            return []
        self.reserved.append(range(index, stop, step))
        return [{"reserved": [index, stop, step]}]

    def _may_be_ours(self, index: int) -> bool:
        return index in self.known or any(index in some for some in self.reserved)

    def _temporary(self, name: str) -> Path:
        return self.folder / f".{name}.{self.token}.new"

    def _clean_up(self) -> None:
        """Deletes what a finished store doesn't need."""
        for index in self.dropped:
            if is_regular(shard_file(self.folder, index)):
                shard_file(self.folder, index).unlink()
        _delete_leftovers(self.folder, self.found.log)
        (self.folder / LOG).unlink()
        sync(self.folder)

    def _wait(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.result()

    def _write(self, block: ShardSource, batches: list[Encoded], labels: Record) -> None:
        file = shard_file(self.folder, block.index)
        values = [batch.values for batch in batches]
        record = _record(block, batches) | labels
        alike = None not in record["shape"]
        shape = (record["rows"], *record["shape"]) if alike else (sum(piece.size for piece in values),)
        size = sum(piece.nbytes for piece in values)
        with self._own_errors(size, file):
            if file.is_dir() or (os.path.lexists(file) and not self._may_be_ours(block.index)):
                checksum = self._adopted(file, shape, values)
            else:
                with replacing_by(self._temporary(file.name), file, reserve=size) as stream:
                    checksum = write_values(stream, shape, values)
            record["sha256"] = checksum
            self._append(record)
        self.records[block.index] = record

    def _adopted(self, file: Path, shape: tuple[int, ...], values: list[np.ndarray]) -> str:
        """The checksum of a shard without a record, as a process of version 1.0 that was killed can have left.

        Raises:
            ForeignFiles: the file isn't that shard.
        """
        with open(os.devnull, "wb") as nowhere:
            checksum = write_values(nowhere, shape, values)
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
            what = f"a shard of {size:,} bytes" if size else "what is known of the shards"
            told = CannotWrite(
                error.errno,
                f"{error.strerror or error}: {what} can't be written. {len(self.records)} shards are whole; make "
                "room and call `encode_to` again, which goes on from there",
                str(file or self.folder),
            )
            told.size = size
            raise told from error


def _opened(log: Path, is_new: bool) -> io.FileIO:
    """A log, to append to. One that is there has been checked before, and a link in its place is refused."""
    flags = os.O_CREAT | os.O_EXCL if is_new else getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | flags, 0o666), "wb", 0)


def _delete_leftovers(folder: Path, log: Log | None) -> None:
    """Deletes temporary files of killed processes: those whose names the log knows."""
    for name in os.listdir(folder) if log is not None and log.tokens else ():
        found = TEMPORARY.fullmatch(name)
        if found is not None and found[1] in log.tokens and is_regular(folder / name):
            (folder / name).unlink()


def _record(block: ShardSource, batches: Sequence[Encoded]) -> Record:
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
    return record


def labels_record(labels: Labels | None, index: int) -> Record:
    """What the record of a shard says of its labels.

    Raises:
        ValueError: a manifest can't hold them. The message says what to do.
    """
    if labels is None:
        return {}
    size = values_per_image(labels)
    if size > MOST_VALUES:
        raise ValueError(
            f"A store keeps labels of up to {MOST_VALUES} values per image, since they are written as text. Leave them "
            "out and keep them in a file of their own, such as `np.save('labels.npy', labels)`, whose rows are in the "
            "order of the images; of one-hot labels give `labels.argmax(axis=-1)`. If they are what the images should "
            f"be restored to, they are `targets=` of `train`. Received: {size} values per image"
        )
    columns = labels if isinstance(labels, dict) else {"": labels}
    lists = {name: values.tolist() for name, values in columns.items()}
    try:
        for items in lists.values():
            check_labels(items)
    except ValueError as error:
        raise ValueError(
            f"The labels of shard {index} can't be kept: {error}. Convert them, or leave them out."
        ) from error
    return {"named_labels": lists} if isinstance(labels, dict) else {"labels": lists[""]}
