"""Training that measures errors in images, through a decoder that stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from stacked_autoencoder.heads.head import Head


class Refined(Head):
    """A head whose reconstructions can be compared as images."""

    _decode: Callable[[tf.Tensor], tf.Tensor] | None = None

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int = 128,
        decoder: keras.Model | None = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """As `Head.fit`.

        Args:
            decoder: `sae.decoder`, to measure errors in decoded images, for this call only. It isn't trained. An error
                in encodings is nearly one in images only where the decoder keeps distances; each step costs the
                decoder's, too.

        Raises:
            ValueError: the decoder takes encodings of another shape.
        """
        if decoder is None:
            return super().fit(x, y, batch_size, **options)
        self._check(decoder.input_shape[1:], "Received: a `decoder` of")
        # A function, not an attribute that is a model: Keras would train that, and save it.
        self._decode = lambda values: decoder(values, training=False)
        self._forget_traces()
        try:
            return super().fit(x, y, batch_size, **options)
        finally:
            self._decode = None
            self._forget_traces()

    def _forget_traces(self) -> None:
        """Traced steps hold the loss as it was."""
        self.train_function = self.test_function = None

    def seen(self, values: tf.Tensor) -> tf.Tensor:
        """What is compared: standardised encodings, or images."""
        return values if self._decode is None else self._decode(self.in_units(values))
