"""Reads `manifest.json` and `unfinished.jsonl` of an `EncodingStore`. They may come from anyone, so all is checked.

    manifest.json      metadata of the store (the head) and a record of every shard; written last
    unfinished.jsonl   the same, line by line, while the store is being written (the log)

Lines of the log that are neither the head nor a record reserve names for the process that writes:
`{"temporary": token}` for temporary files `.NAME.TOKEN.new`, `{"reserved": [first, stop, step]}` for shards without a
record. They are written before the first such file, so a killed process leaves no file without a line.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stacked_autoencoder.store.compression import FRAME_VALUES, MOST_VALUES, WIDTHS, largest_size
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import is_regular, read_regular

FORMAT = 2  # of stores with rounded encodings; other stores have format 1, which earlier versions read
MANIFEST = "manifest.json"
LOG = "unfinished.jsonl"
LARGEST = 1 << 30  # bytes of either file
LABELS = ("labels", "named_labels")  # in a record: a list, or lists by name; versions before 1.1 write the first only
INT8 = "int8"
COMPRESSED = "int32"  # numbers of one step, compressed
DTYPES = ("float16", "float32", INT8)
LARGEST_VALUE = {dtype: float(np.finfo(dtype).max) for dtype in ("float16", "float32")}  # of encodings that are read
HEAD = ("format", "encoder", "multiple", "level", "shape", "dtype", "shard_size", "part", "source", "versions")
ROUNDING = ("loss_budget", "step", "added_loss")  # in the head of a compressed store
OPTIONAL = ("class_names", *ROUNDING)  # in the head
HEAD_BEGINS = tuple(b'{"format": %d, "encoder": "' % number for number in (1, FORMAT))
MOST = 1 << 62  # upper bound of all integers
TOKEN = re.compile("[0-9a-f]{16}")
SHA256 = re.compile("[0-9a-f]{64}")


Record = dict[str, Any]
Kind = tuple[bool, tuple[int, ...]]  # whether labels are texts, and the shape of a label


class ForeignFiles(ValueError):
    """The folder contains files that `encode_to` did not write and would have to overwrite."""


class Log(NamedTuple):
    """The content of a log.

    Attributes:
        head: metadata of the store; `None` if the process ended before the first line was complete.
        records: records of complete shards; the last one of an index counts.
        tokens: tokens in the names of temporary files.
        reserved: indices of shards that may exist without a record.
        length: size of all complete lines in bytes.
    """

    head: dict[str, Any] | None
    records: list[Record]
    tokens: set[str]
    reserved: list[range]
    length: int


def values_dtype(dtype: str) -> str:
    """Returns the dtype of the encodings that are read from a store with files of this dtype."""
    return dtype if dtype in LARGEST_VALUE else "float32"


def format_of(dtype: str) -> int:
    """Returns the format of stores of a dtype."""
    return 1 if dtype in LARGEST_VALUE else FORMAT


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads and checks the manifest of a store.

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: the manifest is damaged, or written by a newer version.
    """
    file = folder / MANIFEST
    try:
        content = read_regular(file, LARGEST)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        raise _invalid_manifest(file, error.strerror or "it can't be read") from None
    try:
        manifest = _parsed(content)
        check_head(manifest)
        _check_records(manifest)
    except _NewerFormat as error:
        raise ValueError(
            f"This store was written in format {error}; this version of stacked_autoencoder reads up to {FORMAT}. "
            f"Upgrade with `pip install --upgrade stacked_autoencoder`. Received: {str(file)!r}"
        ) from None
    except _Damaged as error:
        raise _invalid_manifest(file, str(error)) from None
    return manifest


def read_log(folder: Path) -> Log | None:
    """Reads the log of an unfinished store, `None` if there is none.

    Raises:
        ForeignFiles: `encode_to` did not write the file with the name of the log.
    """
    file = folder / LOG
    if not os.path.lexists(file):
        return None
    try:
        content = read_regular(file, LARGEST) if is_regular(file) else None
    except PermissionError:
        raise
    except OSError as error:
        raise _invalid_log(file, error.strerror or "it can't be read") from None
    if content is None:
        raise _invalid_log(file, "it isn't a regular file")
    log = Log(None, [], set(), [], 0)
    for line in content.splitlines(keepends=True):
        try:
            log = _with_line(log, line)
        except _Damaged as error:
            begins_as_log = any(content.startswith(head) or head.startswith(content) for head in HEAD_BEGINS)
            if log.head is None and (b"\n" in content or not begins_as_log):
                raise _invalid_log(file, str(error)) from None
            break  # the process ended within this line
    return log


