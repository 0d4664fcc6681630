"""The files of an `EncodingStore`.

    manifest.json      what made the encodings, and a record of every shard; written last
    unfinished.jsonl   the same, line by line, while the store is being written
    00000.npy …        the encodings of one block of the source each, float16 or float32

A shard holds `(rows, *encoding_shape)`; where sizes differ within it, all values one after the other, and its record
lists the sizes.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stacked_autoencoder.durable import sha256
from stacked_autoencoder.sources.blocks import Shape

FORMAT = 1
MANIFEST = "manifest.json"
LOG = "unfinished.jsonl"
HEAD = ("format", "encoder", "multiple", "level", "shape", "dtype", "shard_size", "part", "source", "versions")
RECORD = {"index", "rows", "shape", "values", "sha256", "source", "sum", "squares"}

Record = dict[str, Any]


class Shard:
    """One file of a store, memory-mapped when it is first read.

    Attributes:
        index: of the block of the source.
        record: what the manifest says of it: `index`, `rows`, `shape` of an encoding (`None` where sizes differ, then
            `sizes` lists them), number of `values` per channel, their `sum` and `squares` per channel, `sha256` of the
            file, fingerprint of the `source`, and `names` and `labels` if the source has them.
    """

    def __init__(self, folder: Path, record: Record) -> None:
        self.record = record
        self.index: int = record["index"]
        self.rows: int = record["rows"]
        self.shape: Shape = tuple(record["shape"])
        self.file = shard_file(folder, self.index)

    def is_whole(self) -> bool:
        """Whether the file is there, and is the one that was written."""
        return self.file.is_file() and sha256(self.file) == self.record["sha256"]

    def size(self, row: int) -> tuple[int, ...]:
        """Shape of one encoding."""
        return (*self.record["sizes"][row], self.shape[-1]) if None in self.shape else self.shape

    def row(self, row: int) -> np.ndarray:
        """One encoding, still on the disk."""
        if None not in self.shape:
            return self._values[row]
        return self._values[self._ends[row] : self._ends[row + 1]].reshape(self.size(row))

    def release(self) -> None:
        """Gives mapped pages, which count as memory of the process, back to the system, which may still cache them."""
        if "_values" in self.__dict__:
            self._values._mmap.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def _values(self) -> np.memmap:
        values = np.load(self.file, mmap_mode="r", allow_pickle=False)
        expected = (int(self._ends[-1]),) if None in self.shape else (self.rows, *self.shape)
        if values.shape != expected:
            raise ValueError(
                f"{self.file.name} holds an array of shape {values.shape} where the manifest says {expected}: the "
                f"store is damaged, or a file was changed by hand. Received: {str(self.file)!r}"
            )
        return values

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where the encodings of a shard with several sizes begin and end."""
        return np.cumsum([0, *(int(np.prod(self.size(row))) for row in range(self.rows))])


def write_values(stream: BinaryIO, shape: Shape, pieces: Sequence[np.ndarray]) -> str:
    """Writes pieces of one array, one after the other, as a `.npy` file of this shape; returns its SHA-256."""
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(pieces[0].dtype), "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(header, described)
    digest = hashlib.sha256()
    for part in (header.getbuffer(), *(np.ascontiguousarray(piece).data for piece in pieces)):
        stream.write(part)
        digest.update(part)
    return digest.hexdigest()


def shard_file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.npy"


def part_name(index: int, count: int) -> str:
    return f"part{index}-of-{count}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """What made a store, and the records of its shards.

    Raises:
        ValueError: the manifest was cut short or changed, or is of a newer version.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        format = manifest["format"]
        known = format > FORMAT or (
            manifest.keys() >= {*HEAD, "shards"} and all(record.keys() >= RECORD for record in manifest["shards"])
        )
    except (ValueError, TypeError, KeyError, AttributeError):  # not JSON, or JSON of something else
        known = False
    if not known:
        raise ValueError(
            f"{MANIFEST} isn't one that `encode_to` wrote: it was changed by hand or cut short. Copy the store again, "
            f"or encode anew. Received: {str(file)!r}"
        )
    if format > FORMAT:
        raise ValueError(
            f"This store was written in format {format}; this version of stacked_autoencoder reads up to {FORMAT}. "
            f"Upgrade with `pip install --upgrade stacked_autoencoder`. Received: {str(file)!r}"
        )
    return manifest


def moments(records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel over the shards of these records; empty if there are none."""
    if not records:
        return np.zeros(0), np.zeros(0)
    values = sum(record["values"] for record in records)
    mean, power = (np.sum([record[name] for record in records], axis=0) / values for name in ("sum", "squares"))
    return mean, np.sqrt(np.maximum(power - mean**2, 0.0))


def read_log(folder: Path) -> tuple[dict[str, Any] | None, list[Record]]:
    """The same of a store that is being written: what makes it, and the records of the shards that are whole."""
    lines = []
    if (folder / LOG).is_file():
        for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # the power went in mid-line
                break
    known = lines and isinstance(lines[0], dict) and lines[0].keys() >= set(HEAD)
    return (lines[0], lines[1:]) if known else (None, [])
