"""How a level's weights are moved: Muon and Adam, each by its own measure, and the learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.level import Level
from stacked_autoencoder.muon import CLIP, ConvMuon, LearningRate
from stacked_autoencoder.principal import SMALLEST

PEAK_LEARNING_RATE = 1e-2
WARM_UP = 0.05  # share of the steps


class LevelMuon(ConvMuon):
    """Muon for all kernels of a level but those at its ends, which are Adam's, each at a rate of its own.

    Args:
        learning_rate: a number or a schedule.
        scales: `id` of a variable that Adam moves → factor on its learning rate. Biases are Adam's as well.
        unit: the loss before the first step. Losses range from 1e-5 to 1, and what is compared with a gradient must
            follow, so that one recipe fits all levels.
    """

    def __init__(self, learning_rate: LearningRate, *, scales: dict[int, float], unit: float) -> None:
        # One name for all: of variables with names of their own TensorFlow keeps something for good.
        super().__init__(learning_rate, epsilon=1e-7 * unit, global_clipnorm=CLIP * unit, name="level_muon")
        self.scales = scales

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return len(variable.shape) < 2 or id(variable) in self.scales

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        ours = self._trainable_variables[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * self.scales.get(id(ours), 1.0))


def optimizer_for(
    levels: Sequence[Level], inputs: np.ndarray, error: float, learning_rate: LearningRate, loss: float | None = None
) -> LevelMuon:
    """The optimizer of levels, chained, before the first step.

    Args:
        inputs: what the first of them sees, one batch.
        error: mean squared error at which they stand.
        learning_rate: a number or a schedule.
        loss: at which they stand, `error` by default.
    """
    unit = max(error if loss is None else loss, SMALLEST)
    return LevelMuon(learning_rate, scales=step_scales(levels, inputs, max(error, SMALLEST)), unit=unit)


def step_scales(levels: Sequence[Level], inputs: np.ndarray, error: float) -> dict[int, float]:
    """Learning rates of the layers that write an output, in units of what is left to correct.

    Adam moves every weight by about the learning rate, whatever the loss. Near a start whose error is a hundredth of
    the signal, such steps would shake the output by more than that error; scaled by it they don't, and the residual
    paths learn at full speed.
    """
    scales = {}
    relative = float(np.sqrt(error)) / max(float(inputs.std()), SMALLEST)
    for level in levels:
        encodings = level.encode(inputs)
        sides = ((level.encoder, encodings), (level.decoder, inputs))
        for (model, outputs), ends in zip(sides, level.ends, strict=True):
            for layer in map(model.get_layer, ends):
                scales |= {id(variable): relative * float(outputs.std()) for variable in layer.trainable_variables}
        inputs = encodings
    return scales


@keras.saving.register_keras_serializable("stacked_autoencoder")
class WarmCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up to `peak` and a cosine to zero, over `steps` steps.

    Keras's `CosineDecay` is the same, but branches: of every branch in a traced step TensorFlow keeps a copy for good.
    """

    def __init__(self, peak: float, steps: int) -> None:
        self.peak = peak
        self.steps = steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step, warm_up = ops.cast(step, "float32"), max(1, math.ceil(WARM_UP * self.steps))
        done = ops.clip((step - warm_up) / max(1, self.steps - warm_up), 0.0, 1.0)
        return self.peak * ops.where(step < warm_up, step / warm_up, 0.5 * (1 + ops.cos(math.pi * done)))

    def get_config(self) -> dict[str, float]:
        return {"peak": self.peak, "steps": self.steps}
