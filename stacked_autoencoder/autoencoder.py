"""The public face of the package: `Autoencoder`, whose methods call the functions of the layers below."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, overload

import keras
import numpy as np

from stacked_autoencoder.data.adapters import Images
from stacked_autoencoder.distribution import is_chief, of_chief
from stacked_autoencoder.inference import codec, evaluation
from stacked_autoencoder.inference.codec import Tile
from stacked_autoencoder.inference.encode_to_store import encode_to_store
from stacked_autoencoder.inference.evaluation import Budget
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.conv import ConvLevel
from stacked_autoencoder.levels.presets import preset_named
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.optimizers import LearningRate
from stacked_autoencoder.saving.export import export_models
from stacked_autoencoder.saving.load import load_stack
from stacked_autoencoder.saving.save import check_savable, save_stack
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.training import train as training
from stacked_autoencoder.training.callback_options import Callbacks
from stacked_autoencoder.training.distribute import in_scope
from stacked_autoencoder.training.fit import FitOptions
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.files import expanded, resolved
from stacked_autoencoder.utils.images import Shape


class Autoencoder:
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
            and costs is in `docs/how-to/choose-sizes.md`.
        save_path: folder that `save` writes to; by default `autoencoder_{size}_{n_out}_{n_scalings}`.
        load: whether to load the stack from `save_path` instead of making one.
        value_range: `(low, high)`, the lowest and the highest value that images may have, such as `(0, 65535)`,
            `(0, 1)` or `(-1000, 3000)`. Images of any integer or float dtype are scaled from it, and `decode` returns
            them in it. By default `uint8` images are scaled to [-1, 1], and floats must lie there.
        check_range: whether images must lie in that range; `False` takes floats and integers of any value, which are
            not scaled without a `value_range`.
        trusted: as in `load`.
        missing: what NaN and the masked values of a `numpy.ma` array are: `"error"` refuses them. `"ignore"` takes them
            for missing values, of which images, vectors and sequences may have any number. Level 0 sees in their place
            `levels[0].fill_values`, the mean of each channel or column over the values of the training data that are
            there, measured before the closed-form start; and they are left out of its loss, of `fine_tune`'s and of
            what `evaluate` gives. The levels above see complete encodings. `encoder0` and what `export` writes don't
            fill in anything. Infinite values are always refused.

    Attributes:
        stack: the levels as a `Stack`, which the functions of `training`, `inference` and `saving` take.

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
        value_range: tuple[float, float] | None = None,
        missing: Literal["error", "ignore"] = "error",
    ) -> None:
        network = {"size": 64 if size is None else size}
        if preset is not None:
            if size is not None:
                raise ValueError(f"Give `size` or `preset`, not both. Received: size={size!r}, preset={preset!r}")
            network = preset_named(preset)
        self._default_path = Path(f"autoencoder_{network['size']}_{n_out}_{n_scalings}")
        self._chosen_path = None if save_path is None else expanded(save_path)
        self._checks_path = save_path is not None  # before training: whether the stack can be saved there
        self._checked_path: Path | None = None
        if load:
            self.stack = load_stack(self._default_path if save_path is None else save_path, trusted)
            return
        self.stack = Stack(shape, check_range, value_range, missing)
        if levels is None:
            n_levels = positive_int("n_levels", n_levels)
            levels = [
                ConvLevel(n_out, n_scalings, latent_dim=latent_dim if index == n_levels - 1 else None, **network)
                for index in range(n_levels)
            ]
        if not levels:
            raise ValueError("`levels` must hold at least one level. Received: levels=[]")
        for level in levels:
            self.stack.add(level)

    # === The stack ===

    @property
    def levels(self) -> list[Level]:
        """List of `Level`, each with its `encoder` and `decoder`."""
        return self.stack.levels

    @property
    def shape(self) -> Shape:
        """Shape of one image, `(height, width, channels)`; `None` for a side that may differ."""
        return self.stack.shape

    @property
    def check_range(self) -> bool:
        """Whether images must lie in a range."""
        return self.stack.values.is_checked

    @property
    def missing(self) -> str:
        """What NaN in images is: `"error"`, or `"ignore"` for missing values."""
        return self.stack.missing

    @property
    def value_range(self) -> tuple[float, float]:
        """`(low, high)`, lowest and highest value of the images that the stack takes and that `decode` returns.

        The argument `value_range` if it was given; else that of the images that level 0 was trained on. Such a range
        can be assigned, (-1, 1) or (0, 1), where the training images showed only a part of it.
        """
        return self.stack.value_range

    @value_range.setter
    def value_range(self, value_range: tuple[float, float]) -> None:
        self.stack.values = self.stack.values.stated(value_range)

    @property
    def factor(self) -> int:
        """By how much the whole stack divides height and width."""
        return self.stack.factor

    @property
    def encoding_shape(self) -> Shape:
        """Shape of the deepest encoding, `None` where it follows the image's size."""
        return self.stack.encoding_shape

    @property
    def encoder(self) -> keras.Model:
        """All encoders as one Keras model: images, sides multiples of `factor` → the deepest encodings.

        It shares its weights with the levels, so a model stacked on it can fine-tune them.
        """
        return self.stack.encoder

    @property
    def decoder(self) -> keras.Model:
        """All decoders as one Keras model: the deepest encodings → images."""
        return self.stack.decoder

    def add(self, level: Level) -> None:
        """Puts one more level on top; `train(images, levels=[-1])` then trains it alone."""
        self.stack.add(level)

    def count_params(self) -> int:
        """Number of weights of all encoders and decoders."""
        return self.stack.count_params()

    def summary(self, print_fn: Callable[[str], None] = print) -> None:
        """Prints a line per level: what it sees, its encoding, its factor, values per image and how many times fewer
        these are than the image's, its weights."""
        self.stack.summary(print_fn)

    # === Training ===

    @in_scope
    def train(
        self,
        images: Images,
        epochs: int | Sequence[int] = 10,
        *,
        targets: Images | None = None,
        validation_data: Images | tuple[Images, Images] | None = None,
        levels: Sequence[int] | None = None,
        batch_size: int = 32,
        learning_rate: LearningRate = None,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        steps_per_epoch: int | None = None,
        callbacks: Callbacks = (),
        verbose: int | str = 1,
        cache_dir: str | os.PathLike[str] | None = None,
        memory_budget: int | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
    ) -> list[keras.callbacks.History]:
        """Trains level by level, each on the encodings of the one below, which are computed once.

        A level that has not been trained before starts as the best linear code of what it sees, in closed form; one
        that has goes on from where it is. Each level keeps its best weights, so on the validation data it is never
        worse than it was before.

        Args:
            images: array or tensor `(N, H, W, C)`; list of `(H, W, C)` arrays, sizes may differ; `tf.data.Dataset` or
                `keras.utils.PyDataset` of images or `(images, labels)`; path of a folder of pictures, or an
                `ImageFolder`; a data set or loader of Hugging Face, PyTorch, Grain, WebDataset, HDF5 or Zarr
                (`docs/how-to/images.md`). Values as in `value_range`; those of vectors and sequences may be any finite
                numbers. Rows of vectors may also be a DataFrame of pandas or polars, or a sparse matrix of scipy, which
                is made dense batch by batch. An `EncodingStore` that this stack wrote stands for the images behind it,
                for the levels above its own.
            epochs: passes over the data, one number or one per level; 0 sets the closed-form start and no more.
            targets: what each of `images` should be restored to, such as the clean picture of a noisy one: as many
                images of the same sizes, in the same order. Arrays, lists, stores and datasets go with each other, a
                folder with a folder whose pictures have the same names. A dataset, `PyDataset` or tuple whose second
                element has the images' shape gives pairs by itself. Levels above the first learn to turn the encodings
                of the ones into those of the others.
            validation_data: images that decide which weights are kept; without, a sample of `images` does. With
                `targets` a pair `(images, targets)`, or a dataset of pairs.
            levels: which levels to train, by index (`[-1]` for the last); all by default.
            batch_size: images per step, of all devices and workers together; batched datasets keep theirs on level 0.
            learning_rate: of Muon (arXiv:2502.16982), the peak of a warm-up and cosine decay, 0.01 by default; or a
                Keras schedule.
            optimizer: a Keras optimizer to use instead, with its own learning rate; every level gets one like it.
            steps_per_epoch: number of steps per epoch of level 0. Endless datasets need it; the levels above then
                train on the encodings of this number of batches.
            callbacks: one Keras callback or a list, used for every level; or a dict `{level: callbacks}`, whose keys
                may be negative; or a function of a level's index that returns its callbacks. What each of Keras's does
                for a stack, and what to use instead of those that are refused, is in `docs/how-to/train.md`.
            verbose: 0 silent, 1 progress bar, 2 one line per epoch.
            cache_dir: folder for encodings that don't fit into memory. Each encoder and each set of images has a folder
                of its own there. They stay until you delete them, and the next run with the same ones uses them again;
                by default they are temporary.
            memory_budget: bytes of one level's encodings that may be kept in memory; half of what is free by default.
            checkpoint_dir: folder for what is needed to go on, written after each epoch, and every five minutes within
                longer ones. The same call, in another process after a kill, then goes on from there, and ends with the
                weights and the histories that it would have had; but for a `tf.data.Dataset` that shuffles itself anew
                whenever it is read, whose order can't be known.

        A stack made in the scope of a `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy` trains on all
        its devices; all workers make the same call, with the same images (`docs/how-to/many-machines.md`).

        Returns:
            One Keras `History` per trained level, with the loss before the first step as `start_loss`.

        Raises:
            ValueError: images that the model isn't made for, or none at all; callbacks that can't work here; or
                `checkpoint_dir` is of another call.
            ImportError: a callback needs a package that isn't installed.
        """
        options = FitOptions.checked(batch_size, learning_rate, optimizer, steps_per_epoch, callbacks, verbose)
        self._check_save_path()
        return training.train(
            self.stack,
            images,
            epochs,
            options,
            targets=targets,
            validation_data=validation_data,
            levels=levels,
            cache_dir=cache_dir,
            memory_budget=memory_budget,
            checkpoint_dir=checkpoint_dir,
        )

    @in_scope
    def fine_tune(
        self,
        images: Images,
        epochs: int = 2,
        *,
        targets: Images | None = None,
        validation_data: Images | tuple[Images, Images] | None = None,
        batch_size: int = 32,
        learning_rate: LearningRate = None,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        steps_per_epoch: int | None = None,
        callbacks: Callbacks = (),
        verbose: int | str = 1,
        checkpoint_dir: str | os.PathLike[str] | None = None,
    ) -> keras.callbacks.History:
        """Trains all levels jointly on the image loss of the whole stack; keeps the best weights, as `train` does.

        The arguments are those of `train`, but for `callbacks`, which is one Keras callback or a list; the peak of the
        learning rate is a fifth of `train`'s by default. Encodings of the levels in between may drift from what they
        were, so encode again what you have kept. `checkpoint_dir` may be the one of `train`: the same two calls then go
        on wherever they were killed.

        Raises:
            ValueError: images that the model isn't made for, or a level that has never been trained; callbacks that
                can't work here; or `checkpoint_dir` is of another call.
            ImportError: a callback needs a package that isn't installed.
        """
        options = FitOptions.checked(batch_size, learning_rate, optimizer, steps_per_epoch, callbacks, verbose)
        self._check_save_path()
        return training.fine_tune(
            self.stack,
            images,
            epochs,
            options,
            targets=targets,
            validation_data=validation_data,
            checkpoint_dir=checkpoint_dir,
        )

    # === Encoding and decoding ===

    @overload
    def encode(self, images: np.ndarray, level: int | None = None, *, tile: Tile = "auto") -> np.ndarray: ...

    @overload
    def encode(
        self, images: Images, level: int | None = None, *, tile: Tile = "auto"
    ) -> np.ndarray | list[np.ndarray]: ...

    def encode(self, images: Images, level: int | None = None, *, tile: Tile = "auto") -> np.ndarray | list[np.ndarray]:
        """Encodes images.

        Args:
            images: as in `train`. Sides that the stack's factor doesn't divide are padded by reflection.
            level: index of the level; the last by default.
            tile: side in pixels of the tiles by which an image is encoded, within 1e-4 of what it would give whole, in
                the memory that a tile needs; `None` for whole images; `"auto"` takes images of more than four million
                pixels by tiles. An array may be memory-mapped (`np.load(…, mmap_mode="r")`), and isn't read whole then.

        Returns:
            `(N, *encoding_shape)`, float32; a list of encodings where the images' sizes differ.

        Raises:
            ValueError: images that the model isn't made for, or `tile` where the level ends in a vector.
        """
        return codec.encode(self.stack, images, level, tile)

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
                kept: those of `(images, labels)` with images of any kind (they replace labels that the images have),
                of a dataset of such tuples, or of an `ImageFolder` with labels. They are numbers, booleans or texts, up
                to 128 values per image; several by name are a dict or a tuple of arrays, or of values for each image.
            level: index of the level; the last by default.
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
                `encode_to` didn't write, an encoding is beyond float16's range, or labels aren't one per image.
            RuntimeError: another process is writing to the store.
            OSError: the disk is full. What has been written is kept, and the next call continues from it.
        """
        return encode_to_store(
            self.stack,
            path,
            source,
            level,
            shard_size=shard_size,
            dtype=dtype,
            workers=workers,
            shard=shard,
            verbose=verbose,
        )

    @overload
    def decode(self, encodings: np.ndarray, level: int | None = None, *, tile: Tile = "auto") -> np.ndarray: ...

    @overload
    def decode(
        self, encodings: list[np.ndarray], level: int | None = None, *, tile: Tile = "auto"
    ) -> np.ndarray | list[np.ndarray]: ...

    def decode(
        self, encodings: np.ndarray | list[np.ndarray], level: int | None = None, *, tile: Tile = "auto"
    ) -> np.ndarray | list[np.ndarray]:
        """Decodes encodings of a level to images.

        Args:
            encodings: `(N, *encoding_shape)` of that level, or a list of encodings of different sizes.
            level: index of the level they come from; the last by default.
            tile: as in `encode`, also in pixels of the image.

        Returns:
            `(N, H, W, C)` float32 in `value_range` (unclipped, so it may overshoot a little);
            cropped to the model's `shape` where that is fixed. A list where the sizes differ.
        """
        return codec.decode(self.stack, encodings, level, tile)

    @overload
    def reconstruct(self, images: np.ndarray, level: int | None = None) -> np.ndarray: ...

    @overload
    def reconstruct(self, images: Images, level: int | None = None) -> np.ndarray | list[np.ndarray]: ...

    def reconstruct(self, images: Images, level: int | None = None) -> np.ndarray | list[np.ndarray]:
        """Encodes images down to a level and decodes them again; the shapes are the images'.

        A stack that predicts gives each step as it is predicted from those before, but for the first, which is given.
        """
        return codec.reconstruct(self.stack, images, level)

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
        return codec.sample(self.stack, n, seed)

    @overload
    def evaluate(
        self, images: Images, *, targets: Images | None = None, return_dict: Literal[False] = False
    ) -> float: ...

    @overload
    def evaluate(self, images: Images, *, targets: Images | None = None, return_dict: Literal[True]) -> Budget: ...

    @overload
    def evaluate(self, images: Images, *, targets: Images | None = None, return_dict: bool) -> float | Budget: ...

    def evaluate(self, images: Images, *, targets: Images | None = None, return_dict: bool = False) -> float | Budget:
        """Mean squared error of the whole stack, averaged over values (not over batches).

        Errors are of images scaled as the levels see them: `uint8`, and images with a `value_range`, to [-1, 1].

        Args:
            images: as in `train`.
            targets: what the reconstructions are compared with, as in `train`; the images by default, or the second
                element of pairs.
            return_dict: whether to return the error budget instead: for each level by index, `loss` (its own input
                against its own output), `full_loss` (image against the image decoded from this level), `psnr` (dB) and
                `ssim` of the latter, `pca_loss` (the best linear code of so many values, fitted to the training data),
                `values` (numbers per image at this level) and `ratio` (input values per code value). Missing values are
                left out; `ssim` is the mean over images without any.
        """
        if return_dict:
            return evaluation.error_budget(self.stack, images, targets)
        return evaluation.mean_squared_error(self.stack, images, targets)

    # === On disk ===

    @property
    def save_path(self) -> Path:
        """Folder that `save` writes to. Assign one to change it; training then checks beforehand that it can."""
        return self._chosen_path or self._default_path

    @save_path.setter
    def save_path(self, path: str | os.PathLike[str]) -> None:
        self._chosen_path, self._checks_path, self._checked_path = expanded(path), True, None

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
        path = resolved(self.save_path if path is None else path, "path")
        if is_chief(self.levels[0].encoder.distribute_strategy):
            save_stack(self.stack, path, is_checked=path == self._checked_path)
        return path

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
        sae._checks_path = False  # it may be read from one place and saved to another
        return sae

    def export(self, path: str | os.PathLike[str], format: str = "onnx", level: int | None = None) -> list[Path]:
        """Writes the encoder and the decoder of the stack, down to a level, for runtimes without Keras.

        Args:
            path: folder for `encoder.onnx` and `decoder.onnx`, or `encoder.tflite` and `decoder.tflite`.
            format: `"onnx"`, which needs the extra `onnx`, or `"litert"` (formerly TensorFlow Lite).
            level: index of the level; the last by default.

        Returns:
            Paths of the two files. Their inputs, `images` and `encodings`, are those of `encoder` and `decoder`:
            float32 in the range of the training images, sides multiples of `factor`, any number at once.
        """
        index = self.stack.index_of(level)
        models = {"encoder": self.stack.encoder_to(index), "decoder": self.stack.decoder_from(index)}
        return export_models(models, path, format)

    def _check_save_path(self) -> None:
        """Finds out before training whether the stack can be saved where it is to be."""
        if not self._checks_path:
            return
        of_chief(lambda: check_savable(self._chosen_path, self.stack))  # it alone writes
        self._checked_path = resolved(self._chosen_path, "save_path")
