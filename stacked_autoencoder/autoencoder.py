"""The class `Autoencoder`, whose methods call the functions of the other packages."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from html import escape
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
from stacked_autoencoder.levels.defaults import default_levels
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
from stacked_autoencoder.utils.checks import positive_int, positive_ints
from stacked_autoencoder.utils.files import expanded, resolved
from stacked_autoencoder.utils.images import Shape


class Autoencoder:
    """A stack of levels that compresses images to small, image-shaped encodings and reconstructs them.

    ```
    images ─level 0─▶ encodings ─level 1─▶ smaller encodings … ─▶ vectors (with `latent_dim`)
    ```

    Each level has one encoder and one decoder. Level 0 encodes images, and level `k` encodes the encodings of level
    `k - 1`. New levels are initialised with principal component analysis (PCA) of their input, computed in closed form,
    and then trained one after the other. The encodings are much smaller than the images, so training a level, or a
    downstream model, on them costs a fraction of training on images.

    Args:
        size: width of the networks, the number of filters per convolution (not the size of the images); 64 by default.
            It can't be combined with `preset`.
        n_out: features per pixel of each encoding, the number of its channels.
        n_scalings: number of times that each level halves height and width. A level has the factor `2**n_scalings`.
            With `latent_dim` and several levels, the last level halves its input only while a side is larger than 8.
        n_levels: number of levels.
        latent_dim: if given, the last level encodes each image as a vector of this length.
        shape: shape of one image, `(height, width, channels)`, with `None` for a side that may differ between images.
            Use `(timesteps, features)` for sequences and `(features,)` for vectors, whose values can be any finite
            numbers.
        levels: the levels, such as `[ConvLevel(32), DenseLevel(64)]`, instead of `n_out`, `n_scalings`, `n_levels`,
            `latent_dim` and the width. Create new `Level` objects for each Autoencoder.
        save_path: folder that `save` writes to; by default `autoencoder_{size}_{n_out}_{n_scalings}` in the current
            folder.
        load: whether to load the stack from `save_path`, as `Autoencoder.load` does. The other arguments then
            only determine the default `save_path`.
        check_range: whether to check that all values lie in the value range. With `False`, float and integer images may
            have any finite values; without a `value_range` they aren't scaled.
        trusted: whether `load=True` may load custom Keras objects; see `Autoencoder.load`.
        preset: `"fast"`, `"balanced"` or `"best"`, which sets the width and the depth of the networks, instead of
            `size`. `docs/how-to/choose-sizes.md` compares loss and speed.
        value_range: `(low, high)`, the lowest and the highest value that images can have, such as `(0, 65535)`,
            `(0, 1)` or `(-1000, 3000)`. Images of any integer or float dtype are scaled from this range, and `decode`
            returns values on this scale. By default, `uint8` images are scaled to [-1, 1], and float images must
            already be in [-1, 1].
        missing: how to treat NaN and masked values of `numpy.ma` arrays. `"error"` raises an error. `"ignore"` treats
            them as missing values; images, vectors and sequences can have any number of them. Level 0 receives
            `levels[0].fill_values` in their place: the mean of each channel or column, computed from the training data
            without missing values, before the closed-form initialisation. Missing values don't count in the loss of
            level 0, the loss of `fine_tune` and the results of `evaluate`. Higher levels receive complete encodings.
            The saved `encoder0`, and models that `export` writes, don't fill in missing values. Infinite values always
            raise an error.
        nested: whether the levels are trained so that each prefix of their features is a good encoding by itself
            (`ConvLevel(nested=True)`). You can then choose the size of the encodings after training, with
            `encode(…, n_out=…)` or `truncated`.

    Attributes:
        stack: the levels as a `Stack` object, for functions of this package.

    Raises:
        ValueError: an argument is invalid, or arguments contradict each other.
        FileNotFoundError: with `load=True`, as in `Autoencoder.load`.
        LoadError: with `load=True`, as in `Autoencoder.load`.

    Example:
        >>> sae = Autoencoder(size=64, n_out=32, n_scalings=2, n_levels=2)
        >>> sae.train(images, epochs=10)                    # images: (N, H, W, 3), uint8
        >>> encodings = sae.encode(images)                  # (N, H / 16, W / 16, 32), float32
        >>> reconstructions = sae.decode(encodings)         # (N, H, W, 3), float32, about [-1, 1]

    Reference:
        Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks"; Bengio et al. 2007,
        "Greedy layer-wise training of deep networks".
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
        nested: bool = False,
    ) -> None:
        network = {"size": 64 if size is None else size}
        if preset is not None:
            if size is not None:
                raise ValueError(
                    "`size` can't be combined with `preset`, which sets the width. Remove one of them. "
                    f"Received: size={size!r}, preset={preset!r}"
                )
            network = preset_named(preset)
        self._default_path = Path(f"autoencoder_{network['size']}_{n_out}_{n_scalings}")
        self._chosen_path = None if save_path is None else expanded(save_path)
        self._checks_path = save_path is not None  # whether training first checks that the stack can be saved there
        self._checked_path: Path | None = None
        if load:
            self.stack = load_stack(self._default_path if save_path is None else save_path, trusted)
            return
        self.stack = Stack(shape, check_range, value_range, missing)
        if nested and levels is not None:
            raise ValueError(
                "`nested` can't be combined with `levels`. Create the levels with it, such as "
                f"`levels=[ConvLevel(32, nested=True)]`. Received: nested={nested!r}, levels={levels!r}"
            )
        if levels is None:
            levels = default_levels(
                self.stack.shape,
                n_out=n_out,
                n_scalings=n_scalings,
                n_levels=positive_int("n_levels", n_levels),
                latent_dim=latent_dim,
                nested=nested,
                **network,
            )
        if not levels:
            raise ValueError("`levels` must contain at least one level. Received: levels=[]")
        for level in levels:
            self.stack.add(level)

    # === The stack ===

    @property
    def levels(self) -> list[Level]:
        """The levels, a list of `Level`, each with an `encoder` and a `decoder`."""
        return self.stack.levels

    @property
    def shape(self) -> Shape:
        """The shape of one image, `(height, width, channels)`, with `None` for a side that may differ."""
        return self.stack.shape

    @property
    def check_range(self) -> bool:
        """Whether images are checked against the value range."""
        return self.stack.values.is_checked

    @property
    def missing(self) -> str:
        """How NaN in images is treated: `"error"` raises an error, `"ignore"` treats it as a missing value."""
        return self.stack.missing

    @property
    def value_range(self) -> tuple[float, float]:
        """The value range `(low, high)` of the images that you pass and of the images that `decode` returns.

        It is the argument `value_range`. Without this argument, it is the range of the images that level 0 was trained
        on, and you can assign (-1, 1) or (0, 1) if the training images covered only a part of the range.
        """
        return self.stack.value_range

    @value_range.setter
    def value_range(self, value_range: tuple[float, float]) -> None:
        self.stack.values = self.stack.values.stated(value_range)

    @property
    def factor(self) -> int:
        """The factor by which the whole stack divides height and width."""
        return self.stack.factor

    @property
    def encoding_shape(self) -> Shape:
        """The shape of one encoding of the last level, with `None` for a side that depends on the image."""
        return self.stack.encoding_shape

    @property
    def encoder(self) -> keras.Model:
        """All encoders as one Keras model, from images to encodings of the last level.

        Its input is float32 images on the scale of level 0, whose sides are multiples of `factor`. The model shares its
        weights with the levels, so a model that contains it can fine-tune them. It is the same object at each access,
        until `add` changes the stack. `sae.encoder.trainable = False` freezes the encoders of all levels, and `True`
        unfreezes them.
        """
        return self.stack.encoder

    @property
    def decoder(self) -> keras.Model:
        """All decoders as one Keras model, from encodings of the last level to images on the scale of level 0."""
        return self.stack.decoder

    def add(self, level: Level) -> None:
        """Adds a level to the end of the stack. `train(images, levels=[-1])` then trains only this level.

        Args:
            level: a new level, such as `ConvLevel(n_out=32)`.

        Raises:
            ValueError: `level` isn't a `Level`, is already in the stack, or doesn't fit the encodings of the last
                level.
        """
        self.stack.add(level)

    def truncated(self, n_out: int) -> Autoencoder:
        """Creates a smaller stack, whose last level has only the leading features. This stack doesn't change.

        The encodings of the new stack are the leading features of those of this stack. It is saved, loaded and trained
        further like any other, with `save_path` ending in `_n_out_<n_out>`.

        Args:
            n_out: number of features of the last level to keep: channels, or values of a vector.

        Returns:
            The new `Autoencoder`.

        Raises:
            ValueError: `n_out` is out of range; the last level is not trained; its encodings are image-shaped, and it
                was created without `nested=True`; or it is a `SequenceLevel`.

        Example:
            >>> sae = Autoencoder(shape=(64, 64, 3), nested=True)
            >>> sae.train(images, epochs=10)
            >>> sae.truncated(8).save("small")              # encoder0: (N, 64, 64, 3) → (N, 16, 16, 8)
        """
        truncated = copy.copy(self)
        truncated.stack = self.stack.truncated(n_out)
        truncated._default_path = Path(f"{self.save_path}_n_out_{n_out}")
        truncated._chosen_path, truncated._checks_path, truncated._checked_path = None, False, None
        return truncated

    def count_params(self) -> int:
        """Returns the number of weights of all encoders and decoders."""
        return self.stack.count_params()

    def summary(self, print_fn: Callable[[str], None] = print) -> None:
        """Prints a table with one row per level.

        The columns are: level index, kind, shape of the input and of the encoding (`?` for an open side), factor,
        values per image, ratio of values in the image to values in the encoding, network, and number of weights. The
        network is the number of residual blocks per resolution and their filters, or the units of dense and recurrent
        layers.

        Args:
            print_fn: called with each line of text.
        """
        self.stack.summary(print_fn)

    def __repr__(self) -> str:
        lines = [self._headline()]
        self.summary(lines.append)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        names, *levels = self.stack.summary_table()
        cells = [
            [f"<th>{name}</th>" for name in names],
            *([f"<td>{escape(cell)}</td>" for cell in row] for row in levels),
        ]
        rows = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
        total = f"Total weights: {self.count_params():,}"
        return f"<p>{escape(self._headline())}</p><table>{rows}</table><p>{total}</p>"

    def _headline(self) -> str:
        trained = [str(index) for index, level in enumerate(self.levels) if level.started]
        low, high = self.value_range
        return (
            f"Autoencoder(shape={self.shape}, value_range=({low:g}, {high:g}), n_levels={len(self.levels)}), "
            f"trained levels: {', '.join(trained) or 'none'}"
        )

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
        """Trains the levels one after the other, each on the encodings of the level below, which are computed once.

        Levels that have never been trained are initialised in closed form, with PCA of their input and, if possible, a
        decoder that reads neighbouring encodings. Trained levels continue from their current weights. For each level,
        `train` keeps the weights with the lowest loss on the validation data, including the initial weights. A new
        convolutional or linear level with the mean squared error as its loss therefore never reconstructs the
        validation data worse than PCA of its input. This doesn't hold for the images that several levels reconstruct
        together: `evaluate(…, return_dict=True)` measures those.

        Retraining a level changes its encodings, so train the levels above it again, and re-encode anything you stored.

        Args:
            images: the training data, with values in `value_range`. One of:

                - an array or tensor `(N, H, W, C)`, or a list of arrays `(H, W, C)`, whose sizes may differ;
                - the path of a folder of pictures, or an `ImageFolder`;
                - a `tf.data.Dataset` or `keras.utils.PyDataset` of images or of `(images, labels)`;
                - a dataset or loader of Hugging Face, PyTorch, Grain, WebDataset, HDF5 or Zarr
                  (`docs/how-to/images.md`);
                - for vectors, also a pandas or polars DataFrame, or a sparse scipy matrix, which is converted to dense
                  batches;
                - an `EncodingStore` that this stack wrote, to train the levels above that of the store.
            epochs: passes over the data, one number or a sequence with one number per trained level. With 0, levels are
                only initialised.
            targets: the targets of the reconstruction, such as clean images for noisy `images`. They must have the same
                number, sizes and order as `images`. Arrays, lists, stores and datasets can be combined; a folder needs
                a folder whose pictures have the same names. A dataset, `PyDataset` or tuple whose second element has
                the shape of the images contains the targets already. Higher levels learn to map encodings of the images
                to encodings of the targets.
            validation_data: images that select the weights to keep; without them, a sample of `images` does. With
                `targets`, pass a tuple `(images, targets)` or a dataset of pairs.
            levels: indices of the levels to train, such as `[-1]` for the last one; by default all levels.
            batch_size: images per step, over all devices and workers together. Datasets that are already batched keep
                their batches on level 0.
            learning_rate: peak learning rate of Muon (Liu et al. 2025, arXiv:2502.16982), which warms up and then
                decays along a cosine; 0.01 by default. Or a Keras schedule.
            optimizer: a Keras optimizer, or the name of one, to use instead of Muon, with its learning rate. Each level
                gets a new optimizer with the same configuration. It can't be combined with `learning_rate`.
            steps_per_epoch: steps per epoch of level 0. Infinite datasets need it; higher levels then train on the
                encodings of this number of batches.
            callbacks: one Keras callback or a list of them, for every level; or a dict `{level index: callbacks}`,
                whose keys may be negative; or a function that takes a level index and returns callbacks. Some Keras
                callbacks can't be used with stacks; `docs/how-to/callbacks.md` lists alternatives.
            verbose: 0 prints nothing. 1 prints each level, a progress bar, the time left, and a table of losses at the
                end. 2 prints one line per epoch instead of the bar.
            cache_dir: folder for encodings that don't fit into memory. Each combination of encoder and images has a
                folder there, which later calls reuse. The encodings stay until you delete them. By default they are
                written to a temporary folder.
            memory_budget: maximum number of bytes of encodings of one level to keep in memory; by default half of the
                free memory.
            checkpoint_dir: folder for checkpoints, which are written after each epoch, and every five minutes within
                longer ones. After an interruption, the same call continues from the last checkpoint and has the same
                result as an uninterrupted call, unless `images` is a `tf.data.Dataset` that shuffles in a new order
                each time it is read. If the folder contains the checkpoints of another call, an error is raised.

        Returns:
            One Keras `History` per trained level. It also has `start_loss`, the loss before the first step, and
            `best_loss`, the loss of the weights that were kept.

        Raises:
            ValueError: the images don't fit the model, or there are none; a callback can't be used; or `checkpoint_dir`
                contains the checkpoints of another call.
            ImportError: a callback needs a package that isn't installed.
            FloatingPointError: the loss is no longer a finite number. The best previous weights are restored.
            NotImplementedError: the loss can't be computed on several devices.

        A stack that was created in the scope of a `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy` is
        trained on all its devices. All workers make the same call with the same images
        (`docs/how-to/many-machines.md`).

        Example:
            >>> histories = sae.train(images, epochs=[10, 20], validation_data=held_out)
            >>> sae.evaluate(held_out)                      # mean squared error of the whole stack

        Reference:
            Bengio et al. 2007, "Greedy layer-wise training of deep networks", section 2; Baldi and Hornik 1989, "Neural
            networks and principal component analysis".
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
        """Fine-tunes all levels jointly, with the loss of the whole stack, from images to reconstructed images.

        It keeps the weights with the lowest loss, as `train` does. Fine-tuning changes the encodings of all levels, so
        re-encode anything you stored.

        Args:
            images: the training data, as in `train`, but not an `EncodingStore` of this stack.
            epochs: passes over the data, at least 1.
            targets: the targets of the reconstruction, as in `train`.
            validation_data: images that select the weights to keep, as in `train`.
            batch_size: images per step, as in `train`.
            learning_rate: peak learning rate of Muon, as in `train`; 0.002 by default, a fifth of that of `train`.
            optimizer: a Keras optimizer to use instead, as in `train`.
            steps_per_epoch: steps per epoch. Infinite datasets need it.
            callbacks: one Keras callback or a list of them.
            verbose: 0 prints nothing, 1 a progress bar, 2 one line per epoch.
            checkpoint_dir: folder for checkpoints. It may be that of `train`: after an interruption, the same two calls
                continue from the last checkpoint.

        Returns:
            The Keras `History`, with `start_loss` and `best_loss` as in `train`.

        Raises:
            ValueError: the images don't fit the model; a level has never been trained; a callback can't be used; or
                `checkpoint_dir` contains the checkpoints of another call.
            ImportError: a callback needs a package that isn't installed.
            FloatingPointError: the loss is no longer a finite number. The best previous weights are restored.
            NotImplementedError: the loss can't be computed on several devices.

        Example:
            >>> sae.train(images, epochs=10)
            >>> sae.fine_tune(images, epochs=2)
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
    def encode(
        self, images: np.ndarray, level: int | None = None, *, tile: Tile = "auto", n_out: int | None = None
    ) -> np.ndarray: ...

    @overload
    def encode(
        self, images: Images, level: int | None = None, *, tile: Tile = "auto", n_out: int | None = None
    ) -> np.ndarray | list[np.ndarray]: ...

    def encode(
        self, images: Images, level: int | None = None, *, tile: Tile = "auto", n_out: int | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """Encodes images, in memory.

        Args:
            images: images, in any form that `train` accepts. Sides that aren't multiples of the factor of the stack are
                padded by reflection.
            level: level index (0 is the first; default: the last).
            tile: side in pixels of the tiles in which an image is processed, which limits the memory that it needs. The
                encodings are the same within 1e-4. `None` processes whole images, and `"auto"` uses tiles for images of
                more than four million pixels. With tiles, a memory-mapped array (`np.load(…, mmap_mode="r")`) isn't
                read as a whole.
            n_out: number of features to keep, the leading ones; by default all. Levels start as PCA, so their features
                are ordered by importance. `decode` accepts encodings that were cut.

        Returns:
            `(N, *encoding_shape)` float32 encodings of that level, with `n_out` features; a list of arrays if the sizes
            of the images differ.

        Raises:
            ValueError: the images don't fit the model, `level` or `n_out` is out of range, or `tile` was given for a
                level whose encodings are vectors.

        Example:
            >>> encodings = sae.encode(images)              # images: (N, 64, 64, 3); encodings: (N, 4, 4, 32)
        """
        return codec.encode(self.stack, images, level, tile, n_out)

    def encode_to(
        self,
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
        """Encodes images to an `EncodingStore` on disk, in constant memory.

        After an interruption, the same call continues where it stopped. Encodings that are complete aren't computed
        again, so for a finished store the call only checks that the images haven't changed.

        Args:
            path: folder of the store: a new or empty folder, or that of a store of these images.
            source: images, in any form that `train` accepts, in a fixed order. Large images are encoded in tiles.
                Labels are stored, too: those of `(images, labels)` with any form of images (they replace labels that
                the images have), those of a dataset of such tuples, or those of an `ImageFolder` with labels. Labels
                are numbers, booleans or strings, up to 128 values per image. For several labels by name, pass a dict or
                tuple of arrays, or a dict or tuple of values for each image.
            level: level index (0 is the first; default: the last).
            shard_size: encodings per file; by default as many as fit into 32 MB, at most 1,024.
            dtype: dtype of the files: `"float16"` (default), with a relative rounding error of 0.0005; `"float32"`; or
                `"int8"`, which needs half the space of float16. The values of each channel are then rounded to 255
                numbers, dense near the mean. On photographs, this added 1 % to the loss of reconstructions at 8x8x32,
                but 45 % at 16x16x32, whose loss is sixty times lower.
            loss_budget: share by which the loss of reconstructions may grow, such as 0.01. The encodings are rounded to
                multiples of one step and compressed with Zstandard. The step is the largest one that keeps the budget.
                The loss, the mean squared error between images and decoded images on the scale of level 0, is measured
                on up to 1,024 images of the source, and what rounding adds to it on a quarter of them: the step is
                found on half of these, and reduced until the other half is within the budget, too; see
                `EncodingStore.added_loss`. It cannot be combined with `dtype`.
            workers: number of pictures of a folder to decode at the same time; chosen automatically by default.
            shard: `(i, n)` encodes only part i of n, into a separate folder below `path`. So n processes or machines
                can share the work without communication. `EncodingStore(path)` reads all parts.
            verbose: 0 prints nothing, 1 prints images per second and the time left.

        Returns:
            The `EncodingStore`; with `shard`, that of the part.

        Raises:
            ValueError: the folder contains the encodings of another encoder or of other images, or files that
                `encode_to` didn't write; an encoding exceeds the range of float16; there isn't one label per image; or
                the loss is 0, so a share of it, `loss_budget`, is not defined.
            ImportError: `loss_budget` is given and Zstandard is not installed:
                `pip install "stacked_autoencoder[zstandard]"`.
            RuntimeError: another process is writing to the store.
            OSError: the disk is full. Finished shards are kept, and the next call continues from them.

        Example:
            >>> store = sae.encode_to("encodings", "photos")
            >>> store[:16]                                  # (16, 4, 4, 32), float16
        """
        return encode_to_store(
            self.stack,
            path,
            source,
            level,
            shard_size=shard_size,
            dtype=dtype,
            loss_budget=loss_budget,
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
            encodings: `(N, *encoding_shape)` of that level, or a list of encodings of different sizes. They may have
                fewer features, as `encode(…, n_out=…)` returns them. The mean of each missing feature is used instead.
            level: level index of the encodings (0 is the first; default: the last).
            tile: side in pixels of the tiles in which an image is decoded, as in `encode`.

        Returns:
            `(N, H, W, C)` float32 on the scale of `value_range`. Values aren't clipped, so they can lie outside of the
            range. The images are cropped to the `shape` of the model where it is fixed. A list of arrays if the sizes
            differ.

        Raises:
            ValueError: the encodings don't have the shape of this level, or `tile` was given for a level whose
                encodings are vectors.
        """
        return codec.decode(self.stack, encodings, level, tile)

    @overload
    def reconstruct(self, images: np.ndarray, level: int | None = None, *, n_out: int | None = None) -> np.ndarray: ...

    @overload
    def reconstruct(
        self, images: Images, level: int | None = None, *, n_out: int | None = None
    ) -> np.ndarray | list[np.ndarray]: ...

    def reconstruct(
        self, images: Images, level: int | None = None, *, n_out: int | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """Encodes images and decodes them again.

        If the stack predicts sequences, each step is predicted from the steps before it, and the first step is copied.

        Args:
            images: images, in any form that `train` accepts.
            level: level index (0 is the first; default: the last).
            n_out: number of leading features of the encodings to use, as in `encode`; by default all.

        Returns:
            `(N, H, W, C)` float32 on the scale of `value_range`, not clipped, with the sizes of the images. A list of
            arrays if the sizes differ.

        Raises:
            ValueError: the images don't fit the model.
        """
        return codec.reconstruct(self.stack, images, level, n_out)

    def sample(self, n: int, seed: int | None = None) -> np.ndarray:
        """Generates images: draws encodings of the last level from the standard normal distribution and decodes them.

        The last level must be variational, created with `kl_weight`: its loss keeps the distribution of the encodings
        near the standard normal distribution.

        Args:
            n: number of images.
            seed: seed of the random numbers; by default they depend on NumPy's global random state.

        Returns:
            `(n, *shape)` float32, as `decode` returns them.

        Raises:
            ValueError: the last level isn't variational, or `shape` has open sides.

        Example:
            >>> sae = Autoencoder(shape=(28, 28, 1), levels=[ConvLevel(n_out=8, latent_dim=16, kl_weight=1e-3)])
            >>> sae.train(images, epochs=10)                # images: (N, 28, 28, 1), uint8
            >>> sae.sample(16)                              # (16, 28, 28, 1)

        Reference:
            Kingma and Welling 2014, "Auto-encoding variational Bayes", section 3.
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

    @overload
    def evaluate(
        self, images: Images, *, targets: Images | None = None, return_dict: bool = False, n_out: Sequence[int]
    ) -> Budget: ...

    def evaluate(
        self,
        images: Images,
        *,
        targets: Images | None = None,
        return_dict: bool = False,
        n_out: Sequence[int] | None = None,
    ) -> float | Budget:
        """Measures the mean squared error of the whole stack, the error budget of all levels, or the loss of cut codes.

        Errors are measured on the scale of level 0: `uint8` images, and images with a `value_range`, are scaled to
        [-1, 1]; with `value_range=(0, 1)`, the scale is [0, 1]. The mean is taken over all values and does not depend
        on the sizes of the batches.

        Args:
            images: images, in any form that `train` accepts.
            targets: what to compare the reconstructions with, as in `train`; by default the images, or the second
                element of pairs.
            return_dict: whether to return the error budget.
            n_out: numbers of features, such as `[4, 8, 16, 32]`. The last level is measured with each of them, as with
                `encode(…, n_out=…)`.

        Returns:
            The mean squared error as a float. With `return_dict=True` the error budget, a dict from each level index to
            a dict of floats:

            - `loss`: mean squared error of the level, between its input and its output;
            - `full_loss`: mean squared error between images and their reconstructions from the encodings of this level;
            - `psnr` (dB) and `ssim`: quality of the decoded images, averaged over images;
            - `pca_loss`: mean squared error of PCA of the images with the same number of values, fitted to the training
              data;
            - `values`: number of values per image in the encoding;
            - `ratio`: number of values of the image divided by the number of values of its encoding.

            With `n_out`, a dict from each number of features, sorted, to a dict of floats with the keys `full_loss`,
            `psnr`, `ssim`, `pca_loss`, `values` and `ratio`.

            Values that aren't defined are NaN. Missing values don't count; `ssim` is averaged over complete images.

        Raises:
            ValueError: the images don't fit the model.

        Example:
            >>> sae.evaluate(images, return_dict=True)[0]["psnr"]   # of level 0, in dB
            >>> rates = sae.evaluate(images, n_out=[8, 16, 32])
            >>> rates[8]["full_loss"] / rates[8]["pca_loss"]        # below 1 is better than PCA with 8 features
        """
        if n_out is not None:
            return evaluation.rate_distortion(self.stack, images, positive_ints("n_out", n_out), targets)
        if return_dict:
            return evaluation.error_budget(self.stack, images, targets)
        return evaluation.mean_squared_error(self.stack, images, targets)

    def errors(self, images: Images, *, targets: Images | None = None) -> np.ndarray:
        """Measures the mean squared error of the reconstruction of each image.

        Images with a large error are unlike the training images.

        Args:
            images: images, in any form that `train` accepts.
            targets: the images that the stack should restore, as in `train`; by default the images themselves.

        Returns:
            `(N,)` float64, in the order of the images: for an `ImageFolder` that of `images.names`. Each error is the
            mean over all values of an image that count in the loss, on the scale of the input of level 0, as in
            `evaluate`. NaN if no value counts.

        Raises:
            ValueError: the images don't fit the model.

        Example:
            >>> folder = ImageFolder("photos")
            >>> errors = sae.errors(folder)                 # (N,)
            >>> [folder.names[index] for index in np.argsort(errors)[-5:]]
        """
        return evaluation.errors(self.stack, images, targets)

    def error_maps(self, images: Images, *, targets: Images | None = None) -> np.ndarray | list[np.ndarray]:
        """Measures where the reconstructions of images differ from the images.

        Args:
            images: images, in any form that `train` accepts.
            targets: the images that the stack should restore, as in `train`; by default the images themselves.

        Returns:
            float64 squared errors on the scale of the input of level 0: `(N, H, W)` for images and `(N, timesteps)` for
            sequences, as the mean over channels, or `(N, features)` for vectors. NaN where no value counts in the loss.
            A list of arrays if the sizes of the images differ.

        Raises:
            ValueError: the images don't fit the model.

        Example:
            >>> maps = sae.error_maps(images)               # images: (N, 64, 64, 3); maps: (N, 64, 64)
        """
        return evaluation.error_maps(self.stack, images, targets)

    # === On disk ===

    @property
    def save_path(self) -> Path:
        """The folder that `save` writes to. If you assign one, `train` checks first that the folder is writable."""
        return self._chosen_path or self._default_path

    @save_path.setter
    def save_path(self, path: str | os.PathLike[str]) -> None:
        self._chosen_path, self._checks_path, self._checked_path = expanded(path), True, None

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Saves the stack as `encoder<i>/`, `decoder<i>/` and `autoencoder.json`, atomically.

        If several workers train together, only the chief (the worker with index 0) writes, and the other workers don't
        wait for it.

        Args:
            path: the folder; by default `save_path`. A stack in this folder is replaced once the new one is complete.
                Other files next to the stack stay unchanged. A folder that contains files but no stack raises an error.

        Returns:
            The folder, as an absolute path.

        Raises:
            OSError: the folder can't be written, or `save` would replace files that it didn't write. Nothing was
                changed.

        Example:
            >>> sae.save("model")
            >>> encoder = keras.models.load_model("model/encoder0")   # without this package
        """
        path = resolved(self.save_path if path is None else path, "path")
        if is_chief(self.levels[0].encoder.distribute_strategy):
            save_stack(self.stack, path, is_checked=path == self._checked_path)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str], trusted: bool = False) -> Autoencoder:
        """Loads a stack that `save` wrote, for encoding and for further training.

        `load` is safe on untrusted folders: it never executes code from them. It doesn't write to the folder, which may
        be on a read-only file system.

        Args:
            path: folder that `save` wrote.
            trusted: whether to accept custom losses, penalties and corruptions that your program has registered with
                `@keras.saving.register_keras_serializable()`, and more than 4 GiB of files.

        Returns:
            The `Autoencoder`, with `save_path` set to `path`.

        Raises:
            FileNotFoundError: the folder, or a part of a level, doesn't exist.
            LoadError: a `ValueError`; the folder doesn't contain a stack, or its files are damaged.

        Example:
            >>> sae = Autoencoder.load("model")
        """
        sae = cls(save_path=path, load=True, trusted=trusted)
        sae._checks_path = False  # the user may save it elsewhere
        return sae

    def export(self, path: str | os.PathLike[str], format: str = "onnx", level: int | None = None) -> list[Path]:
        """Exports the encoders and the decoders up to a level to ONNX or LiteRT, for runtimes without Keras.

        Args:
            path: folder for the two files. It is created if necessary.
            format: `"onnx"` (`pip install "stacked_autoencoder[onnx]"`), or `"litert"`, formerly TensorFlow Lite.
            level: level index (0 is the first; default: the last).

        Returns:
            Paths of the two files: `encoder.onnx` and `decoder.onnx`, or `encoder.tflite` and `decoder.tflite`. Their
            inputs are named `images` and `encodings`. Both inputs are float32 batches of any size. Images must have the
            scale of level 0 and sides that are multiples of `factor`.

        Raises:
            ValueError: `format` isn't known, or a level can't be exported.
            ImportError: the package for this format isn't installed.
            OSError: the folder can't be written.

        Example:
            >>> sae.export("exported", format="onnx")       # [exported/encoder.onnx, exported/decoder.onnx]
        """
        index = self.stack.index_of(level)
        models = {"encoder": self.stack.encoder_to(index), "decoder": self.stack.decoder_from(index)}
        return export_models(models, path, format)

    def _check_save_path(self) -> None:
        """Checks before training that the stack can be saved to `save_path`."""
        if not self._checks_path:
            return
        of_chief(lambda: check_savable(self._chosen_path, self.stack))  # only the chief writes
        self._checked_path = resolved(self._chosen_path, "save_path")