def moments(records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation per channel over all shards; empty arrays without shards."""
    if not records:
        return np.zeros(0), np.zeros(0)
    values = float(sum(record["values"] for record in records))
    sums, squares = (np.sum([record[name] for record in records], 0, np.float64) for name in ("sum", "squares"))
    mean, power = sums / values, squares / values
    return mean, np.sqrt(np.maximum(power - mean**2, 0.0))


def head_of(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the metadata of a store from its manifest or the first line of its log."""
    return {name: content[name] for name in (*HEAD, *OPTIONAL) if name in content}


def check_labels(labels: Any) -> Kind:
    """Checks that labels make an array of numbers or texts.

    Args:
        labels: list of the labels of one shard.

    Returns:
        Whether they are texts, and the shape of a label.

    Raises:
        ValueError: they do not make such an array.
    """
    kinds = set(map(type, labels))
    if (
        kinds == {int} and min(labels) >= -(2**63) and max(labels) < 2**63
    ):  # the usual case; four times faster than an array
        return False, ()
    leaves = labels
    while kinds == {list}:
        leaves = list(chain.from_iterable(leaves))
        kinds = set(map(type, leaves))
    if kinds == {str}:
        lengths = [*map(len, leaves)]
        if max(lengths) * len(lengths) > 1_000_000 + 64 * sum(lengths):
            raise ValueError("one label is far longer than the others, so an array of them would take too much memory")
    elif not kinds <= {int, float, bool}:
        raise ValueError("labels must be numbers or texts, all of one kind and shape")
    try:
        array = np.asarray(labels)
    except (ValueError, OverflowError, MemoryError):
        array = None
    if array is None or array.dtype.kind not in "biufU":
        raise ValueError("labels must be numbers or texts, all of one kind and shape")
    return array.dtype.kind == "U", array.shape[1:]


# === Checks ===


class _Damaged(ValueError):
    """The manifest or log is not valid; the message gives the reason."""


class _NewerFormat(ValueError):
    """The format is newer than this version."""


def _invalid_manifest(file: Path, reason: str) -> ValueError:
    return ValueError(
        f"{MANIFEST} isn't one that `encode_to` wrote: {printable(reason, 300)}. It was edited or is incomplete. "
        f"Copy the store again, or delete this folder and encode again. Received: {str(file)!r}"
    )


def _invalid_log(file: Path, reason: str) -> ForeignFiles:
    return ForeignFiles(
        f"{LOG} isn't one that `encode_to` wrote: {printable(reason, 300)}. It is left as it is. Choose a new or empty "
        f"folder as `path`. Received: {str(file)!r}"
    )


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError, MemoryError):  # ValueError also for text that is not UTF-8
        raise _Damaged("it is not valid JSON, or is nested too deeply") from None


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise _Damaged(rule)


def _is_int(value: Any, least: int, below: int = MOST) -> bool:
    return type(value) is int and least <= value < below


def _is_number(value: Any, least: float, largest: float) -> bool:
    return type(value) in (float, int) and least <= value <= largest  # comparisons with NaN are false


