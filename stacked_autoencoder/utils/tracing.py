"""Functions that are traced to graphs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf


def graph_function(function: Callable[..., Any], **options: Any) -> Any:
    """Returns `tf.function(function)` for a function that is created again for each model.

    TensorFlow counts how often functions with the same code are traced, and warns of retracing after a few models,
    although each function is traced once. A `partial` has no code, so TensorFlow counts its traces separately.

    Args:
        function: the function.
        options: arguments of `tf.function`.
    """
    return tf.function(partial(function), reduce_retracing=True, **options)
