"""Keras callbacks for a stack that trains."""

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

PLUGIN = "images"  # of TensorBoard, which shows what is written for it


class ReconstructionImages(keras.callbacks.Callback):
    """Shows in TensorBoard how images come back while a stack trains.

    For each level there is a picture of its own, `level 0`, `level 1`, …, and `all levels` in `fine_tune`: originals
    over what is decoded from that level. Its step is the number of epochs the level has been trained for in this call;
    0 is the closed-form start. TensorBoard itself needn't be installed where training is.

    Args:
        sae: the stack that trains.
        images: a few of one size, as in `train`.
        log_dir: folder that TensorBoard reads.
        freq: epochs from one picture to the next.

    Raises:
        ValueError: images of several sizes, or that can't be drawn.

    Example:
        >>> shown = callbacks.ReconstructionImages(sae, images[:8], "logs")
        >>> sae.train(images, callbacks=[shown])        # then: tensorboard --logdir logs
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
                "`images` must have one size, to be drawn side by side. Received: images of the shapes "
                f"{', '.join(str(batch.shape[1:]) for batch in batches)}"
            )
        self.images = np.concatenate(batches)
        self.originals = as_shown(self.images, source.value_range)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        trained = [part.level for part in getattr(self.model, "parts", [])]
        indices = [index for index, level in enumerate(self.sae.levels) if any(level is other for other in trained)]
        if not indices or len(indices) < len(trained):
            raise ValueError(
                "`sae` must be the stack whose `train` or `fine_tune` is given this callback. "
                f"Received: a stack of {self.sae.levels!r}"
            )
        self.level = indices[-1]
        self.tag = f"level {self.level}" if len(indices) == 1 else "all levels"
        # Of several workers, who all come here, one writes.
        self.writer = tf.summary.create_file_writer(self.log_dir) if is_chief() else tf.summary.create_noop_writer()
        self._write(0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self.freq == 0:
            self._write(epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.writer.close()

    def _write(self, step: int) -> None:
        tie(self.sae.levels[: self.level + 1])  # a tied decoder's own kernels rest while it trains
        restored = as_shown(self.sae.reconstruct(self.images, level=self.level), self.sae.value_range)
        picture = np.nan_to_num(mosaic(np.concatenate([self.originals, restored]), len(restored)), nan=1.0)
        png = tf.io.encode_png(as_bytes(picture, (0.0, 1.0)))
        height, width = picture.shape[:2]
        # What `tf.summary.image` writes, which is TensorBoard's.
        metadata = tf.compat.v1.SummaryMetadata(display_name=self.tag)
        metadata.plugin_data.plugin_name = PLUGIN
        with self.writer.as_default():
            tf.summary.write(self.tag, tf.stack([str(width), str(height), png]), step, metadata)
        self.writer.flush()  # what is there can be looked at, also after a kill
