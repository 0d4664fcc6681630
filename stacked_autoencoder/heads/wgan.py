"""A generative adversarial network of encodings."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops, random

from stacked_autoencoder.distribution import without_all_reduce
from stacked_autoencoder.heads.adversarial import Adversarial
from stacked_autoencoder.levels.base import EXACT
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import non_negative, positive_int
from stacked_autoencoder.utils.images import Shape

LEARNING_RATE = 1e-3
SMALLEST_SIDE = 4  # to which the critic shrinks an image
SLOPE = 0.2
SMALLEST = 1e-12  # the root of 0 has no gradient


@keras.saving.register_keras_serializable("stacked_autoencoder")
class WGAN(Adversarial):
    """Draws encodings that a critic can't tell from those of real images: a Wasserstein GAN with gradient penalty.

    ```
    images ─▶ sae.encoder, frozen ─▶ encodings ─┐
                                                ├─▶ critic ─▶ how real
                     draws ─▶ generator ────────┘
                                  └─▶ sae.decoder, frozen ─▶ images
    ```

    Both nets live between the frozen ends of the autoencoder and never see an image. The generator's linear path starts
    as probabilistic principal component analysis, so that the critic has to begin with what a Gaussian lacks.

    Args:
        encoding_shape: of one encoding, `sae.encoding_shape`.
        latent_dim: values that an encoding is made of, standard normal.
        critic_steps: of the critic, one per batch, for each of the generator.
        penalty: weight of the gradient penalty.
        width: filters of the networks, and a quarter of the units of dense ones.

    Input shape:
        `(N, *encoding_shape)`, float32.

    Raises:
        ValueError: an argument isn't what it should be, or encodings have another shape.

    Example:
        >>> wgan = heads.WGAN(sae.encoding_shape)
        >>> wgan.fit(sae.encode(images), epochs=50)
        >>> images = sae.decode(wgan.generate(64, seed=0))

    Reference:
        Gulrajani et al. 2017, "Improved training of Wasserstein GANs" (arXiv:1704.00028), equation 3 and algorithm 1;
        Frégier and Gouray 2019, "Mind2Mind: transfer learning for GANs" (arXiv:1906.11613), for training between the
        ends of an autoencoder; Yazıcı et al. 2019, "The unusual effectiveness of averaging in GAN training".
    """

    def __init__(
        self,
        encoding_shape: Shape,
        latent_dim: int = 32,
        critic_steps: int = 3,
        penalty: float = 10.0,
        width: int = 64,
        **options: Any,
    ) -> None:
        super().__init__(encoding_shape, latent_dim, width, **options)
        self.critic_steps = positive_int("critic_steps", critic_steps)
        self.penalty = non_negative("penalty", penalty)
        self.critic = self._build_critic()
        self.trackers = [keras.metrics.Mean(name=name) for name in ("distance", "penalty")]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "critic_steps": self.critic_steps, "penalty": self.penalty}

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(LEARNING_RATE, beta_1=0.0, beta_2=0.9)

    def _build_critic(self) -> keras.Model:
        """No normalisation of batches: the penalty is one of each encoding's gradient."""
        inputs = hidden = layers.Input(self.encoding_shape)
        if len(self.encoding_shape) == 3:
            hidden = layers.Conv2D(self.width, 3, padding="same")(hidden)
            hidden = layers.LeakyReLU(SLOPE)(hidden)
            filters = self.width
            while min(hidden.shape[1:3]) > SMALLEST_SIDE:
                filters = min(2 * filters, 4 * self.width)
                hidden = layers.Conv2D(filters, 3, strides=2, padding="same")(hidden)
                hidden = layers.LeakyReLU(SLOPE)(hidden)
        hidden = layers.Flatten()(hidden)
        for _ in range(1 if len(self.encoding_shape) == 3 else 3):
            hidden = layers.LeakyReLU(SLOPE)(layers.Dense(4 * self.width)(hidden))
        return keras.Model(inputs, layers.Dense(1, dtype=EXACT)(hidden), name="critic")

    # === Training ===

    @without_all_reduce
    def train_step(self, data: Any) -> dict[str, Any]:
        values = self.values_of(data)
        made = self.network(self.draws(values), training=True)
        with tf.GradientTape() as tape:
            distance, penalty = self._ratings(values, made)
            loss = self.optimizer.scale_loss(self.penalty * penalty - distance)
        weights = self.critic.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        self.step.assign_add(1.0)
        is_turn = ops.equal(self.step % self.critic_steps, 0.0)
        tf.cond(is_turn, lambda: self._move_generator(values), lambda: tf.no_op())
        return self.report(distance, penalty, count=ops.shape(values)[0])

    def _ratings(self, values: tf.Tensor, made: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """How far apart the critic finds real and made encodings, and the gradient penalty between them."""
        distance = ops.mean(self.critic(values)) - ops.mean(self.critic(made))
        share = random.uniform((ops.shape(values)[0],), dtype=values.dtype, seed=self.seed_generator)
        return distance, gradient_penalty(self.critic, values, made, share)

    def _move_generator(self, values: tf.Tensor) -> tf.Operation:
        with tf.GradientTape() as tape:
            rating = ops.mean(self.critic(self.network(self.draws(values), training=True)))
            loss = self.optimizer.scale_loss(-rating)
        weights = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        self.average(self.step // self.critic_steps)
        return tf.no_op()

    def test_step(self, data: Any) -> dict[str, Any]:
        values = self.values_of(data)
        return self.report(*self._ratings(values, self.restorer(self.draws(values))), count=ops.shape(values)[0])


def gradient_penalty(critic: keras.Model, real: tf.Tensor, made: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Mean of `(|gradient| - 1)^2` between real and made encodings (Gulrajani et al. 2017, equation 3).

    Args:
        critic: `(N, …)` → `(N, 1)`.
        real: `(N, …)`.
        made: `(N, …)`.
        share: `(N,)` of the real one in each place.
    """
    share = ops.reshape(share, (-1, *[1] * (len(real.shape) - 1)))
    places = share * real + (1 - share) * made
    with tf.GradientTape() as tape:
        tape.watch(places)
        rating = critic(places)
    gradients = ops.reshape(tape.gradient(rating, places), (ops.shape(places)[0], -1))
    lengths = ops.sqrt(ops.sum(ops.square(gradients), axis=1) + SMALLEST)
    return ops.mean(ops.square(lengths - 1))
