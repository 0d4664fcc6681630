"""Time of a BEGAN's training step on pixels, with the networks of the paper and with `heads.BEGAN`, and on encodings.

    python -m benchmarks.speed.began_step                    # three minutes

Pixels are 64x64x3 and encodings 8x8x64. The usual design is that of the paper (Berthelot et al. 2017, arXiv:1703.10717,
figure 1), with 128 filters, 64 latent values and batches of 16. The three models take turns, and the best round counts.
"""

from functools import partial

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.harness import table
from benchmarks.harness.clocks import best_times
from stacked_autoencoder.heads.began import BEGAN

FILTERS, CODE = 128, 64
GAMMA, SPEED = 0.5, 1e-3
SMALLEST_SIDE = 8


def usual_encoder(side: int, filters: int) -> keras.Model:
    inputs = hidden = keras.Input((side, side, 3))
    hidden = layers.Conv2D(filters, 3, padding="same", activation="elu")(hidden)
    scales = (side // SMALLEST_SIDE).bit_length()
    for scale in range(1, scales + 1):
        hidden = layers.Conv2D(scale * filters, 3, padding="same", activation="elu")(hidden)
        strides = 1 if scale == scales else 2
        hidden = layers.Conv2D(scale * filters, 3, strides=strides, padding="same", activation="elu")(hidden)
    return keras.Model(inputs, layers.Dense(CODE)(layers.Flatten()(hidden)))


def usual_decoder(side: int, filters: int) -> keras.Model:
    inputs = keras.Input((CODE,))
    hidden = layers.Dense(SMALLEST_SIDE**2 * filters)(inputs)
    hidden = layers.Reshape((SMALLEST_SIDE, SMALLEST_SIDE, filters))(hidden)
    while True:
        for _ in range(2):
            hidden = layers.Conv2D(filters, 3, padding="same", activation="elu")(hidden)
        if hidden.shape[1] == side:
            return keras.Model(inputs, layers.Conv2D(3, 3, padding="same")(hidden))
        hidden = layers.UpSampling2D(2)(hidden)


class UsualBEGAN(keras.Model):
    """The networks of the paper and its update of `k`, in plain Keras."""

    def __init__(self, side: int, filters: int) -> None:
        super().__init__()
        self.encoder = usual_encoder(side, filters)
        self.decoder, self.network = (usual_decoder(side, filters) for _ in range(2))
        self.k = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def errors(self, images: tf.Tensor) -> tf.Tensor:
        return ops.mean(ops.absolute(images - self.decoder(self.encoder(images, training=True), training=True)))

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, _ = data
        critic = self.encoder.trainable_variables + self.decoder.trainable_variables
        generator = self.network.trainable_variables
        with tf.GradientTape(persistent=True) as tape:
            real = self.errors(images)
            generated = self.errors(self.network(keras.random.uniform((images.shape[0], CODE), -1, 1), training=True))
            loss = real - self.k * generated
        self.optimizer.apply(tape.gradient(loss, critic) + tape.gradient(generated, generator), critic + generator)
        self.k.assign(ops.clip(self.k + SPEED * (GAMMA * real - generated), 0, 1))
        return {"convergence": real + ops.absolute(GAMMA * real - generated)}


def compare_steps(side: int, filters: int, batch_size: int, rounds: int) -> list[dict]:
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    shapes = {"pixels, usual design": (side, side, 3), "pixels, ours": (side, side, 3), "encodings": (8, 8, 64)}
    jobs = {}
    for name, shape in shapes.items():
        model = UsualBEGAN(side, filters) if "usual" in name else BEGAN(shape, latent_dim=CODE)
        model.compile(optimizer=keras.optimizers.Adam(1e-4))
        model.optimizer.build(model.trainable_variables)
        batch = tf.constant(rng.normal(size=(batch_size, *shape)), tf.float32)
        jobs[name] = partial(tf.function(model.train_step), (batch, batch))
    times = best_times(jobs, rounds)
    return [{"on": name, "seconds": taken, "times": taken / times["encodings"]} for name, taken in times.items()]


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--side", type=int, default=64, help="side of the images; a power of two")
    parser.add_argument("--filters", type=int, default=FILTERS, help="filters of the usual design")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    rows = compare_steps(arguments.side, arguments.filters, arguments.batch_size, arguments.rounds)
    print(f"\n{'input and design':22}{'step (s)':>10}{'step / step on encodings':>26}")
    for row in rows:
        print(f"{row['on']:22}{row['seconds']:10.4f}{row['times']:26.1f}")
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
