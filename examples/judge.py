"""What examples and benchmarks of heads share: a judge of generated clothes, an autoencoder, a Gaussian."""

import time

import keras
import numpy as np
from keras import layers

from stacked_autoencoder import Autoencoder, ConvLevel, metrics

SIDE = 28
BATCH = 128
FEATURES = 64


def train_judge(images: np.ndarray, labels: np.ndarray, epochs: int = 4) -> keras.Model:
    """A classifier of real images, `(N, 28, 28, 1)` in [0, 1] → `(N, 64)` features and probabilities of classes.

    Args:
        images: in [0, 1], 28 pixels wide or a multiple.
        labels: of these.
        epochs: of its training.
    """
    keras.utils.set_random_seed(0)
    inputs = hidden = keras.Input((SIDE, SIDE, 1))
    for filters in (32, 64):
        hidden = layers.Conv2D(filters, 3, padding="same", activation="relu")(hidden)
        hidden = layers.MaxPooling2D()(hidden)
    hidden = layers.Dropout(0.4)(layers.Flatten()(hidden))
    features = layers.Dense(FEATURES, activation="relu")(hidden)
    classes = layers.Dense(10, activation="softmax")(layers.Dropout(0.3)(features))
    net = keras.Model(inputs, classes)
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, epochs * -(-len(images) // BATCH))
    net.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
    net.fit(shrunk(images), labels, batch_size=BATCH, epochs=epochs, verbose=0)
    return keras.Model(inputs, [features, classes])


class Judge:
    """Says how near generated images come to real ones, by what a classifier that never saw them makes of both.
    Args:
        net: of `train_judge`.
        test_images: in [0, 1], 28 pixels wide or a multiple, real ones that the net wasn't trained on.
        test_labels: of these.

    Attributes:
        accuracy: of the test images.
    """

    def __init__(self, net: keras.Model, test_images: np.ndarray, test_labels: np.ndarray) -> None:
        self.net = net
        self.test_features, classes = self.look(test_images)
        self.accuracy = float(np.mean(classes == test_labels))

    def look(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(N, 64)` features and `(N,)` classes of images in [0, 1]."""
        features, classes = self.net.predict(shrunk(np.clip(images, 0, 1)), batch_size=500, verbose=0)
        return features, classes.argmax(axis=1)

    def row(self, images: np.ndarray, asked: np.ndarray | None = None) -> dict[str, float]:
        """The distances of generated images from the test images, how much they differ, and how many are as asked.

        `spread` is the mean squared distance of two of their features, over that of two test images: 0 where all
        images are one ("mode collapse"), 1 for images as different as real ones.
        """
        features, classes = self.look(images)
        result = {
            "frechet": metrics.frechet_distance(features, self.test_features),
            "kernel": metrics.kernel_distance(features, self.test_features),
            "spread": float(features.var(axis=0).sum() / self.test_features.var(axis=0).sum()),
        }
        return result if asked is None else result | {"asked": float(np.mean(classes == asked))}


def shrunk(images: np.ndarray) -> np.ndarray:
    """`(N, H, W, 1)`, so many times 28 pixels wide → `(N, 28, 28, 1)`, the mean of every patch."""
    patch = images.shape[1] // SIDE
    return images.reshape(-1, SIDE, patch, SIDE, patch, 1).mean(axis=(2, 4))


def train_autoencoder(
    images: np.ndarray, valid_images: np.ndarray, epochs: int, side: int = 7, n_out: int = 8, n_levels: int = 1
) -> tuple[Autoencoder, float]:
    """A stack to encodings `(side, side, n_out)`, and the seconds that its training took."""
    keras.utils.set_random_seed(0)
    shape = images.shape[1:]
    halvings = (shape[0] // side).bit_length() - 1
    levels = [ConvLevel(n_out, halvings // n_levels, size=32 << index) for index in range(n_levels)]
    sae = Autoencoder(shape=shape, levels=levels)
    began = time.perf_counter()
    sae.train(images, epochs=epochs, validation_data=valid_images, batch_size=BATCH, verbose=0)
    return sae, time.perf_counter() - began


def gaussian(values: np.ndarray, count: int) -> np.ndarray:
    """`count` draws of one Gaussian with the mean and covariance of values `(N, …)`."""
    flat = values.reshape(len(values), -1)
    rng = np.random.default_rng(0)
    made = rng.multivariate_normal(flat.mean(axis=0), np.cov(flat, rowvar=False), count, method="eigh")
    return made.reshape(count, *values.shape[1:]).astype(np.float32)
