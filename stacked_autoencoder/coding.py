"""A stack at work: images to encodings and back, in memory or to disk, and what is lost on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from stacked_autoencoder import budget
from stacked_autoencoder.arguments import positive_int
from stacked_autoencoder.checks import check_encodings, described
from stacked_autoencoder.encodings import EncodingStore
from stacked_autoencoder.forks import check_not_forked
from stacked_autoencoder.images import Images, as_source
from stacked_autoencoder.level import Shape
from stacked_autoencoder.manifest import DTYPES
from stacked_autoencoder.seeds import rng_of
from stacked_autoencoder.sources.base import Source, cropped, scaled
from stacked_autoencoder.sources.blocks import fitting
from stacked_autoencoder.stack import BATCH, Stack, gather, times
from stacked_autoencoder.store_writer import made_by, write_store
from stacked_autoencoder.tiling import decode_tiles, default_side, encode_tiles, tiler

Tile = int | Literal["auto"] | None


class Coder(Stack):
    """A stack that takes images as users have them.

    Args:
        shape: of one image, `(height, width, channels)`; `None` for a side that may differ. Sequences have
            `(timesteps, features)`, vectors `(features,)`.
        check_range: whether float images must lie in [-1, 1].
    """

    def __init__(self, shape: Shape, check_range: bool) -> None:
        super().__init__(shape)
        self.check_range = check_range and len(shape) == 3  # other data aren't pixels

    def evaluate(self, images: Images, *, return_dict: bool = False) -> float | budget.Budget:
        """Mean squared error of the whole stack in image units, averaged over values (not over batches).

        Args:
            images: as in `train`.
            return_dict: whether to return the error budget instead: for each level by index, `loss` (its own input
                against its own output), `full_loss` (image against the image decoded from this depth), `psnr` (dB) and
                `ssim` of the latter, `pca_loss` (the best linear code of so many values, fitted to the training data),
                `values` (numbers per image at this depth) and `ratio` (input values per code value).
        """
        source = self.finite_source_of(images)
        if return_dict:
            return budget.error_budget(self.levels, source.in_order(BATCH), self.pad, self.value_range)
        loss = budget.Mean()
        for batch in source.in_order(BATCH):
            restored = self._there_and_back(self.levels[0].seen(batch), len(self.levels) - 1)
            loss.add(*budget.squared_error(*budget.counted(self.levels[0], batch, restored)))
        return loss.value

    def encode(self, images: Images, level: int | None = None, *, tile: Tile = "auto") -> np.ndarray | list[np.ndarray]:
        """Encodes images.

        Args:
            images: as in `train`. Sides that the stack's factor doesn't divide are padded by reflection.
            level: how deep, an index; the deepest by default.
            tile: side in pixels of the tiles by which an image is encoded, within 1e-4 of what it would give whole, in
                the memory that a tile needs; `None` for whole images; `"auto"` takes images of more than four million
                pixels by tiles. An array may be memory-mapped (`np.load(…, mmap_mode="r")`), and isn't read whole then.

        Returns:
            `(N, *encoding_shape)`, float32; a list of encodings where the images' sizes differ.

        Raises:
            ValueError: images that the model isn't made for, or `tile` where the level ends in a vector.
        """
        depth = self.depth_of(level)
        return self._of_each(images, lambda batch: self._encoded(batch, depth, tile))

    def encode_to(
        self,
        path: str | os.PathLike[str],
        source: Images,
        level: int | None = None,
        *,
        shard_size: int | None = None,
        dtype: str = "float16",
        workers: int | None = None,
        shard: tuple[int, int] | None = None,
        verbose: int = 1,
    ) -> EncodingStore:
        """Encodes images to disk, in constant memory; called again after an interruption, it goes on where it was.

        What is there and whole isn't encoded again, so a finished store costs only the look at the source.

        Args:
            path: folder of the store: a new or empty one, or that of an unfinished or finished store.
            source: images as in `train`, in an order that stays the same; large ones are encoded by tiles. Labels are
                kept, of `(images, labels)`, a dataset of such tuples, or an `ImageFolder` with labels.
            level: how deep, an index; the deepest by default.
            shard_size: encodings per file; by default as many as take 32 MB, 1,024 at most.
            dtype: `float16`, which rounds by a two-thousandth, or `float32`.
            workers: pictures of a folder that are decoded at the same time; by default as many as pay.
            shard: `(i, n)` encodes the i-th of n parts into a folder of its own below `path`, so that n processes or
                machines share the work without knowing of each other. `EncodingStore(path)` then reads all of them.
            verbose: whether to show images per second and the time left.

        Returns:
            The `EncodingStore`; of the part, if one was asked for.

        Raises:
            ValueError: the store there was made by another encoder or from other images, the folder holds files that
                `encode_to` didn't write, or an encoding is beyond float16's range.
            RuntimeError: another process is writing to the store.
            OSError: the disk is full. What has been written stays and is gone on from.
        """
        depth = self.depth_of(level)
        if dtype not in DTYPES:
            raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}. Received: dtype={dtype!r}")
        if shard_size is not None:
            positive_int("shard_size", shard_size)
        if shard is not None and not 0 <= shard[0] < shard[1]:
            raise ValueError(f"`shard=(i, n)` is the i-th of n parts, 0 <= i < n. Received: shard={shard!r}")
        images = self.finite_source_of(source)
        images.workers = None if workers is None else positive_int("workers", workers)
        folder = write_store(
            Path(path),
            images,
            [lower.encoder for lower in self.levels[: depth + 1]],
            made_by(self, depth, images.shape, dtype, shard_size),
            part=shard,
            verbose=verbose,
        )
        return EncodingStore(folder)

    def decode(
        self, encodings: np.ndarray | list[np.ndarray], level: int | None = None, *, tile: Tile = "auto"
    ) -> np.ndarray | list[np.ndarray]:
        """Decodes encodings of a level to images.

        Args:
            encodings: `(N, *encoding_shape)` of that level, or a list of encodings of different sizes.
            level: the depth they come from, an index; the deepest by default.
            tile: as in `encode`, also in pixels of the image.

        Returns:
            `(N, H, W, C)` float32 in the range of the training images (unclipped, so it may overshoot a little);
            cropped to the model's `shape` where that is fixed. A list where the sizes differ.
        """
        check_not_forked()
        depth = self.depth_of(level)
        if isinstance(encodings, list):
            batches, count = [np.asarray(encoding, np.float32)[None] for encoding in encodings], None
        else:
            array = np.asarray(encodings, np.float32)
            step = fitting(BATCH, (*times(array.shape[1:-1], self.factor_at(depth)), array.shape[-1]))
            count = len(array)
            batches = [array[start : start + step] for start in range(0, max(1, count), step)]
        shapes = [other.encoding_shape for other in self.levels]
        for batch in batches:
            check_encodings(batch.shape, shapes, depth)
        return gather((cropped(self._decoded(batch, depth, tile), self.shape) for batch in batches), count)

    def reconstruct(self, images: Images, level: int | None = None) -> np.ndarray | list[np.ndarray]:
        """Encodes images down to a level and decodes them again; the shapes are the images'.

        A stack that predicts gives each step as it is predicted from those before, but for the first, which is given.
        """
        depth = self.depth_of(level)
        return self._of_each(images, lambda batch: self._there_and_back(self.levels[0].seen(batch), depth))

    def sample(self, n: int, seed: int | None = None) -> np.ndarray:
        """Decodes draws from the standard normal, from which the deepest level's encodings are drawn in training.

        Args:
            n: how many images.
            seed: of the draws; numpy's by default.

        Returns:
            `(n, *shape)`, as `decode` gives.

        Raises:
            ValueError: the deepest level isn't variational, or its encodings have no size of their own.
        """
        level = self.levels[-1]
        if level.posterior is None:
            raise ValueError(
                "`sample` decodes draws from the distribution that a variational level gives its encodings, and the "
                f"deepest level isn't one: make it with `kl_weight=1.0`. Received: {level!r}"
            )
        if None in level.encoding_shape:
            raise ValueError(
                "`sample` needs to know how large images are: give the Autoencoder `shape=(height, width, channels)`. "
                f"Received: encodings of shape {level.encoding_shape}"
            )
        shape = (positive_int("n", n), *level.encoding_shape)
        return self.decode(rng_of(seed).standard_normal(shape, dtype=np.float32))

    # === One batch ===

    def _of_each(self, images: Images, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | list[np.ndarray]:
        """What is made of every batch of images as they are, gathered."""
        source = self.finite_source_of(images)
        return gather(map(make, source.in_order(BATCH, scale=False)), source.count_of_one_shape())

    def _encoded(self, images: np.ndarray, depth: int, tile: Tile) -> np.ndarray:
        """Images as they are → encodings."""
        side = self._tile_side(tile, images.shape[1:-1], depth)
        levels = self.levels[: depth + 1]
        if side is not None:
            tiles = tiler(tuple(level.encoder for level in levels))
            return _batch([encode_tiles(tiles, image, self.factor, side) for image in images])
        values = self.pad(scaled(images).numpy())
        for level in levels:
            values = level.encode(values)
        return values

    def _decoded(self, encodings: np.ndarray, depth: int, tile: Tile) -> np.ndarray:
        side = self._tile_side(tile, times(encodings.shape[1:-1], self.factor_at(depth)), depth)
        levels = self.levels[depth::-1]
        if side is not None:
            tiles = tiler(tuple(level.decoder for level in levels))
            return _batch([decode_tiles(tiles, encoding, side) for encoding in encodings])
        for level in levels:
            encodings = level.decode(encodings)
        return encodings

    def _there_and_back(self, images: np.ndarray, depth: int) -> np.ndarray:
        """Images as they are → their reconstructions; padded on the way, so the shape stays."""
        return cropped(self._decoded(self._encoded(images, depth, "auto"), depth, "auto"), images.shape[1:])

    def _tile_side(self, tile: Tile, size: Shape, depth: int) -> int | None:
        """Side of the tiles of an image of this size, `None` to take it whole."""
        is_image = self.levels[depth].is_image
        if tile == "auto":
            return default_side(size) if is_image else None
        if tile is None:
            return None
        if isinstance(tile, str):
            raise ValueError(f'`tile` is a side in pixels, `None` for whole images, or "auto". Received: tile={tile!r}')
        if not is_image:
            raise ValueError(
                f"Level {depth} encodes as {described(self.levels[depth].encoding_shape)}, each value of which depends "
                "on the whole image, so that there are no tiles: leave `tile` out, or name a level above it. "
                f"Received: tile={tile!r}"
            )
        return positive_int("tile", tile)

    def source_of(self, images: Images) -> Source:
        """Whatever a user passes in, checked against what this stack sees."""
        check_not_forked()
        return as_source(images, self.shape, factor=self.factor, check_range=self.check_range)

    def finite_source_of(self, images: Images, name: str = "images") -> Source:
        """The same, of images that come to an end."""
        source = self.source_of(images)
        if source.is_endless:
            raise ValueError(f"`{name}` is a dataset without end; give it one with `.take(number)`.")
        return source


def _batch(singles: list[np.ndarray]) -> np.ndarray:
    return singles[0][None] if len(singles) == 1 else np.stack(singles)  # a large one isn't copied