def check_head(head: Any) -> None:
    """Raises `_Damaged` unless this is the head of a manifest or log."""
    _require(type(head) is dict, "it is not a JSON object")
    format = head.get("format")
    _require(_is_int(format, 1), "`format` must be a positive whole number")
    if format > FORMAT:
        raise _NewerFormat(format)
    missing = [name for name in HEAD if name not in head]
    _require(not missing, f"{', '.join(missing)} missing")
    for name in ("encoder", "source", "dtype"):
        _require(type(head[name]) is str, f"`{name}` must be text")
    dtypes = (*DTYPES, COMPRESSED)
    _require(head["dtype"] in dtypes, f"`dtype` must be one of {', '.join(dtypes)}")
    _require(format == format_of(head["dtype"]), "`format` must be that of stores of this `dtype`")
    _require(_is_int(head["level"], 0), "`level` must be a whole number of at least 0")
    for name in ("multiple", "shard_size"):
        _require(_is_int(head[name], 1), f"`{name}` must be a whole number of at least 1")
    shape = head["shape"]
    is_shape = type(shape) is list and 1 <= len(shape) <= 8 and all(side is None or _is_int(side, 1) for side in shape)
    _require(is_shape and shape[-1] is not None, "`shape` must be a list of sides of at least 1")
    part = head["part"]
    is_part = type(part) is list and len(part) == 2 and _is_int(part[1], 1) and _is_int(part[0], 0, part[1])
    _require(part is None or is_part, "`part` must be null, or [i, n] with 0 <= i < n")
    names = head.get("class_names", [])
    are_names = type(names) is list and set(map(type, names)) <= {str} and len(set(names)) == len(names)
    _require(are_names, "`class_names` must be a list of texts, each once")
    for name in ROUNDING if head["dtype"] == COMPRESSED else ():
        number, least = head.get(name), -1.0 if name == "added_loss" else sys.float_info.min
        _require(_is_number(number, least, LARGEST_VALUE["float32"]), f"`{name}` must be a finite number")


def _check_records(manifest: dict[str, Any]) -> None:
    records = manifest.get("shards")
    _require(type(records) is list, "`shards` must be a list")
    kinds = {check_record(record, manifest) for record in records}
    indices = {record["index"] for record in records}
    _require(len(indices) == len(records), "a shard has two records")
    for name in ("names", *LABELS):
        _require(len({name in record for record in records}) <= 1, f"some shards have `{name}`, and others have none")
    _require(len(kinds) <= 1, "`labels` of the shards differ in shape, in kind, or in their names")


def check_record(record: Any, head: dict[str, Any]) -> frozenset[tuple[str, Kind]]:
    """Checks the record of a shard against the head of its manifest or log.

    Returns:
        Pairs of the name of labels (`""` for labels without a name) and the result of `check_labels`.

    Raises:
        _Damaged: the record is invalid.
    """
    _require(type(record) is dict, "the record of a shard is not a JSON object")
    index = record.get("index")
    _require(_is_int(index, 0), "`index` must be a whole number of at least 0")
    try:
        _check_numbers(record, head)
        return _check_lists(record)
    except _Damaged as error:
        raise _Damaged(f"shard {index}: {error}") from None


def _check_numbers(record: Record, head: dict[str, Any]) -> None:
    rows, values, shape, channels = record.get("rows"), record.get("values"), record.get("shape"), head["shape"][-1]
    _require(_is_int(rows, 1, head["shard_size"] + 1), "`rows` must be a whole number from 1 to `shard_size`")
    _require(_is_int(values, 1), "`values` must be a whole number of at least 1")
    is_shape = type(shape) is list and 1 <= len(shape) <= 8 and all(side is None or _is_int(side, 1) for side in shape)
    _require(is_shape and shape[-1] == channels, "`shape` must have the channels of the store")
    if None in shape:
        count = sum(map(math.prod, _checked_sizes(record, rows, head["shape"])))
    else:
        _require(_fits(shape, head["shape"]), "`shape` must be that of the store")
        count = rows * math.prod(shape[:-1])
    _require(count == values, "`values` must follow from `rows` and `shape`")
    largest = LARGEST_VALUE[values_dtype(head["dtype"])]
    for name, bound in (("sum", largest), ("squares", largest**2)):
        numbers = record.get(name)
        _require(type(numbers) is list and len(numbers) == channels, f"`{name}` must be a list of a number per channel")
        limit = 2.0 * bound * values  # twice as much, since sums are rounded; comparisons with NaN are false
        are_numbers = all(type(number) in (float, int) and -limit <= number <= limit for number in numbers)
        _require(are_numbers, f"`{name}` must hold finite numbers that are possible for this dtype")
    least = {INT8: {"center": -largest, "reach": 0}, COMPRESSED: {"center": -largest}}
    for name, low in least.get(head["dtype"], {}).items():
        numbers = record.get(name)
        _require(type(numbers) is list and len(numbers) == channels, f"`{name}` must be a list of a number per channel")
        are_numbers = all(_is_number(number, low, largest) for number in numbers)
        _require(are_numbers, f"`{name}` must hold finite numbers of at least {low:g}")
    if head["dtype"] == COMPRESSED:
        is_step = _is_number(record.get("step"), sys.float_info.min, largest)
        _require(is_step, "`step` must be a finite number greater than 0")
        _check_frames(record, rows)


