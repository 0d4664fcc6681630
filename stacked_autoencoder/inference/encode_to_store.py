"""Encoding images to a store on disk: shard by shard, in constant memory, and continuing after an interruption."""

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
from stacked_autoencoder.inference.rounding import Rounding, find_rounding
from stacked_autoencoder.inference.tiling import default_side, encode_tiles, tiler
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.store.compression import zstandard
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.store.manifest import COMPRESSED, DTYPES, LABELS, OPTIONAL, Record, format_of, values_dtype
from stacked_autoencoder.store.shards import part_name, shard_of
from stacked_autoencoder.store.writer import Encoded, Found, ShardWriter, look_into
from stacked_autoencoder.utils.checks import positive_int, positive_number, whole
from stacked_autoencoder.utils.console import Progress
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import expanded, only_writer
from stacked_autoencoder.utils.images import Shape, pad_by_reflection, without_missing
from stacked_autoencoder.utils.labels import Labels
from stacked_autoencoder.utils.tracing import graph_function
from stacked_autoencoder.utils.value_range import ValueRange
from stacked_autoencoder.version import versions

SHARD_BYTES = 1 << 25
LARGEST_BUDGET = 1_000
MOST_ROWS = 1024  # most encodings per shard by default
ROWS_OF_ANY_SIZE = 16  # encodings per shard if their size isn't known; those of photographs can take 50 MB each


def encode_to_store(
    stack: Stack,
    path: str | os.PathLike[str],
    source: Images,
    level: int | None = None,
    *,
    shard_size: int | None = None,
    dtype: str | None = None,
    loss_budget: float | None = None,
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
    verbose: int = 1,
) -> EncodingStore:
    """Encodes images to a store; `Autoencoder.encode_to` documents the arguments."""
    level = stack.index_of(level)
    if loss_budget is not None:
        loss_budget = positive_number("loss_budget", loss_budget)
        if loss_budget > LARGEST_BUDGET:
            raise ValueError(
                "`loss_budget` is the share by which the loss may grow, such as 0.01, and at most "
                f"{LARGEST_BUDGET:,}. Received: loss_budget={loss_budget!r}"
            )
    dtype = _dtype(dtype, loss_budget)
    if shard_size is not None:
        shard_size = positive_int("shard_size", shard_size)
    part = None if shard is None else _part(shard)
    images = as_source(source, **stack.source_options, finite="images")
    images.workers = None if workers is None else positive_int("workers", workers)
    folder = write_store(
        expanded(path),
        images,
        stack.levels[: level + 1],
        made_by(stack, level, images.shape, dtype, shard_size, loss_budget=loss_budget),
        find_rounding=None if loss_budget is None else partial(find_rounding, stack, level, images, loss_budget),
        part=part,
        verbose=verbose,
    )
    return EncodingStore(folder)


def _dtype(dtype: str | None, loss_budget: float | None) -> str:
    """Checks the arguments and returns the dtype of the files."""
    if loss_budget is None:
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}. Received: dtype={dtype!r}")
        return dtype or "float16"
    if dtype is not None:
        raise ValueError(
            "`loss_budget` chooses the numbers in the files, so it can't be combined with `dtype`: remove one of them. "
            f"Received: dtype={dtype!r}, loss_budget={loss_budget!r}"
        )
    zstandard()
    return COMPRESSED


def _part(shard: tuple[int, int]) -> tuple[int, int]:
    is_pair = isinstance(shard, Sequence) and len(shard) == 2
    index, count = map(whole, shard) if is_pair else (None, None)
    if index is None or count is None or not 0 <= index < count:
        raise ValueError(f"`shard` must be (i, n) with 0 <= i < n, for part i of n. Received: shard={shard!r}")
    return index, count


class StaleStore(ValueError):
    """The folder contains a store that another encoder wrote, or that has encodings of other images."""


