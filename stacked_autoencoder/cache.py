"""Where the encodings of a level are kept while the next one trains: in memory if they fit, else in a store on disk."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stacked_autoencoder.encodings import EncodingStore
from stacked_autoencoder.level import Level
from stacked_autoencoder.sources.base import Source
from stacked_autoencoder.sources.blocks import Shape, fitting
from stacked_autoencoder.sources.memory import ArraySource
from stacked_autoencoder.sources.store import StoreSource
from stacked_autoencoder.stack import BATCH, Stack, gather
from stacked_autoencoder.store_writer import StaleStore, made_by, write_store
from stacked_autoencoder.workers import of_chief

DTYPE = "float16"  # of a store; what it rounds is a ten-millionth of the variance


class EncodingCache:
    """Keeps encodings until it is left; a folder of the user's keeps them longer.

    Args:
        folder: for stores, one below it for each level and each set of images; those that match are used again, stale
            ones are replaced. `None` for a temporary one.
        budget: bytes of encodings to keep in memory at most; half of what is free by default.
    """

    def __init__(self, folder: Path | None, budget: int | None) -> None:
        self.folder = folder
        self.budget = of_chief(lambda: available_memory() // 2) if budget is None else budget
        self.temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> EncodingCache:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.temporary is not None:
            self.temporary.cleanup()

    def encoded(self, stack: Stack, depth: int, source: Source, images: Shape, name: str, verbose: int) -> Source:
        """The encodings of one level.

        Args:
            source: what the level sees.
            images: shape of the images that level 0 sees.
            name: of this set of images.
        """
        count, shape = source.count(), stack.shape_at(depth, images)
        known = count is not None and None not in shape
        if not known or count * int(np.prod(shape)) * 4 <= self.budget:
            encodings = self._in_memory(stack.levels[depth], source, count if known else None)
            if encodings is not None:
                return ArraySource(encodings, stack.levels[depth].encoding_shape, check_range=False)
        store = self._on_disk(stack, depth, source, images, name, verbose)
        return StoreSource(store, stack.levels[depth].encoding_shape)

    def _in_memory(self, level: Level, source: Source, count: int | None) -> np.ndarray | list[np.ndarray] | None:
        """All encodings, or `None` if they turn out to be too many.

        Args:
            count: of those that fit, if it is known.
        """
        encoded = (level.encode(batch) for batch in source.batches(fitting(BATCH, source.shape)))
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
        self, stack: Stack, depth: int, source: Source, images: Shape, name: str, verbose: int
    ) -> EncodingStore:
        if self.folder is None and self.temporary is None:
            self.temporary = tempfile.TemporaryDirectory(prefix="stacked_autoencoder-")
        folder = (self.folder or Path(self.temporary.name)) / f"level{depth}-{name}"
        made = made_by(stack, depth, images, DTYPE)
        write = partial(write_store, folder, source, [stack.levels[depth].encoder], made, verbose=verbose)

        def write_anew() -> None:
            try:
                write()
            except StaleStore:
                shutil.rmtree(folder)
                write()

        if self.folder is None:
            write_anew()
        else:
            of_chief(write_anew)
        return EncodingStore(folder)


def available_memory() -> int:
    """Bytes that this process may still take: what is free on the machine, within the limits of a container."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    known = _read(Path("/proc/meminfo"), r"MemAvailable:\s+(\d+) kB")
    if known is not None:
        free = known * 1024
    most, used = (_read(Path("/sys/fs/cgroup") / name, r"(\d+)\s*$") for name in ("memory.max", "memory.current"))
    return free if most is None or used is None else max(0, min(free, most - used))


def _read(file: Path, pattern: str) -> int | None:
    found = re.search(pattern, file.read_text()) if file.is_file() else None
    return int(found[1]) if found else None