def _check_frames(record: Record, rows: int) -> None:
    """Checks the frames of a compressed shard with `rows` encodings."""
    frames, channels = record.get("frames"), record["shape"][-1]
    are_three = type(frames) is list and all(type(frame) is list and len(frame) == 3 for frame in frames)
    _require(are_three, "`frames` must be a list of rows, bytes per number and size of each frame")
    fit = all(
        _is_int(count, 1) and _is_int(width, WIDTHS.start, WIDTHS.stop) and _is_int(size, 1)
        for count, width, size in frames
    )
    fit = fit and sum(count for count, _, _ in frames) == rows
    _require(fit, "`frames` must have the rows of the shard, 1 to 4 bytes per number, and a positive size")
    places = [*map(math.prod, record["sizes"])] if None in record["shape"] else None  # of each encoding
    first = 0
    for count, width, size in frames:
        in_frame = count * (record["values"] // rows) if places is None else sum(places[first : first + count])
        values = in_frame * channels
        _require(values <= (FRAME_VALUES if count > 1 else MOST_VALUES), "a frame is too large")
        _require(size <= largest_size(values, width), "a frame has more bytes than its values need")
        first += count


def _checked_sizes(record: Record, rows: int, shape: list[int | None]) -> list[list[int]]:
    """Checks and returns the sizes of the encodings of a shard in which sizes vary."""
    sizes = record.get("sizes")
    _require(type(sizes) is list and len(sizes) == rows, "`sizes` must be a list with one size per row")
    fit = set(map(type, sizes)) == {list} and set(map(len, sizes)) == {len(shape) - 1}
    fit = fit and set(map(type, chain.from_iterable(sizes))) == {int}
    fit = fit and all(1 <= side < MOST for side in chain.from_iterable(sizes))
    _require(fit and all(_fits(size, shape[:-1]) for size in sizes), "`sizes` must be sides of at least 1")
    return sizes


def _fits(shape: list[int], wanted: list[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        side is None or own == side for own, side in zip(shape, wanted, strict=True)
    )


def _check_lists(record: Record) -> frozenset[tuple[str, Kind]]:
    checksum = record.get("sha256")
    _require(type(checksum) is str and SHA256.fullmatch(checksum) is not None, "`sha256` must be 64 hexadecimal digits")
    _require(type(record.get("source")) is str, "`source` must be text")
    _require(not all(name in record for name in LABELS), "there are labels both with and without names")
    columns = record.get("named_labels", {})
    _require(
        type(columns) is dict and (columns or "named_labels" not in record), "`named_labels` must be lists by name"
    )
    if "labels" in record:
        columns = {"": record["labels"]}
    lists = [*columns.values(), *([record["names"]] if "names" in record else [])]
    for items in lists:
        is_list = type(items) is list and len(items) == record["rows"]
        _require(is_list, "`names` and labels must be lists with one entry per row")
    if "names" in record:
        _require(set(map(type, record["names"])) == {str}, "`names` must be texts")
    try:
        return frozenset((name, check_labels(items)) for name, items in columns.items())
    except ValueError as error:
        raise _Damaged(str(error)) from None


def _with_line(log: Log, line: bytes) -> Log:
    """Returns the log with one more line."""
    _require(line.endswith(b"\n"), "a line is incomplete")
    content = _parsed(line)
    length = log.length + len(line)
    if log.head is None:
        try:
            check_head(content)
        except _NewerFormat:
            raise _Damaged(f"its format is newer than {FORMAT}") from None
        return Log(head_of(content), [], set(), [], length)
    _require(type(content) is dict, "a line is not a JSON object")
    if "temporary" in content:
        token = content["temporary"]
        _require(type(token) is str and TOKEN.fullmatch(token) is not None, "`temporary` must be 16 hexadecimal digits")
        log.tokens.add(token)
    elif "reserved" in content:
        numbers = content["reserved"]
        are_three = type(numbers) is list and len(numbers) == 3 and all(_is_int(number, 0) for number in numbers)
        _require(are_three and numbers[2] > 0, "`reserved` must be three whole numbers")
        log.reserved.append(range(*numbers))
    else:
        check_record(content, log.head)
        log.records.append(content)
    return log._replace(length=length)
