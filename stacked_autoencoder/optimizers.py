"""Muon for convolutions, in few passes over a kernel and few operations: in small levels their number is the cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from stacked_autoencoder.utils.checks import SMALLEST

# Of Muon's kernels (Liu et al. 2025, section 2.2). Each step moves them by as much, so without it they grow for as long
# as training goes on: on Fashion-MNIST's encodings, after 5 epochs, 0.0632 without it, 0.0589 with 0.1 and with 0.3.
WEIGHT_DECAY = 0.1


CLIP = 1.0  # global gradient norm, in units of the loss before the first step


NEWTON_SCHULZ_STEPS = 3  # of Muon: near enough to orthogonal, at little more than half the cost of the usual 5


LearningRate = float | keras.optimizers.schedules.LearningRateSchedule | None


@keras.saving.register_keras_serializable("stacked_autoencoder")
class ConvMuon(keras.optimizers.Muon):
    """Muon (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982) for convolutions, Adam for everything else.

    Muon moves a weight matrix by the orthogonal matrix nearest to its momentum, so that rare directions move as far as
    common ones. Keras's leaves convolutions to Adam; here a kernel is the matrix from all that it sees to its filters.

    Args:
        learning_rate: a number or a schedule.
        global_clipnorm: without clipping one setting in a few diverges, since nothing in these networks normalises.
        adam_weight_decay, weight_decay, ns_steps, options: as in Keras's Muon, some with other defaults.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        adam_weight_decay: float | None = None,
        weight_decay: float = WEIGHT_DECAY,
        global_clipnorm: float = CLIP,
        ns_steps: int = NEWTON_SCHULZ_STEPS,
        **options: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            adam_weight_decay=adam_weight_decay,
            weight_decay=weight_decay,
            global_clipnorm=global_clipnorm,
            ns_steps=ns_steps,
            **options,
        )

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return len(variable.shape) < 3

    def _clip_gradients(self, gradients: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """Clips their sum over all devices, where Keras clips those of each before it sums them."""
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        if self.global_clipnorm and self.global_clipnorm > 0:
            return tf.clip_by_global_norm(gradients, self.global_clipnorm)[0]
        return super()._clip_gradients(gradients)

    def _all_reduce_sum_gradients(self, gradients: Any) -> Any:
        """They are summed already. On one device TensorFlow would keep the whole traced step for good."""
        return gradients

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Adam's alone: that of Muon is part of its step."""
        super()._apply_weight_decay([variable for variable in variables if self._should_use_adamw(variable)])

    def _distributed_tf_update_step(self, distribution: Any, gradients: Any, learning_rate: tf.Tensor) -> None:
        """Keras's, which works out the powers of Adam's coefficients anew for every variable."""
        step = tf.cast(self.iterations + 1, tf.float32)
        self._power_1, self._power_2 = tf.pow(self.adam_beta_1, step), tf.pow(self.adam_beta_2, step)
        super()._distributed_tf_update_step(distribution, gradients, learning_rate)
        del self._power_1, self._power_2  # which belong to a graph

    def _adamw_update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor, m: keras.Variable, v: keras.Variable
    ) -> None:
        """Keras's step, in the one operation that TensorFlow has for it."""
        cast = partial(tf.cast, dtype=variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.value.handle,
            v=v.value.handle,
            beta1_power=cast(self._power_1),
            beta2_power=cast(self._power_2),
            lr=cast(learning_rate),
            beta1=cast(self.adam_beta_1),
            beta2=cast(self.adam_beta_2),
            epsilon=cast(self.epsilon),
            grad=cast(tf.convert_to_tensor(gradient)),
        )

    def _muon_update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor, m: keras.Variable
    ) -> None:
        """Keras's step, with the decay, in fewer passes over the kernel."""
        decays = self.weight_decay and self._use_weight_decay(variable)
        # As tensors: what else it is given, a traced function keeps.
        tensors = [tf.convert_to_tensor(value) for value in (variable, gradient, m, learning_rate)]
        moved, moment = muon_step(
            *tensors,
            momentum=self.momentum,
            nesterov=self.nesterov,
            rms_rate=self.rms_rate,
            weight_decay=self.weight_decay if decays else 0.0,
            steps=self.ns_steps,
            factors=(self.muon_a, self.muon_b, self.muon_c),
        )
        self.assign(m, moment)
        self.assign(variable, moved)


@partial(tf.function, autograph=False)
def muon_step(
    kernel: tf.Tensor,
    gradient: tf.Tensor,
    moment: tf.Tensor,
    learning_rate: tf.Tensor,
    *,
    momentum: float,
    nesterov: bool,
    rms_rate: float | None,
    weight_decay: float,
    steps: int,
    factors: tuple[float, float, float],
) -> tuple[tf.Tensor, tf.Tensor]:
    """A kernel and its momentum after a step.

    Traced once for all kernels of a shape, whoever trains them: traced for each, it took two fifths of the time that
    passed before a level's first step.
    """
    moment = momentum * moment + gradient
    direction = gradient + momentum * moment if nesterov else moment
    matrix = ops.reshape(direction, (-1, direction.shape[-1]))
    # Makes the root mean square of an update about that of Adam's, whatever the shape of the kernel.
    rate = learning_rate if rms_rate is None else learning_rate * rms_rate * math.sqrt(max(matrix.shape))
    update = ops.reshape(orthogonalised(matrix, steps, factors, rate), kernel.shape)
    kept = (1.0 - learning_rate * weight_decay) * kernel if weight_decay else kernel
    return kept - update, moment


def orthogonalised(
    matrix: tf.Tensor, steps: int, factors: tuple[float, float, float], scale: float | tf.Tensor = 1.0
) -> tf.Tensor:
    """Keras's `zeropower_via_newtonschulz5`, on the Gram matrix of the shorter side; times `scale`.

    Every iterate is the one before times `a + b * gram + c * gram**2`, and these factors commute. So only the first
    product and the last see the longer side, which for a 3x3 convolution is nine times the shorter. The Gram matrix's
    trace tells the norm to divide by, which is left to the small matrices, too.
    """
    is_tall = matrix.shape[0] >= matrix.shape[1]
    gram = tf.matmul(matrix, matrix, transpose_a=is_tall, transpose_b=not is_tall)
    normalised = 1.0 / (tf.linalg.trace(gram) + SMALLEST**2)  # Keras adds 1e-7 to the norm, more than some have
    gram = normalised * gram
    factor = product = _factor(gram, *factors)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor
        factor = _factor(gram, *factors)
        product = product @ factor
    product = scale * tf.sqrt(normalised) * product
    return matrix @ product if is_tall else product @ matrix


def _factor(gram: tf.Tensor, a: float, b: float, c: float) -> tf.Tensor:
    """By which one iteration multiplies."""
    return a * tf.eye(gram.shape[0]) + b * gram + c * (gram @ gram)


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
