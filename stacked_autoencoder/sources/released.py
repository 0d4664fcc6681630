"""Python functions inside a `tf.data` pipeline that are let go with it.

TensorFlow keeps each such function, and with it all the images that it can reach, as long as the graph lives under
which it came into the pipeline; the one that is there by default lives until the process ends.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf


class Released:
    """Calls a function for as long as the dataset lives that it was made for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] | None = function
        self.graph: tf.Graph | None = tf.Graph()

    def __call__(self, *arguments: Any) -> Any:
        if self.function is None:
            raise RuntimeError("The dataset that this function belongs to is gone.")
        return self.function(*arguments)

    def release(self) -> None:
        self.function = self.graph = None


def released(function: Callable[..., Any], make: Callable[[Released], tf.data.Dataset]) -> tf.data.Dataset:
    """A dataset that calls a function, which goes when it, all that is made of it and their iterators are gone.

    Args:
        make: what calls the function → the dataset.

    Example:
        >>> released(check, lambda check: dataset.map(lambda batch: tf.numpy_function(check, [batch], tf.uint8)))
    """
    held = Released(function)
    with held.graph.as_default(), tf.__internal__.eager_context.eager_mode():
        dataset = make(held)
    weakref.finalize(dataset, held.release).atexit = False
    return dataset


def generated(generator: Callable[[], Iterator[Any]], signature: Any) -> tf.data.Dataset:
    """What a generator yields, as `tf.data.Dataset.from_generator` has it."""
    return released(generator, lambda held: tf.data.Dataset.from_generator(held, output_signature=signature))
