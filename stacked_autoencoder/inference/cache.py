"""Storage for the encodings that the next level trains on: in memory if they fit, otherwise on disk."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from stacked_autoencoder.data.array import ArraySource
from stacked_autoencoder.data.joined_pairs import ArrayPairs, StorePairs, doubled
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.distribution import of_chief
from stacked_autoencoder.inference.encode_to_store import StaleStore, made_by, write_alone, write_store
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.store.manifest import ForeignFiles
from stacked_autoencoder.store.writer import CannotWrite, delete_store, look_into
from stacked_autoencoder.utils.files import only_writer
from stacked_autoencoder.utils.images import Shape, fitting, gather
from stacked_autoencoder.utils.memory import available_memory
from stacked_autoencoder.utils.temporary import TemporaryFolder
from stacked_autoencoder.utils.value_range import UNLIMITED

DTYPE = "float16"  # the rounding error is a ten-millionth of the variance


class EncodingCache:
    """A context manager that keeps encodings, in a temporary folder or in one of the user's.

    Each pair of encoder and source has a separate store, `level{i}-{name}-{key}`, which later calls reuse. The store is
    locked while this cache is in use; another process that trains at the same time uses `level{i}-{name}-{key}-1`, and
    so on. A store whose images have changed is replaced. Stores of other encoders and sources remain until the user
    deletes them. Files that this library didn't write are never changed.

    Args:
        folder: folder of the stores; `None` for a temporary folder, which is always deleted in the end.
        budget: most bytes of encodings to keep in memory; by default half of the free memory.
    """

    def __init__(self, folder: Path | None, budget: int | None) -> None:
        self.folder = folder
        self.budget = of_chief(lambda: available_memory() // 2) if budget is None else budget
        self.temporary: TemporaryFolder | None = None
        self.locks = ExitStack()  # of the user's folders in use

    def __enter__(self) -> EncodingCache:
        return self

    def __exit__(self, *_: Any) -> None:
        self.locks.close()
        if self.temporary is not None:
            self.temporary.close()

    def encoded(self, stack: Stack, level: int, source: Source, images: Shape, name: str, verbose: int) -> Source:
        """Returns the encodings of one level.

        Args:
            stack: the stack.
            level: index of the level.
            source: inputs of the level. For pairs, inputs and targets are both encoded.
            images: shape of the images that level 0 receives.
            name: name of this set of images.
            verbose: whether to print progress when encodings are written to disk.
        """
        count, shape = source.count(), stack.shape_at(level, images)
        known = count is not None and None not in shape
        of_arrays, of_store, encoding_shape = ArraySource, StoreSource, stack.levels[level].encoding_shape
        if source.parts == 2:
            of_arrays, of_store, encoding_shape = ArrayPairs, StorePairs, doubled(encoding_shape)
        if not known or count * int(np.prod(shape)) * source.parts * 4 <= self.budget:
            encodings = self._in_memory(stack.levels[level], source, count if known else None)
            if encodings is not None:
                return of_arrays(encodings, encoding_shape, values=UNLIMITED)
        store = self._on_disk(stack, level, source, images, name, verbose)
        return of_store(store, encoding_shape)

    def _in_memory(self, level: Level, source: Source, count: int | None) -> np.ndarray | list[np.ndarray] | None:
        """Returns all encodings, or `None` if they exceed the budget.

        Args:
            level: the level.
            source: its inputs.
            count: number of images, if it is known that their encodings fit.
        """
        encoded = (_encoded(level, batch, source.parts) for batch in source.batches(fitting(BATCH, source.shape)))
        if count is not None:
            return gather(encoded, count)
        encodings, taken = [], 0
        for batch in encoded:
            encodings.append(batch)
            taken += batch.nbytes
            if taken > self.budget:
                return None
        return gather(encodings)

    def _on_disk(
        self, stack: Stack, level: int, source: Source, images: Shape, name: str, verbose: int
    ) -> EncodingStore:
        made, levels = made_by(stack, level, images, DTYPE, parts=source.parts), [stack.levels[level]]
        write = partial(self._written, source, levels, made, f"level{level}-{name}", verbose)
        return EncodingStore(write() if self.folder is None else of_chief(write))

    def _written(self, source: Source, levels: list[Level], made: dict[str, Any], name: str, verbose: int) -> Path:
        """Writes the store with these encodings, if necessary, and returns its folder."""
        if self.folder is None and self.temporary is None:
            self.temporary = TemporaryFolder()
        try:
            if self.folder is None:
                folder = self.temporary.path / name
                return write_store(folder, source, levels, made, keep_labels=False, verbose=verbose)
            return self._in_user_folder(source, levels, made, f"{name}-{_key(source, made)}", verbose)
        except CannotWrite as error:
            raise self._disk_full_error(error, source, made) from error

    def _in_user_folder(
        self, source: Source, levels: list[Level], made: dict[str, Any], name: str, verbose: int
    ) -> Path:
        """Writes the store to the user's folder and locks it until this cache is closed.

        Folders that another process has locked, or that contain anything else, are skipped.
        """
        for number in count():
            folder = self.folder / (f"{name}-{number}" if number else name)
            with ExitStack() as lock:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    lock.enter_context(only_writer(folder))
                    look_into(folder)
                except (FileExistsError, NotADirectoryError, RuntimeError, ValueError):
                    if not self.folder.is_dir():
                        raise
                    continue
                write = partial(write_alone, folder, source, levels, made, keep_labels=False, verbose=verbose)
                try:
                    try:
                        write()
                    except StaleStore:
                        delete_store(folder)
                        write()
                except ForeignFiles:
                    continue
                self.locks.enter_context(lock.pop_all())
                return folder
        raise AssertionError("unreachable: `count` is infinite")

    def _disk_full_error(self, error: CannotWrite, source: Source, made: dict[str, Any]) -> OSError:
        """Returns the error for encodings that don't fit on the disk."""
        count = source.count()
        if count is not None and None not in made["shape"]:
            size = count * int(np.prod(made["shape"])) * np.dtype(made["dtype"]).itemsize
            needed = f"They need {size:,} bytes"
        else:
            needed = f"One file of them needs {error.size:,} bytes"
        if self.folder is None:
            path, alternative = (
                self.temporary.path,
                "set `cache_dir` (or the variable TMPDIR) to a larger disk",
            )
            target = "the temporary folder, which is used without `cache_dir`"
        else:
            path, alternative = self.folder, "choose a `cache_dir` on a larger disk"
            target = "`cache_dir`"
        reason = str(error.strerror).split(":")[0]
        return OSError(
            error.errno,
            f"{reason}: could not write the encodings of level {made['level']} to {target}. {needed}. Free disk space, "
            f"{alternative}, or pass a larger `memory_budget` to keep them in memory",
            str(path),
        )


def _encoded(level: Level, batch: np.ndarray, parts: int) -> np.ndarray:
    """Returns the encodings of a batch in which `parts` images are joined along the last axis."""
    if parts == 1:
        return level.encode(batch)
    return np.concatenate([level.encode(part) for part in np.split(batch, parts, axis=-1)], axis=-1)


def _key(source: Source, made: dict[str, Any]) -> str:
    """Returns a hash that identifies the encoder and the source."""
    identity = [made, source.describe(), source.digest()]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
