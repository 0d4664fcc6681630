"""Copies of a store in formats of other libraries: Zarr, WebDataset and safetensors."""

from __future__ import annotations

import json
import os
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stacked_autoencoder.utils.files import write_folder
from stacked_autoencoder.utils.labels import labels_at

if TYPE_CHECKING:
    from stacked_autoencoder.store.encoding_store import EncodingStore

NAME = "encodings"


def to_zarr(store: EncodingStore, path: str | os.PathLike[str]) -> Path:
    """Writes a Zarr group; `EncodingStore.to_zarr` documents it."""
    zarr = _imported("zarr", "zarr")
    _check_one_size(store, "to_zarr")

    def write(folder: Path) -> None:
        group = zarr.create_group(store=str(folder))
        rows = max((shard.rows for shard in store.shards), default=1)
        chunks = (rows, *store.shape[1:])
        array = group.create_array(NAME, shape=store.shape, chunks=chunks, dtype=store.dtype)
        for start, stop in _spans(store):
            array[start:stop] = store[start:stop]
        for name, values in _arrays(store).items():
            group.create_array(name, data=values)
        group.attrs.update(_texts(store))

    return write_folder(path, write)


def to_webdataset(store: EncodingStore, path: str | os.PathLike[str], rows_per_file: int = 10_000) -> Path:
    """Writes tar files; `EncodingStore.to_webdataset` documents it."""
    webdataset = _imported("webdataset", "webdataset")

    def write(folder: Path) -> None:
        for first in range(0, len(store), rows_per_file):
            with webdataset.TarWriter(str(folder / f"{first // rows_per_file:06d}.tar")) as writer:
                for start, stop in _spans(store, first, min(first + rows_per_file, len(store))):
                    for row, encoding in enumerate(store[start:stop], start):
                        writer.write({"__key__": f"{row:09d}", "npy": encoding, "json": _description(store, row)})

    return write_folder(path, write)


def to_safetensors(store: EncodingStore, path: str | os.PathLike[str]) -> Path:
    """Writes safetensors files; `EncodingStore.to_safetensors` documents it."""
    safetensors = _imported("safetensors.numpy", "safetensors")
    _check_one_size(store, "to_safetensors")

    def write(folder: Path) -> None:
        spans = _spans(store)
        for number, (start, stop) in enumerate(spans):
            rows = np.arange(start, stop)
            tensors = {NAME: store[start:stop], **_arrays(store, rows)}
            metadata = {name: json.dumps(value) for name, value in _texts(store, rows).items()}
            file = folder / f"{NAME}-{number + 1:05d}-of-{len(spans):05d}.safetensors"
            safetensors.save_file({name: np.ascontiguousarray(each) for name, each in tensors.items()}, file, metadata)

    return write_folder(path, write)


def _imported(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'This format needs an extra: `pip install "stacked_autoencoder[{extra}]"`.') from error


def _check_one_size(store: EncodingStore, method: str) -> None:
    if None in store.shape:
        raise ValueError(
            f"`{method}` writes one array, which needs encodings of one size. Use `to_webdataset`, or encode images of "
            f"one size, such as `ImageFolder(path, side=64)`. Received: a store of shape {store.shape}"
        )


def _spans(store: EncodingStore, first: int = 0, last: int | None = None) -> list[tuple[int, int]]:
    """Returns the first row of each shard and the row after its last one, between `first` and `last`."""
    last = len(store) if last is None else last
    ends = np.cumsum([0, *(shard.rows for shard in store.shards)]).tolist()
    spans = [(max(start, first), min(stop, last)) for start, stop in pairwise(ends)]
    return [(start, stop) for start, stop in spans if start < stop]


def _labels(store: EncodingStore, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns labels by name: `labels`, or `labels.<name>` for each of several."""
    labels = labels_at(store.labels, rows)
    if labels is None:
        return {}
    if isinstance(labels, dict):
        return {f"labels.{name}": values for name, values in labels.items()}
    return {"labels": labels}


def _arrays(store: EncodingStore, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Returns mean, standard deviation and the labels that are numbers."""
    rows = np.arange(len(store)) if rows is None else rows
    labels = {name: values for name, values in _labels(store, rows).items() if values.dtype.kind != "U"}
    return {"mean": store.mean, "std": store.std, **labels}


def _texts(store: EncodingStore, rows: np.ndarray | None = None) -> dict[str, Any]:
    """Returns what identifies the encoder, names of images and classes, and the labels that are texts."""
    rows = np.arange(len(store)) if rows is None else rows
    texts: dict[str, Any] = {"encoder": store.encoder, "level": store.level}
    if store.class_names is not None:
        texts["class_names"] = store.class_names
    if store.names is not None:
        texts["names"] = [store.names[row] for row in rows]
    return texts | {name: values.tolist() for name, values in _labels(store, rows).items() if values.dtype.kind == "U"}


def _description(store: EncodingStore, row: int) -> dict[str, Any]:
    """Returns the name and the labels of one image."""
    description = {name: values[0].tolist() for name, values in _labels(store, np.array([row])).items()}
    return description if store.names is None else {"name": store.names[row], **description}
