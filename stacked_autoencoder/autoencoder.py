"""The stack: a list of levels, trained greedily, each on the encodings of the one before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stacked_autoencoder import exports, loading, restoring, saving
from stacked_autoencoder.arguments import positive_int
from stacked_autoencoder.errors import LoadError, printable
from stacked_autoencoder.level import Level, Shape
from stacked_autoencoder.levels.conv import ConvLevel
from stacked_autoencoder.levels.presets import preset_named
from stacked_autoencoder.sources.base import widened
from stacked_autoencoder.trainer import Trainer
from stacked_autoencoder.workers import is_chief

MOST_ATTEMPTS = 20  # to load a stack while other processes save to its folder


class Autoencoder(Trainer):
    """Turns images into much smaller, image-shaped encodings and back, by a stack of levels.

    ```
    images ──level 0──▶ encodings ──level 1──▶ smaller encodings … ──▶ a vector, if asked for
    ```

    Level 0 sees images, level `k` the encodings of level `k - 1`. Every level starts as principal component analysis
    and is trained from there, one after the other, so that what is trained above costs a fraction of what is below.

    Args:
        size: width of the network, in filters per convolution (not the images' size: that is `shape`); 64 by default.
        n_out: features per pixel of each encoding.
        n_scalings: halvings of height and width per level.
        n_levels: number of levels.
        latent_dim: ends the last level in a vector of so many values.
        shape: of the images, `(height, width, channels)`; `None` for a side that may differ. Sequences have
            `(timesteps, features)`, vectors `(features,)`; their values need only be finite.
        levels: the levels themselves, instead of `size`, `n_out`, `n_scalings`, `n_levels` and `latent_dim`.
        preset: `"fast"`, `"balanced"` or `"best"`: width and depth of the networks, instead of `size`; what each loses
            and costs is in `docs/sizes.md`.
        save_path: folder that `save` writes to; by default `autoencoder_{size}_{n_out}_{n_scalings}`.
        load: whether to load the stack from `save_path` instead of making one.
        check_range: whether float images must lie in [-1, 1]; `False` for data that isn't pixels.
        trusted: as in `load`.

    Attributes:
        levels: list of `Level`, each with its `encoder` and `decoder`.
        value_range: `(low, high)` of the images it was trained on.

    Raises:
        ValueError: arguments that don't fit together. The message says which, and what to do.

    Example:
        >>> sae = Autoencoder(size=64, n_out=32, n_scalings=2, n_levels=2)
        >>> sae.train(images, epochs=10)                    # images: (N, H, W, 3), uint8
        >>> encodings = sae.encode(images)                  # (N, H / 16, W / 16, 32)
    """

    def __init__(
        self,
        size: int | None = None,
        n_out: int = 32,
        n_scalings: int = 2,
        n_levels: int = 1,
        latent_dim: int | None = None,
        shape: Shape = (None, None, 3),
        levels: Sequence[Level] | None = None,
        save_path: str | os.PathLike[str] | None = None,
        load: bool = False,
        check_range: bool = True,
        trusted: bool = False,
        preset: str | None = None,
    ) -> None:
        network = {"size": 64 if size is None else size}
        if preset is not None:
            if size is not None:
                raise ValueError(f"Give `size` or `preset`, not both. Received: size={size!r}, preset={preset!r}")
            network = preset_named(preset)
        self.chosen_path = None if save_path is None else Path(save_path)
        self.is_path_chosen = save_path is not None
        self.checked_path: Path | None = None
        self.default_path = Path(f"autoencoder_{network['size']}_{n_out}_{n_scalings}")
        if load:
            self._restore(self.default_path if save_path is None else save_path, trusted)
            return
        super().__init__(shape, check_range)
        if levels is None:
            positive_int("n_levels", n_levels)
            levels = [
                ConvLevel(n_out, n_scalings, latent_dim=latent_dim if index == n_levels - 1 else None, **network)
                for index in range(n_levels)
            ]
        if not levels:
            raise ValueError("`levels` must hold at least one level. Received: levels=[]")
        for level in levels:
            self.add(level)

    @property
    def save_path(self) -> Path:
        return self.chosen_path or self.default_path

    # === On disk ===

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Writes `encoder<i>/`, `decoder<i>/` and `autoencoder.json`, all or nothing; returns the folder.

        Of several workers that train together, only the chief writes; the others don't wait for it.

        Args:
            path: folder; `save_path` by default. A stack that is there already is replaced when the new one is whole.
                Other files in its folder stay as they are. A folder that holds other files and no stack is refused.

        Raises:
            OSError: the folder can't be written, or it holds files that `save` didn't write and would replace. What was
                there is untouched.
        """
        path = saving.resolved(self.save_path if path is None else path, "path")
        if not is_chief(self.levels[0].encoder.distribute_strategy):
            return path
        state = {
            "shape": self.shape,
            "check_range": self.check_range,
            "value_range": self.value_range,
            "levels": [level.get_state() for level in self.levels],
        }
        models = {
            f"{name}{index}": model for index, level in enumerate(self.levels) for name, model in level.models().items()
        }
        codes = {f"linear{index}": level.linear_code for index, level in enumerate(self.levels)}
        arrays = {name: vars(code) for name, code in codes.items() if code is not None}
        for index, level in enumerate(self.levels):
            weights = level.get_training_weights()
            if weights:
                arrays[f"training{index}"] = {f"weight{number}": weight for number, weight in enumerate(weights)}
        return saving.write(path, state, models, arrays, is_checked=path == self.checked_path)

    def export(self, path: str | os.PathLike[str], format: str = "onnx", level: int | None = None) -> list[Path]:
        """Writes the encoder and the decoder of the stack, down to a level, for runtimes without Keras.

        Args:
            path: folder for `encoder.onnx` and `decoder.onnx`, or `encoder.tflite` and `decoder.tflite`.
            format: `"onnx"`, which needs the extra `onnx`, or `"litert"` (formerly TensorFlow Lite).
            level: how deep, an index; the deepest by default.

        Returns:
            Paths of the two files. Their inputs, `images` and `encodings`, are those of `encoder` and `decoder`:
            float32 in the range of the training images, sides multiples of `factor`, any number at once.
        """
        depth = self.depth_of(level)
        models = {"encoder": self.encoder_to(depth), "decoder": self.decoder_from(depth)}
        return exports.export(models, path, format)

    @classmethod
    def load(cls, path: str | os.PathLike[str], trusted: bool = False) -> Autoencoder:
        """Reads what `save` wrote, ready for `encode` and for more training.

        Nothing in the folder is run, and nothing is written, so that it may lie on a read-only file system.

        Args:
            path: folder that `save` wrote.
            trusted: whether losses, penalties and corruption may be others than Keras's and this package's: your own,
                registered with `@keras.saving.register_keras_serializable()`. Files may then be larger than 4 GiB in
                sum, too.

        Raises:
            FileNotFoundError: nothing is there, or a level's part is missing.
            LoadError: a `ValueError`; the folder isn't a stack, or its files aren't those that were saved.
        """
        sae = cls(save_path=path, load=True, trusted=trusted)
        sae.is_path_chosen = False  # it may be read from one place and saved to another
        return sae

    def _restore(self, path: str | os.PathLike[str], trusted: bool) -> None:
        path = loading.folder_at(path)
        for attempt in range(1, MOST_ATTEMPTS + 1):
            before = loading.snapshot(path)
            try:
                self._read(path, trusted)
            except (LoadError, FileNotFoundError):
                # The error is final unless another process saved, or moved files to their places, during the read.
                if attempt == MOST_ATTEMPTS or loading.snapshot(path) == before:
                    raise
            else:
                if loading.snapshot(path).manifest == before.manifest:
                    return
        raise LoadError(
            "Other processes saved to this folder during each attempt to load it. Load it when they have finished. "
            f"Received: {printable(repr(str(path)))}"
        )

    def _read(self, path: Path, trusted: bool) -> None:
        saved = loading.read(path, trusted=trusted)
        manifest = saved.manifest
        try:
            super().__init__(tuple(manifest["shape"]), manifest["check_range"])
        except ValueError as error:
            raise LoadError(f"{error} Received: {str(path)!r}") from None
        self.value_range = widened(*manifest["value_range"])
        restoring.fill(self, saved, trusted)
