"""What the heads share that make an encoding of a few standard normal values."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from stacked_autoencoder.arguments import positive_int
from stacked_autoencoder.heads.head import GENERATED, Head
from stacked_autoencoder.level import Shape
from stacked_autoencoder.seeds import rng_of


class FromNormal(Head):
    """A head whose `restorer`, a network on standardised encodings, draws.

    Args:
        encoding_shape: of one encoding.
        latent_dim: values that one is made of.
    """

    restorer: keras.Model

    def __init__(self, encoding_shape: Shape, latent_dim: int, **options: Any) -> None:
        super().__init__(encoding_shape, **options)
        self.latent_dim = positive_int("latent_dim", latent_dim)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "latent_dim": self.latent_dim}

    def generate(self, n: int, seed: int | None = None) -> np.ndarray:
        """`(n, *encoding_shape)`: decoded draws. `seed` decides the draws, numpy's by default."""
        draws = rng_of(seed).standard_normal((positive_int("n", n), self.latent_dim), dtype=np.float32)
        return self.restored(draws)

    @property
    def generator(self) -> keras.Model:
        """`(N, latent_dim)` standard normal → `(N, *encoding_shape)`: a Functional model of Keras's own layers."""
        inputs = keras.Input((self.latent_dim,))
        return keras.Model(inputs, self.with_units(self.restorer(inputs)), name="generator")

    def restored(self, values: np.ndarray) -> np.ndarray:
        """What `generator` gives, by the network that is there already: a new model would be traced anew."""
        return np.asarray(self.in_units(self.restorer.predict(values, batch_size=GENERATED, verbose=0)))
