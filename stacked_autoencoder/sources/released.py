"""Python functions inside a `tf.data` pipeline that are let go with it.

TensorFlow keeps each such function until the process ends, and with it all the images that it can reach.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf


class Released:
    """Calls a function for as long as the dataset lives that it was made for.

    Example:
        >>> check = Released(check)
        >>> check.with_dataset(dataset.map(lambda images: tf.numpy_function(check, [images], tf.uint8)))
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] | None = function

    def __call__(self, *arguments: Any) -> Any:
        if self.function is None:
            raise RuntimeError("The dataset that this function belongs to is gone.")
        return self.function(*arguments)

    def with_dataset(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Lets the function go when `dataset`, all that is made of it and their iterators are gone."""
        weakref.finalize(dataset, self._release).atexit = False
        return dataset

    def _release(self) -> None:
        self.function = None


def generated(generator: Callable[[], Iterator[Any]], signature: Any) -> tf.data.Dataset:
    """What a generator yields, as `tf.data.Dataset.from_generator` has it."""
    released = Released(generator)
    return released.with_dataset(tf.data.Dataset.from_generator(released, output_signature=signature))