def write_store(
    folder: Path,
    source: Source,
    levels: Sequence[Level],
    made: dict[str, Any],
    *,
    find_rounding: Callable[[], Rounding] | None = None,
    part: tuple[int, int] | None = None,
    keep_labels: bool = True,
    verbose: int = 0,
) -> Path:
    """Encodes a source to a store, or continues an unfinished store.

    Args:
        folder: folder of the store; a new or empty folder, or that of a store.
        source: the images, or the inputs of the first of the levels.
        levels: the levels whose encoders are applied, one after the other.
        made: the result of `made_by`.
        find_rounding: function that returns the rounding of a new store, for compressed stores.
        part: `(i, n)` to encode only every n-th block, starting with block i.
        keep_labels: whether to store the labels of the source.
        verbose: whether to print progress.

    Returns:
        The folder of the finished store, or of the part.

    Raises:
        StaleStore: the folder has a store of another encoder or source. Nothing was changed.
        ForeignFiles: there are files that this library didn't write. They weren't changed.
        RuntimeError: another process is writing to the folder.
    """
    if part is not None:
        folder = folder / part_name(*part)
    make_folder(folder)
    with only_writer(folder):
        write_alone(
            folder,
            source,
            levels,
            made,
            find_rounding=find_rounding,
            part=part,
            keep_labels=keep_labels,
            verbose=verbose,
        )
    return folder


