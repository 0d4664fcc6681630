"""Weights averaged over training, which draw better than those of any one step."""

from __future__ import annotations

import keras
import tensorflow as tf

EXPONENT = 6.94  # the average reaches back over a tenth of all steps so far


def follow(averaged: keras.Model, network: keras.Model, step: tf.Tensor) -> None:
    """Moves the average towards the network by the share that is due at this step, counted from 1.

    The share falls as training goes on, so that there is no length to choose (Karras et al. 2024, "Analyzing and
    improving the training dynamics of diffusion models", arXiv:2312.02696, section 3.1).
    """
    kept = (1 - 1 / step) ** (EXPONENT + 1)
    for average, weight in zip(averaged.variables, network.variables, strict=True):
        average.assign(weight + kept * (average - weight))
