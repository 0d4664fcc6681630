"""Training a stack: level by level, or all levels jointly, gone on with after a kill."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras

from stacked_autoencoder import greedy, saving, training
from stacked_autoencoder.arguments import positive_int
from stacked_autoencoder.cache import EncodingCache
from stacked_autoencoder.checkpoints import ALL, Checkpoints, described
from stacked_autoencoder.coding import Coder
from stacked_autoencoder.distribute import in_scope
from stacked_autoencoder.images import Images
from stacked_autoencoder.level_state import change
from stacked_autoencoder.optimizer import PEAK_LEARNING_RATE, LearningRate
from stacked_autoencoder.seen import seen_by
from stacked_autoencoder.sources.base import Source
from stacked_autoencoder.sources.pairs import Pairs
from stacked_autoencoder.stack import show
from stacked_autoencoder.workers import of_chief


class Trainer(Coder):
    """A stack that trains.

    Attributes:
        chosen_path: where the user wants it saved, `None` if it wasn't said.
        is_path_chosen: whether the user has said where it is to be saved, so that training checks that place first.
        checked_path: where training has made sure that it can be saved.
    """

    chosen_path: Path | None = None
    is_path_chosen: bool = False
    checked_path: Path | None = None

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
        callbacks: Sequence[keras.callbacks.Callback] = (),
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
                `ImageFolder`. `uint8` is scaled to [-1, 1]; floats must lie in [-1, 1]. An `EncodingStore` that this
                stack wrote stands for the images behind it, for the levels above its own.
            epochs: passes over the data, one number or one per level; 0 sets the closed-form start and no more.
            targets: what each of `images` should be restored to, such as the clean picture of a noisy one: arrays or
                lists, as `images` then must be. Levels above the first learn to turn the encodings of the ones into
                those of the others.
            validation_data: images that decide which weights are kept; without, a sample of `images` does. With
                `targets` a pair `(images, targets)`.
            levels: which levels to train, by index (`[-1]` for the last); all by default.
            batch_size: images per step, of all devices and workers together; batched datasets keep theirs on level 0.
            learning_rate: of Muon (arXiv:2502.16982), the peak of a warm-up and cosine decay, 0.01 by default; or a
                Keras schedule.
            optimizer: a Keras optimizer to use instead, with its own learning rate; every level gets one like it.
            steps_per_epoch: steps that make an epoch of level 0. A dataset without end needs it; the levels above then
                train on the encodings of so many batches.
            callbacks: Keras callbacks, used for every level.
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
        its devices; all workers make the same call, with the same images (`docs/many-machines.md`).

        Returns:
            One Keras `History` per trained level, with the loss before the first step as `start_loss`.

        Raises:
            ValueError: images that the model isn't made for, or none at all; or `checkpoint_dir` is of another call.
        """
        if targets is not None and validation_data is not None:
            if not isinstance(validation_data, tuple) or len(validation_data) != 2:
                raise ValueError(
                    "With `targets`, `validation_data` must be a pair (images, targets). "
                    f"Received: {type(validation_data).__name__}"
                )
            validation = seen_by(self, *validation_data, name="validation_data")
        else:
            validation = None if validation_data is None else seen_by(self, validation_data, name="validation_data")
        training_data = seen_by(self, images, targets)
        chosen = self.depths_of(range(training_data.level, len(self.levels)) if levels is None else levels)
        for name, data in (("images", training_data), ("validation_data", validation)):
            if data is not None and data.level > min(chosen):
                raise ValueError(
                    f"`{name}` is a store of level {data.level - 1}, on which only the levels above it can be trained. "
                    f"Received: levels={chosen}"
                )
        epochs_of = dict(zip(chosen, _per_level(epochs, len(chosen)), strict=True))
        positive_int("batch_size", batch_size)
        if steps_per_epoch is not None:
            steps_per_epoch = positive_int("steps_per_epoch", steps_per_epoch)
        untrained = [index for index in range(max(chosen)) if index not in chosen and not self.levels[index].started]
        if untrained:
            raise ValueError(
                f"Level {max(chosen)} is trained on the encodings of the levels below it, and level {untrained[0]} "
                f"hasn't been trained yet: include it in `levels`. Received: levels={chosen}"
            )
        self._check_save_path()
        if cache_dir is not None:
            _check_writable(cache_dir, "cache_dir")
        checkpoints = self._checkpoints_of(
            "train",
            checkpoint_dir,
            {"images": training_data.pairs, "validation_data": None if validation is None else validation.pairs},
            epochs=epochs_of,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            learning_rate=learning_rate,
            optimizer=optimizer,
            callbacks=callbacks,
        )
        if memory_budget is not None:
            positive_int("memory_budget", memory_budget, least=0)
        with EncodingCache(None if cache_dir is None else Path(cache_dir), memory_budget) as cache:
            return greedy.train(
                self,
                epochs_of,
                training_data,
                validation,
                cache=cache,
                checkpoints=checkpoints,
                batch_size=batch_size,
                learning_rate=learning_rate,
                optimizer=_as_optimizer(optimizer, learning_rate),
                steps_per_epoch=steps_per_epoch,
                callbacks=callbacks,
                verbose=verbose,
            )

    @in_scope
    def fine_tune(
        self,
        images: Images,
        epochs: int = 2,
        *,
        validation_data: Images | None = None,
        batch_size: int = 32,
        learning_rate: LearningRate = None,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        steps_per_epoch: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = 1,
        checkpoint_dir: str | os.PathLike[str] | None = None,
    ) -> keras.callbacks.History:
        """Trains all levels jointly on the image loss of the whole stack; keeps the best weights, as `train` does.

        The arguments are those of `train`; the peak of the learning rate is a fifth of `train`'s by default. Encodings
        of the levels in between may drift from what they were, so encode again what you have kept. `checkpoint_dir` may
        be the one of `train`: the same two calls then go on wherever they were killed.

        Raises:
            ValueError: images that the model isn't made for, or a level that has never been trained; or
                `checkpoint_dir` is of another call.
        """
        unstarted = [index for index, level in enumerate(self.levels) if not level.started]
        if unstarted:
            raise ValueError(
                f"`fine_tune` goes on from trained levels, and level {unstarted[0]} isn't one: call `train` first. "
                "(`train(images, epochs=0)` sets only the closed-form start, if you want joint training alone.)"
            )
        source = self.source_of(images)
        valid = None if validation_data is None else Pairs(self.finite_source_of(validation_data, "validation_data"))
        positive_int("epochs", epochs)
        positive_int("batch_size", batch_size)
        if steps_per_epoch is not None:
            steps_per_epoch = positive_int("steps_per_epoch", steps_per_epoch)
        self._check_save_path()
        greedy.steps_needed(source, batch_size, steps_per_epoch)
        optimizer = _as_optimizer(optimizer, learning_rate)
        learning_rate = PEAK_LEARNING_RATE / 5 if learning_rate is None else learning_rate
        checkpoints = self._checkpoints_of(
            "fine_tune",
            checkpoint_dir,
            {"images": Pairs(source), "validation_data": valid},
            epochs=epochs,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            learning_rate=learning_rate,
            optimizer=optimizer,
            callbacks=callbacks,
        )
        checkpoint = None
        if checkpoints:
            if finished := checkpoints.finished(ALL, self.levels):
                return finished[0]
            checkpoint = checkpoints.begin(ALL, self.levels)
        history = training.fit(
            self.levels,
            Pairs(source),
            validation=valid,
            title=f"All levels ({show(self.shape)} -> {show(self.encoding_shape)})",
            epochs=epochs,
            batch_size=batch_size,
            steps=steps_per_epoch,
            learning_rate=learning_rate,
            optimizer=optimizer,
            callbacks=callbacks,
            verbose=verbose,
            checkpoint=checkpoint,
        )
        change(self.levels, partial(self._measure, source, batch_size))
        if checkpoints:
            checkpoints.finish(ALL, self.levels, history, self.value_range)
        return history

    def _checkpoints_of(
        self, method: str, directory: str | os.PathLike[str] | None, data: Mapping[str, Pairs | None], **arguments: Any
    ) -> Checkpoints | None:
        """Those of a call that gives a `checkpoint_dir`; `arguments` are the others that decide its result."""
        if directory is None:
            return None
        _check_writable(directory, "checkpoint_dir")
        return Checkpoints(Path(directory), method, described(self, data, **arguments))

    def _check_save_path(self) -> None:
        """Finds out before training whether the stack can be saved where it is to be."""
        if not self.is_path_chosen:
            return
        kinds = ("encoder{}", "decoder{}", "predictor{}", "linear{}.npz", "training{}.npz")
        names = [kind.format(index) for index in range(len(self.levels)) for kind in kinds]
        of_chief(lambda: saving.check_savable(self.chosen_path, names))  # it alone writes
        self.checked_path = saving.resolved(self.chosen_path, "save_path")

    def _measure(self, source: Source, batch_size: int) -> None:
        """Sets the statistics of all levels' encodings."""
        sample = list(source.batches(batch_size, shuffle=True, most=training.SAMPLE))
        for level in self.levels:
            sample = level.measure(sample)


def _check_writable(path: str | os.PathLike[str], argument: str) -> None:
    of_chief(lambda: saving.check_writable(path, argument))  # it alone writes


def _as_optimizer(optimizer: Any, learning_rate: LearningRate) -> keras.optimizers.Optimizer | None:
    if optimizer is None:
        return None
    if learning_rate is not None:
        raise ValueError(
            "An `optimizer` has its own learning rate: leave `learning_rate` out. "
            f"Received: optimizer={optimizer!r}, learning_rate={learning_rate!r}"
        )
    return keras.optimizers.get(optimizer)


def _per_level(epochs: int | Sequence[int], count: int) -> list[int]:
    each = [epochs] * count if isinstance(epochs, int) else list(epochs)
    if len(each) != count:
        raise ValueError(f"`epochs` must be one number, or one for each of {count} levels. Received: epochs={epochs!r}")
    return [positive_int("epochs", number, least=0) for number in each]