def make_folder(folder: Path) -> None:
    """Creates a folder, unless it exists."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        message = "`path` must be a folder, but a file has this name. Choose another path"
        raise type(error)(error.errno, message, str(folder)) from None


def write_alone(
    folder: Path,
    source: Source,
    levels: Sequence[Level],
    made: dict[str, Any],
    *,
    find_rounding: Callable[[], Rounding] | None = None,
    part: tuple[int, int] | None = None,
    keep_labels: bool = True,
    verbose: int = 0,
) -> None:
    """Does the work of `write_store` in the folder of the store or part, which the caller has locked."""
    fill_values = levels[0].fill_values
    encode = encoding_of(
        tuple(level.encoder for level in levels),
        source.factor,
        source.values,
        values_dtype(made["dtype"]),
        None if fill_values is None else tuple(fill_values.tolist()),
    )
    if source.parts > 1:
        encode = partial(_encode_parts, encode, source.parts)
    about = {"part": None if part is None else list(part), "source": source.describe(), "versions": versions()}
    if source.class_names is not None:
        about["class_names"] = source.class_names
    found = look_into(folder)
    head = _head(folder, found, {"format": format_of(made["dtype"]), **made, **about})
    if find_rounding is not None and ("step" not in head or not found.records):  # no images were there to measure it
        head |= find_rounding()._asdict()
    done, present = found.records, set()

    @cache
    def is_whole(index: int) -> bool:
        return index in done and shard_of(folder, done[index], head["dtype"]).is_whole()

    def is_in_part(index: int) -> bool:
        return part is None or index % part[1] == part[0]

    with ShardWriter(folder, head, found) as writer, Progress(source.count(), verbose) as progress:
        for block in source.blocks(head["shard_size"], lambda index: is_in_part(index) and not is_whole(index)):
            if not is_in_part(block.index):
                continue
            present.add(block.index)
            record = done.get(block.index)
            if is_whole(block.index):
                _check_source(folder, head, record, block, source)
                labels = block.labels_of(record.get("names")) if keep_labels else None
                if keep_labels:
                    _check_labels(folder, record, labels)
                writer.label(block.index, labels)  # the labels may have changed
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
            else:  # none of its files could be read
                writer.drop(block.index)
        missing = set(done) - present
        if missing:
            _check_source(folder, head, done[min(missing)], None, source)
        writer.finish()


def _encode_parts(encode: Callable[[np.ndarray], Encoded], parts: int, images: np.ndarray) -> Encoded:
    """Encodes images that are joined along the last axis one by one."""
    return Encoded.joined([encode(part) for part in np.split(images, parts, axis=-1)])


def made_by(
    stack: Stack,
    level: int,
    images: Shape,
    dtype: str,
    shard_size: int | None = None,
    parts: int = 1,
    loss_budget: float | None = None,
) -> dict[str, Any]:
    """Returns everything that determines the encodings in a store, as plain values.

    Args:
        stack: the stack.
        level: index of the level.
        images: shape of the images.
        dtype: dtype of the files.
        shard_size: encodings per shard; by default as many as need 32 MB, at most 1,024.
        parts: number of encodings that are joined along the last axis.
        loss_budget: the budget of a compressed store.
    """
    *sides, channels = stack.shape_at(level, images)
    shape = (*sides, channels * parts)
    if shard_size is None and None in shape:
        shard_size = ROWS_OF_ANY_SIZE
    if shard_size is None:
        shard_size = int(np.clip(SHARD_BYTES // (np.prod(shape) * np.dtype(dtype).itemsize), 1, MOST_ROWS))
    made = {
        "encoder": stack.fingerprint(level),
        "multiple": stack.factor,
        "level": level,
        "shape": list(shape),
        "dtype": dtype,
        "shard_size": shard_size,
    }
    return made if loss_budget is None else made | {"loss_budget": loss_budget}


def _head(folder: Path, found: Found, head: dict[str, Any]) -> dict[str, Any]:
    """Returns the manifest of the store; raises `StaleStore` if an existing one has other properties."""
    old = found.head
    if old is None:
        return head
    names = {"encoder": "encoder", "loss_budget": "`loss_budget`", "dtype": "`dtype`", "shard_size": "`shard_size`"}
    for name, what in (names | {"part": "part"}).items():
        if old.get(name) != head.get(name):
            raise StaleStore(
                f"{str(folder)!r} contains encodings made with another {what}: {_named(old, name)}. Choose another "
                f"path, or delete the store. Received: {_named(head, name)}"
            )
    if len(old["shape"]) != len(head["shape"]):
        raise StaleStore(
            f"{str(folder)!r} contains encodings of shape {old['shape']}. Choose another path, or delete the store. "
            f"Received: encodings of shape {head['shape']}"
        )
    classes, known = head.get("class_names"), old.get("class_names")
    if classes is not None and known is not None and classes[: len(known)] != known:
        raise StaleStore(
            f"{str(folder)!r} contains labels for the classes {printable(known, 300)}. Choose another path, or create "
            f"the `ImageFolder` with these `class_names`. Received: class_names={printable(classes, 300)}"
        )
    sides = zip(old["shape"], head["shape"], strict=True)  # new images may have other sizes
    optional = {name: head[name] for name in OPTIONAL if name in head}
    return old | optional | {"shape": [side if side == other else None for side, other in sides]}


def _named(head: dict[str, Any], name: str) -> str:
    if name != "encoder":
        return repr(head.get(name))
    return f"encoder {printable(head['encoder'][:12])}… of level {head['level']}"


def _check_source(
    folder: Path, head: dict[str, Any], record: Record | None, block: Block | None, source: Source
) -> None:
    """Raises `StaleStore` if a shard was written from other images than those of the block."""
    if record is None or (block is not None and block.fingerprint() == record["source"]):
        return
    shown = printable(head["source"], 300)
    raise StaleStore(
        f"{str(folder)!r} contains encodings of another source ({shown}), or the images or their order have changed: "
        f"shard {record['index']} doesn't match. Choose another path, or delete the store. "
        f"Received: {source.describe()}"
    )


def _check_labels(folder: Path, record: Record, labels: Labels | None) -> None:
    """Raises `ValueError` if a store has labels and the source doesn't."""
    if labels is None and any(name in record for name in LABELS):
        raise ValueError(
            f"{str(folder)!r} contains labels, but this source has none. Pass `(images, labels)` as before, or open "
            f"the store with `EncodingStore(path)`. Received: images without labels"
        )


@lru_cache(maxsize=2)  # tracing takes as long as encoding a thousand small images
def encoding_of(
    encoders: tuple[keras.Model, ...],
    factor: int,
    value_range: ValueRange,
    dtype: str,
    fill_values: tuple[float, ...] | None = None,
) -> Callable[[np.ndarray], Encoded]:
    """Returns a function from unscaled images to their encodings, as one graph. Large images are encoded in tiles.

    Args:
        encoders: the encoders, one after the other.
        factor: height and width are padded to a multiple of it.
        value_range: value range of the images.
        dtype: dtype of the encodings.
        fill_values: replacement for NaN in each channel; `None` if values can't be missing.
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
        (image,) = images  # a batch of large images contains one
        return Encoded.of(encode_tiles(tiler(encoders), image, factor, side, scale)[None], dtype)

    graph = graph_function(whole)
    return encode
