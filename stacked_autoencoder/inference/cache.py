"""Where the encodings of a level are kept while the next one trains: in memory if they fit, else in a store on disk."""

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

DTYPE = "float16"  # of a store; what it rounds is a ten-millionth of the variance


class EncodingCache:
    """Keeps encodings until it is left; a folder of the user's keeps them longer.

    Each encoder and source has a store of its own below the folder, `level{i}-{name}-{key}`, which a later training
    with the same ones uses again. No other process changes it while this cache is in use: a training at the same time
    takes `level{i}-{name}-{key}-1`, and so on. A store whose images have changed is replaced. Stores of other encoders
    and sources stay until you delete them. Files that this library didn't write are never touched.

    Args:
        folder: for stores. `None` for a temporary one, which is deleted however this process ends.
        budget: bytes of encodings to keep in memory at most; half of what is free by default.
    """

    def __init__(self, folder: Path | None, budget: int | None) -> None:
        self.folder = folder
        self.budget = of_chief(lambda: available_memory() // 2) if budget is None else budget
        self.temporary: TemporaryFolder | None = None
        self.held = ExitStack()  # of folders of the user's that this process alone may change

    def __enter__(self) -> EncodingCache:
        return self

    def __exit__(self, *_: Any) -> None:
        self.held.close()
        if self.temporary is not None:
            self.temporary.close()

    def encoded(self, stack: Stack, level: int, source: Source, images: Shape, name: str, verbose: int) -> Source:
        """The encodings of one level.

        Args:
            source: what the level sees; of pairs, inputs and targets are encoded alike.
            images: shape of the images that level 0 sees.
            name: of this set of images.
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
        """All encodings, or `None` if they turn out to be too many.

        Args:
            count: of those that fit, if it is known.
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
        """The folder of the store with these encodings."""
        if self.folder is None and self.temporary is None:
            self.temporary = TemporaryFolder()
        try:
            if self.folder is None:
                folder = self.temporary.path / name
                return write_store(folder, source, levels, made, keep_labels=False, verbose=verbose)
            return self._kept(source, levels, made, f"{name}-{_key(source, made)}", verbose)
        except CannotWrite as error:
            raise self._without_room(error, source, made) from error

    def _kept(self, source: Source, levels: list[Level], made: dict[str, Any], name: str, verbose: int) -> Path:
        """A folder of the user's with these encodings, which no other process changes until this cache is left.

        Folders that another process has, or that hold anything else, are passed over.
        """
        for number in count():
            folder = self.folder / (f"{name}-{number}" if number else name)
            with ExitStack() as held:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    held.enter_context(only_writer(folder))
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
                self.held.enter_context(held.pop_all())
                return folder
        raise AssertionError("counting has no end")

    def _without_room(self, error: CannotWrite, source: Source, made: dict[str, Any]) -> OSError:
        """What to do where the encodings of a level don't fit on the disk."""
        count = source.count()
        if count is not None and None not in made["shape"]:
            size = count * int(np.prod(made["shape"])) * np.dtype(made["dtype"]).itemsize
            needed = f"They take {size:,} bytes"
        else:
            needed = f"One file of them takes {error.size:,} bytes"
        if self.folder is None:
            where, more = self.temporary.path, "set `cache_dir` (or the environment variable TMPDIR) to a larger disk"
            what = "the temporary folder, since `cache_dir` isn't given"
        else:
            where, more = self.folder, "choose a `cache_dir` on a larger disk"
            what = "`cache_dir`"
        reason = str(error.strerror).split(":")[0]
        return OSError(
            error.errno,
            f"{reason}: the encodings of level {made['level']} can't be written to {what}. {needed}. Make room there, "
            f"{more}, or give a `memory_budget` that keeps them in memory",
            str(where),
        )


def _encoded(level: Level, batch: np.ndarray, parts: int) -> np.ndarray:
    """Encodings of a batch whose last axis holds this number of images, each encoded alone."""
    if parts == 1:
        return level.encode(batch)
    return np.concatenate([level.encode(part) for part in np.split(batch, parts, axis=-1)], axis=-1)


def _key(source: Source, made: dict[str, Any]) -> str:
    """What tells the encodings of one encoder and source from others."""
    known = [made, source.describe(), source.digest()]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
