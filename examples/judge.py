"""Code that the examples and benchmarks of heads share: a classifier that scores generated images, and baselines."""

import time

import keras
import numpy as np
from keras import layers

from stacked_autoencoder import Autoencoder, ConvLevel, metrics

SIDE = 28
BATCH = 128
FEATURES = 64
LEARNING_RATE = 2e-3


def train_judge(images: np.ndarray, labels: np.ndarray, epochs: int = 4) -> keras.Model:
    """Trains a classifier of real images.

    Args:
        images: in [0, 1], with a side of 28 pixels or a multiple.
        labels: integers from 0 to 9.
        epochs: number of training epochs.

    Returns:
        A model `(N, 28, 28, 1)` → features `(N, 64)` and class probabilities `(N, 10)`.
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
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, epochs * -(-len(images) // BATCH))
    net.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
    net.fit(shrink(images), labels, batch_size=BATCH, epochs=epochs, verbose=0)
    return keras.Model(inputs, [features, classes])


class Judge:
    """Scores generated images by the features and classes that a classifier of real images finds in them.

    Args:
        net: the result of `train_judge`. It has never seen a generated image.
        test_images: real images in [0, 1] that `net` wasn't trained on, with a side of 28 pixels or a multiple.
        test_labels: their labels.

    Attributes:
        accuracy: accuracy of `net` on the test images.
    """

    def __init__(self, net: keras.Model, test_images: np.ndarray, test_labels: np.ndarray) -> None:
        self.net = net
        self.test_features, classes = self.classify(test_images)
        self.accuracy = float(np.mean(classes == test_labels))

    def classify(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the features `(N, 64)` and the most probable classes `(N,)` of images in [0, 1]."""
        features, classes = self.net.predict(shrink(np.clip(images, 0, 1)), batch_size=500, verbose=0)
        return features, classes.argmax(axis=1)

    def row(self, images: np.ndarray, asked: np.ndarray | None = None) -> dict[str, float]:
        """Returns the scores of generated images as a row of a table.

        Args:
            images: generated images.
            asked: the class that each image should have.

        Returns:
            `frechet` and `kernel`, the distances from the test images. `spread`, the variance of the features divided
            by that of the test images: 0 if all images are equal ("mode collapse"), 1 if they vary as much as real
            ones. With `asked` also `asked`, the share of images that have the class asked for.
        """
        features, classes = self.classify(images)
        result = {
            "frechet": metrics.frechet_distance(features, self.test_features),
            "kernel": metrics.kernel_distance(features, self.test_features),
            "spread": float(features.var(axis=0).sum() / self.test_features.var(axis=0).sum()),
        }
        return result if asked is None else result | {"asked": float(np.mean(classes == asked))}


def shrink(images: np.ndarray) -> np.ndarray:
    """Averages square patches of images so that they are 28 pixels wide and high, `(N, 28, 28, 1)`."""
    patch = images.shape[1] // SIDE
    return images.reshape(-1, SIDE, patch, SIDE, patch, 1).mean(axis=(2, 4))


def train_autoencoder(
    images: np.ndarray, valid_images: np.ndarray, epochs: int, side: int = 7, n_out: int = 8, n_levels: int = 1
) -> tuple[Autoencoder, float]:
    """Trains a stack with encodings of `(side, side, n_out)`; returns it and the seconds that training took."""
    keras.utils.set_random_seed(0)
    shape = images.shape[1:]
    halvings = (shape[0] // side).bit_length() - 1
    levels = [ConvLevel(n_out, halvings // n_levels, size=32 << index) for index in range(n_levels)]
    sae = Autoencoder(shape=shape, levels=levels)
    began = time.perf_counter()
    sae.train(images, epochs=epochs, validation_data=valid_images, batch_size=BATCH, verbose=0)
    return sae, time.perf_counter() - began


def gaussian(values: np.ndarray, count: int) -> np.ndarray:
    """Returns `count` samples of the normal distribution that has the mean and covariance of `values`, `(N, …)`."""
    flat = values.reshape(len(values), -1)
    rng = np.random.default_rng(0)
    samples = rng.multivariate_normal(flat.mean(axis=0), np.cov(flat, rowvar=False), count, method="eigh")
    return samples.reshape(count, *values.shape[1:]).astype(np.float32)
