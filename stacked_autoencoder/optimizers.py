"""Muon for convolutions, and the schedule of the learning rate.

The optimizer uses few operations and few passes over each kernel, since their number determines how long a step of a
small level takes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.utils.tracing import graph_function

# For Muon's kernels (Liu et al. 2025, section 2.2). Muon's updates have a constant size, so without decay the kernels
# grow throughout training.
WEIGHT_DECAY = 0.1
CLIP = 1.0  # largest global gradient norm, in units of the loss before the first step
LEAST_NORM = 1e-24  # added to the squared norm of a matrix before a division
NEWTON_SCHULZ_STEPS = 3  # orthogonal enough for Muon, at little more than half the cost of the usual 5


LearningRate = float | keras.optimizers.schedules.LearningRateSchedule | None


def fixed_rate(optimizer: keras.optimizers.Optimizer) -> float | None:
    """Returns the learning rate of an optimizer, or `None` if it follows a schedule and so can't be set."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # unwraps a `LossScaleOptimizer`
    rate = optimizer.get_config().get("learning_rate")
    return rate if isinstance(rate, float) else None


@dataclass(frozen=True)
class Units:
    """The unit in which an optimizer moves a variable, so that its steps do not depend on the unit of the data.

    An optimizer with a fixed step size assumes that inputs and outputs of each layer have a mean near 0 and a standard
    deviation near 1. Therefore, a layer that reads data `x` of mean `m` and deviation `s`, and outputs `y` of deviation
    `o`, is trained as if it read `(x - m) / s` and output `y / o`. If the layer has the kernel `K` and the bias `b`,
    that layer has the kernel `K * s / o` and the bias `(b + m @ K) / o`.

    Attributes:
        size: the variable in units of the data divided by the variable in normalised units: `o / s` for a kernel, `o`
            for a bias. A number, or an array that broadcasts to the variable.
        mean: mean of the inputs `m`, an array that broadcasts to the kernel; `None` if it does not matter.
        bias: the bias of the layer, if there is a `mean`.
    """

    size: float | np.ndarray = 1.0
    mean: np.ndarray | None = None
    bias: keras.Variable | None = None


# A variable, its momentum, and Adam's velocity (`None` for variables that Muon updates).
Slots = tuple[keras.Variable, keras.Variable, keras.Variable | None]


