"""A Wasserstein generative adversarial network (WGAN) of encodings."""

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
SMALLEST_SIDE = 4  # side length to which the critic reduces image-shaped encodings
SLOPE = 0.2
SMALLEST = 1e-12  # avoids the infinite gradient of the root at 0


@keras.saving.register_keras_serializable("stacked_autoencoder")
class WGAN(Adversarial):
    """Wasserstein GAN with gradient penalty: generates encodings that a critic cannot distinguish from real ones.

    ```
    images ─▶ sae.encoder (frozen) ─▶ encodings ─────┐
                                                     ├─▶ critic ─▶ score
    draws ─▶ generator ─▶ generated encodings ───────┘
                                  └─▶ sae.decoder (frozen) ─▶ images
    ```

    The generator and the critic are trained on encodings and never receive images. The linear path of the generator is
    initialised as probabilistic PCA, so the generator is a Gaussian model of the encodings before training.

    Args:
        encoding_shape: shape of one encoding without the batch axis, `sae.encoding_shape`. All sides must be known.
        latent_dim: number of standard normal values from which one encoding is generated.
        critic_steps: number of critic steps (one per batch) for each generator step.
        penalty: weight of the gradient penalty.
        width: filters of the networks, and a quarter of the units of dense layers.

    Input shape:
        `(N, *encoding_shape)`, float32.

    Raises:
        ValueError: an argument is out of its range, or encodings have another shape.

    Example:
        >>> wgan = heads.WGAN(sae.encoding_shape)
        >>> wgan.fit(sae.encode(images), epochs=50)
        >>> images = sae.decode(wgan.generate(64, seed=0))

    Reference:
        Gulrajani et al. 2017, "Improved training of Wasserstein GANs" (arXiv:1704.00028), equation 3 and algorithm 1.
        Frégier and Gouray 2019, "Mind2Mind: transfer learning for GANs" (arXiv:1906.11613), for training between frozen
        encoder and decoder. Yazıcı et al. 2019, "The unusual effectiveness of averaging in GAN training"
        (arXiv:1806.04498).
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
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "critic_steps": self.critic_steps, "penalty": self.penalty}

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Returns Adam with a learning rate of 1e-3, `beta_1=0.0` and `beta_2=0.9`."""
        return keras.optimizers.Adam(LEARNING_RATE, beta_1=0.0, beta_2=0.9)

    def _build_critic(self) -> keras.Model:
        """Builds the critic, without batch normalisation, because the gradient penalty is computed per encoding."""
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
        """Runs one critic step, each `critic_steps` steps also a generator step, and returns the metrics."""
        values = self.values_of(data)
        generated = self.network(self.draws(values), training=True)
        with tf.GradientTape() as tape:
            distance, penalty = self._distance_and_penalty(values, generated)
            loss = self.optimizer.scale_loss(self.penalty * penalty - distance)
        weights = self.critic.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        self.step.assign_add(1.0)
        is_turn = ops.equal(self.step % self.critic_steps, 0.0)
        tf.cond(is_turn, lambda: self._train_generator(values), lambda: tf.no_op())
        return self.report(distance, penalty, count=ops.shape(values)[0])

    def _distance_and_penalty(self, values: tf.Tensor, generated: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the difference of the mean scores of real and generated encodings, and the gradient penalty."""
        distance = ops.mean(self.critic(values)) - ops.mean(self.critic(generated))
        share = random.uniform((ops.shape(values)[0],), dtype=values.dtype, seed=self.seed_generator)
        return distance, gradient_penalty(self.critic, values, generated, share)

    def _train_generator(self, values: tf.Tensor) -> tf.Operation:
        with tf.GradientTape() as tape:
            score = ops.mean(self.critic(self.network(self.draws(values), training=True)))
            loss = self.optimizer.scale_loss(-score)
        weights = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        self.average(self.step // self.critic_steps)
        return tf.no_op()

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the metrics of a batch of validation data, with averaged weights of the generator."""
        values = self.values_of(data)
        return self.report(
            *self._distance_and_penalty(values, self.restorer(self.draws(values))), count=ops.shape(values)[0]
        )


def gradient_penalty(critic: keras.Model, real: tf.Tensor, generated: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `(|gradient| - 1)^2` at points between real and generated encodings.

    Args:
        critic: model from `(N, …)` to scores `(N, 1)`.
        real: `(N, …)`, real encodings.
        generated: `(N, …)`, generated encodings.
        share: `(N,)`, weight of the real encoding in each point, from 0 to 1.

    Reference:
        Gulrajani et al. 2017 (arXiv:1704.00028), equation 3.
    """
    share = ops.reshape(share, (-1, *[1] * (len(real.shape) - 1)))
    points = share * real + (1 - share) * generated
    with tf.GradientTape() as tape:
        tape.watch(points)
        score = critic(points)
    gradients = ops.reshape(tape.gradient(score, points), (ops.shape(points)[0], -1))
    lengths = ops.sqrt(ops.sum(ops.square(gradients), axis=1) + SMALLEST)
    return ops.mean(ops.square(lengths - 1))
