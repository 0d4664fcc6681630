"""Keras callbacks for `train` and `fine_tune`."""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.data.adapters import Images, as_source
from stacked_autoencoder.distribution import is_chief
from stacked_autoencoder.levels.stack import BATCH
from stacked_autoencoder.training.fit import tie
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.files import expanded
from stacked_autoencoder.utils.images import as_bytes, as_shown, mosaic

PLUGIN = "images"  # the plugin of TensorBoard that shows pictures


class ReconstructionImages(keras.callbacks.Callback):
    """Writes pictures of reconstructions for TensorBoard during training.

    Each picture shows the original images above their reconstructions. TensorBoard lists one picture per trained level,
    named `level 0`, `level 1`, …, or `all levels` in `fine_tune`. The step of a picture is the number of epochs since
    the start of the call; step 0 shows the level before the first training step. The machine that trains does not need
    TensorBoard.

    Args:
        sae: the `Autoencoder` that is trained with this callback.
        images: a few images of one size, in any form that `train` accepts, with 1 or 3 channels.
        log_dir: folder that TensorBoard reads. It is created if necessary.
        freq: number of epochs between two pictures, at least 1.

    Raises:
        ValueError: the images have different sizes or can't be drawn, `freq` is less than 1, or, when training begins,
            `sae` isn't the stack that is trained.

    Example:
        >>> pictures = callbacks.ReconstructionImages(sae, images[:8], "logs")
        >>> sae.train(images, callbacks=[pictures])     # then run: tensorboard --logdir logs
    """

    def __init__(self, sae: Autoencoder, images: Images, log_dir: str | os.PathLike[str], freq: int = 1) -> None:
        super().__init__()
        self.sae = sae
        self.log_dir = str(expanded(log_dir))
        self.freq = positive_int("freq", freq)
        source = as_source(images, **sae.stack.source_options, finite="images")
        batches = list(source.in_order(BATCH, scale=False))
        if len({batch.shape[1:] for batch in batches}) > 1:
            raise ValueError(
                "`images` must all have the same size, since they are drawn side by side. Received: images of shapes "
                f"{', '.join(str(batch.shape[1:]) for batch in batches)}"
            )
        self.images = np.concatenate(batches)
        self.originals = as_shown(self.images, source.value_range)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        trained = [part.level for part in getattr(self.model, "parts", [])]
        indices = [index for index, level in enumerate(self.sae.levels) if any(level is other for other in trained)]
        if not indices or len(indices) < len(trained):
            raise ValueError(
                "`sae` must be the Autoencoder whose `train` or `fine_tune` this callback is passed to. "
                f"Received: an Autoencoder with levels {self.sae.levels!r}"
            )
        self.level = indices[-1]
        self.tag = f"level {self.level}" if len(indices) == 1 else "all levels"
        # All workers reach this line, and the chief writes.
        self.writer = tf.summary.create_file_writer(self.log_dir) if is_chief() else tf.summary.create_noop_writer()
        self._write(0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self.freq == 0:
            self._write(epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.writer.close()

    def _write(self, step: int) -> None:
        tie(self.sae.levels[: self.level + 1])  # a tied decoder's copy isn't updated in training
        decoded = as_shown(self.sae.reconstruct(self.images, level=self.level), self.sae.value_range)
        picture = np.nan_to_num(mosaic(np.concatenate([self.originals, decoded]), len(decoded)), nan=1.0)
        png = tf.io.encode_png(as_bytes(picture, (0.0, 1.0)))
        height, width = picture.shape[:2]
        # The format of `tf.summary.image`, which needs TensorBoard.
        metadata = tf.compat.v1.SummaryMetadata(display_name=self.tag)
        metadata.plugin_data.plugin_name = PLUGIN
        with self.writer.as_default():
            tf.summary.write(self.tag, tf.stack([str(width), str(height), png]), step, metadata)
        self.writer.flush()  # makes it visible now, and keeps it if the process is killed