@keras.saving.register_keras_serializable("stacked_autoencoder")
class ConvMuon(keras.optimizers.Optimizer):
    """Muon for convolution kernels, Adam for all other variables.

    Muon updates a weight matrix by the orthogonal matrix nearest to its momentum, so that it learns rare directions as
    fast as common ones. `keras.optimizers.Muon` uses Adam for convolutions. This class treats a kernel as the matrix
    that maps its receptive field to its filters.

    Gradients are summed over all devices before they are clipped. Keras clips the gradients of each device before the
    sum.

    Args:
        learning_rate: a number or a schedule.
        adam_beta_1, adam_beta_2, epsilon: of Adam, as in `keras.optimizers.Adam`.
        adam_lr_ratio: learning rate of Adam divided by that of Muon.
        weight_decay: decay of Muon's kernels, per step and unit of learning rate; `None` for no decay.
        global_clipnorm: largest norm of all gradients together; `None` for no limit. Networks without normalisation
            layers sometimes diverge without a limit.
        momentum, nesterov, ns_steps, rms_rate, muon_a, muon_b, muon_c: of Muon, as in `keras.optimizers.Muon`.
        name: name of the optimizer.

    Reference:
        Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025, "Muon is
        scalable for LLM training" (arXiv:2502.16982), section 2.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        epsilon: float = 1e-7,
        adam_lr_ratio: float = 1.0,
        weight_decay: float | None = WEIGHT_DECAY,
        global_clipnorm: float | None = CLIP,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = NEWTON_SCHULZ_STEPS,
        rms_rate: float | None = 0.2,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, global_clipnorm=global_clipnorm, name=name)
        self.adam_beta_1 = adam_beta_1
        self.adam_beta_2 = adam_beta_2
        self.epsilon = epsilon
        self.adam_lr_ratio = adam_lr_ratio
        self.momentum = momentum
        self.nesterov = nesterov
        self.ns_steps = ns_steps
        self.rms_rate = rms_rate
        self.muon_a, self.muon_b, self.muon_c = muon_a, muon_b, muon_c

    def uses_adam(self, variable: keras.Variable) -> bool:
        """Returns whether Adam updates a variable, rather than Muon."""
        return len(variable.shape) < 3

    def learning_rate_scale(self, variable: keras.Variable) -> float:
        """Returns the factor on the learning rate of a variable."""
        return self.adam_lr_ratio if self.uses_adam(variable) else 1.0

    def units_of(self, variable: keras.Variable) -> Units:
        """Returns the units in which a variable moves."""
        return Units()

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the momentum, and Adam's velocity, of each variable to train."""
        if self.built:
            return
        super().build(variables)
        slots: dict[int, Slots] = {}
        for variable in variables:
            momentum = self.add_variable_from_reference(variable, name="momentum")
            velocity = self.add_variable_from_reference(variable, name="velocity") if self.uses_adam(variable) else None
            slots[id(variable)] = variable, momentum, velocity
        self.slots = MappingProxyType(slots)  # TensorFlow tracks a `dict`, and rejects integer keys

    def apply(
        self, grads: Sequence[tf.Tensor | None], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        """Takes one step.

        Args:
            grads: gradients of this device, `None` for variables that don't change.
            trainable_variables: the variables, one for each gradient; by default those that the optimizer was built
                with.
        """
        if not self.built:
            self.build(list(trainable_variables))
        with tf.name_scope(self.name):  # names the operations in profiles
            known = [variable for variable, *_ in self.slots.values()]
            variables = known if trainable_variables is None else list(trainable_variables)
            pairs = [pair for pair in zip(grads, variables, strict=True) if pair[0] is not None]
            strategy, context = tf.distribute.get_strategy(), tf.distribute.get_replica_context()
            gradients = [tf.convert_to_tensor(gradient) for gradient, _ in pairs]
            if context is not None and context.num_replicas_in_sync > 1:
                gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = self.normalised(gradients, [variable for _, variable in pairs])
            if self.global_clipnorm:
                gradients, _ = tf.clip_by_global_norm(gradients, self.global_clipnorm)
            rate = tf.cast(self.learning_rate, tf.float32)
            step = tf.cast(self.iterations + 1, tf.float32)
            powers = [tf.pow(self.adam_beta_1, step), tf.pow(self.adam_beta_2, step)]  # once for all variables
            for gradient, (_, variable) in zip(gradients, pairs, strict=True):
                _, momentum, velocity = self.slots[id(variable)]
                scale, units = self.learning_rate_scale(variable), self.units_of(variable)
                arguments = [gradient, rate if scale == 1.0 else rate * scale, units.size, momentum.value]
                if velocity is None:
                    move = self._muon_step
                else:
                    move, arguments = self._adam_step, [*arguments, velocity.value, *powers]
                if units.mean is not None:
                    move, arguments = partial(_step_about_mean, move, units.mean), [units.bias.value, *arguments]
                # Each device updates its copy of the variable and of the slots.
                strategy.extended.update(variable.value, move, args=tuple(arguments), group=False)
                if variable.constraint is not None:
                    variable.assign(variable.constraint(variable))
        self.iterations.assign_add(1)

    def normalised(self, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
        """Returns the gradients with respect to the variables in normalised units."""
        of_variable = {id(variable): gradient for variable, gradient in zip(variables, gradients, strict=True)}
        result = []
        for variable, gradient in zip(variables, gradients, strict=True):
            units = self.units_of(variable)
            if units.mean is not None:
                gradient = gradient - units.mean * _of_inputs(of_variable[id(units.bias)])
            result.append(gradient * units.size)
        return result

    def _adam_step(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor,
        learning_rate: tf.Tensor,
        size: float,
        momentum: tf.Variable,
        velocity: tf.Variable,
        power_1: tf.Tensor,
        power_2: tf.Tensor,
    ) -> None:
        """Updates a variable with TensorFlow's fused operation."""
        cast = partial(tf.cast, dtype=variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=cast(power_1),
            beta2_power=cast(power_2),
            lr=cast(learning_rate * size),
            beta1=cast(self.adam_beta_1),
            beta2=cast(self.adam_beta_2),
            epsilon=cast(self.epsilon),
            grad=cast(gradient),
        )

    def _muon_step(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor,
        learning_rate: tf.Tensor,
        size: float | np.ndarray,
        momentum: tf.Variable,
    ) -> None:
        """Updates a kernel, with weight decay."""
        # As tensors, since a traced function keeps all other arguments in memory.
        tensors = [tf.convert_to_tensor(value) for value in (variable, gradient, momentum, learning_rate)]
        tensors.append(tf.cast(size, variable.dtype))
        moved, moment = muon_step_of_shape(tuple(variable.shape))(
            *tensors,
            momentum=self.momentum,
            nesterov=self.nesterov,
            rms_rate=self.rms_rate,
            weight_decay=self.weight_decay or 0.0,
            steps=self.ns_steps,
            factors=(self.muon_a, self.muon_b, self.muon_c),
        )
        momentum.assign(moment)
        variable.assign(moved)

    def get_config(self) -> dict[str, Any]:
        names = ("adam_beta_1", "adam_beta_2", "epsilon", "adam_lr_ratio", "momentum", "nesterov", "ns_steps")
        names += ("rms_rate", "muon_a", "muon_b", "muon_c")
        return _accepted(type(self), super().get_config()) | {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> ConvMuon:
        """Creates the optimizer from its configuration. Further arguments of Keras's Muon (version 0.1) are ignored."""
        return super().from_config(_accepted(cls, config), custom_objects)


def _accepted(kind: type[ConvMuon], config: dict[str, Any]) -> dict[str, Any]:
    """Returns the part of a configuration that the constructor of an optimizer accepts."""
    names = inspect.signature(kind.__init__).parameters
    return {name: value for name, value in config.items() if name in names}


def _of_inputs(bias: tf.Tensor) -> tf.Tensor:
    """Returns the part of a bias that is added to the product of inputs and kernel: a GRU has a second bias."""
    return bias if len(bias.shape) == 1 else bias[0]


def _step_about_mean(
    move: Callable[..., None], mean: np.ndarray, variable: tf.Variable, bias: tf.Variable, *arguments: Any
) -> None:
    """Moves a kernel and changes the bias, so that the outputs for the mean of the inputs stay the same."""
    before = tf.identity(variable)
    move(variable, *arguments)
    shift = tf.reduce_sum(mean * (variable - before), axis=list(range(len(variable.shape) - 1)))
    bias.assign_sub(shift if len(bias.shape) == 1 else tf.stack([shift, tf.zeros_like(shift)]))


@cache
def muon_step_of_shape(shape: tuple[int, ...]) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Returns `muon_step` as a graph for kernels of one shape.

    All kernels of a shape share one trace, in all optimizers. With a trace for each kernel, compiling the training step
    takes much longer.
    """
    return graph_function(muon_step, autograph=False)


def muon_step(
    kernel: tf.Tensor,
    gradient: tf.Tensor,
    moment: tf.Tensor,
    learning_rate: tf.Tensor,
    size: tf.Tensor,
    *,
    momentum: float,
    nesterov: bool,
    rms_rate: float | None,
    weight_decay: float,
    steps: int,
    factors: tuple[float, float, float],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a kernel and its momentum after one step. `size` is that of its `Units`."""
    moment = momentum * moment + gradient
    direction = gradient + momentum * moment if nesterov else moment
    matrix = ops.reshape(direction, (-1, direction.shape[-1]))
    # The root mean square of an update becomes about that of Adam, for kernels of any shape.
    rate = learning_rate if rms_rate is None else learning_rate * rms_rate * math.sqrt(max(matrix.shape))
    update = ops.reshape(orthogonalised(matrix, steps, factors, rate), kernel.shape)
    decayed = (1.0 - learning_rate * weight_decay) * kernel if weight_decay else kernel
    return decayed - size * update, moment


def orthogonalised(
    matrix: tf.Tensor, steps: int, factors: tuple[float, float, float], scale: float | tf.Tensor = 1.0
) -> tf.Tensor:
    """Returns approximately the nearest orthogonal matrix, times `scale`.

    It computes Keras's `zeropower_via_newtonschulz5` with the Gram matrix of the shorter side. Each Newton-Schulz
    iteration multiplies the matrix by `a + b * gram + c * gram**2`, and these factors commute. So only the first and
    the last product involve the longer side, which for a 3x3 convolution is nine times the shorter one. The norm that
    the matrix is divided by is the trace of the Gram matrix.

    Args:
        matrix: 2 dimensions.
        steps: number of iterations.
        factors: `(a, b, c)`.
        scale: factor on the result.

    Reference:
        Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    is_tall = matrix.shape[0] >= matrix.shape[1]
    gram = tf.matmul(matrix, matrix, transpose_a=is_tall, transpose_b=not is_tall)
    normalised = 1.0 / (tf.linalg.trace(gram) + LEAST_NORM)  # the 1e-7 that Keras adds can exceed the norm
    gram = normalised * gram
    factor = product = _factor(gram, *factors)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor
        factor = _factor(gram, *factors)
        product = product @ factor
    product = scale * tf.sqrt(normalised) * product
    return matrix @ product if is_tall else product @ matrix


def _factor(gram: tf.Tensor, a: float, b: float, c: float) -> tf.Tensor:
    """Returns the factor of one iteration."""
    return a * tf.eye(gram.shape[0]) + b * gram + c * (gram @ gram)


PEAK_LEARNING_RATE = 1e-2
WARM_UP = 0.05  # share of all steps


class LevelMuon(ConvMuon):
    """Muon for the kernels of a level, except those of its output layers, which Adam updates with scaled rates.

    Args:
        learning_rate: a number or a schedule.
        scales: `id` of a variable that Adam updates → factor on its learning rate. Adam also updates biases.
        start_loss: the loss before the first step, by which gradients are divided. Losses depend on the unit of the
            data and on how well PCA describes them.
        units: `id` of a variable → its `Units`.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        scales: Mapping[int, float],
        start_loss: float,
        units: Mapping[int, Units] = MappingProxyType({}),
    ) -> None:
        # Always the same name, since TensorFlow never frees some of the memory of each new name.
        super().__init__(learning_rate, global_clipnorm=CLIP, name="level_muon")
        self.start_loss = start_loss
        self.scales, self.units = MappingProxyType(dict(scales)), MappingProxyType(dict(units))

    def units_of(self, variable: keras.Variable) -> Units:
        return self.units.get(id(variable), Units())

    def normalised(self, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
        return [gradient / self.start_loss for gradient in super().normalised(gradients, variables)]

    def uses_adam(self, variable: keras.Variable) -> bool:
        return len(variable.shape) < 2 or variable.name == "bias" or id(variable) in self.scales  # a GRU has two biases

    def learning_rate_scale(self, variable: keras.Variable) -> float:
        return self.scales.get(id(variable), 1.0)


@keras.saving.register_keras_serializable("stacked_autoencoder")
class WarmCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate with a linear warm-up to `peak` and a cosine decay to zero.

    It computes the same as `keras.optimizers.schedules.CosineDecay`, but without branches. TensorFlow keeps the graph
    of each branch of a traced step in memory.

    Args:
        peak: the largest learning rate, which the warm-up reaches after 5 % of the steps.
        steps: number of steps in all.

    Reference:
        Loshchilov and Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts", equation 5.
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
