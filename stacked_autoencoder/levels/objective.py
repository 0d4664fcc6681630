"""What a level is trained to minimise: loss, penalty, corruption and KL divergence.

The saved Keras models contain none of these. `autoencoder.json` stores them by name and plain arguments. For safety
they are created only from the names in `KNOWN`, or from objects that the running program has registered with Keras.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from stacked_autoencoder.layers.noise import Mask, SaltAndPepper
from stacked_autoencoder.layers.penalties import KLSparsity
from stacked_autoencoder.metrics import SSIMWithL1, ssim_loss
from stacked_autoencoder.utils.checks import did_you_mean, non_negative

Loss = str | Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | keras.losses.Loss


_LOSS_CLASSES = [
    *("BinaryCrossentropy", "BinaryFocalCrossentropy", "CosineSimilarity", "Huber", "KLDivergence", "LogCosh"),
    *("MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError", "MeanSquaredLogarithmicError", "Poisson"),
]


_LOSS_FUNCTIONS = [
    *("mean_squared_error", "mean_absolute_error", "mean_squared_logarithmic_error", "huber", "log_cosh", "poisson"),
    *("binary_crossentropy", "binary_focal_crossentropy", "cosine_similarity", "kl_divergence"),
]


_NOISES = [
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *("RandomBrightness", "RandomColorJitter", "RandomContrast", "RandomErasing", "RandomGaussianBlur"),
    *("RandomGrayscale", "RandomHue", "RandomPosterization", "RandomSaturation", "RandomSharpness"),
]


# Names that each argument accepts. They are recreated from their arguments, so the tables list classes whose arguments
# are all numbers.
KNOWN: dict[str, dict[str, Any]] = {
    "loss": {"mse": keras.losses.mean_squared_error, "mae": keras.losses.mean_absolute_error}
    | {name: getattr(keras.losses, name) for name in _LOSS_CLASSES + _LOSS_FUNCTIONS}
    | {"ssim_loss": ssim_loss, "SSIMWithL1": SSIMWithL1},
    "penalty": {name: getattr(keras.regularizers, name) for name in ("L1", "L2", "L1L2", "OrthogonalRegularizer")}
    | {"KLSparsity": KLSparsity},
    "corruption": {name: getattr(keras.layers, name) for name in _NOISES}
    | {"Mask": Mask, "SaltAndPepper": SaltAndPepper},
}


# Losses that average one number per value. They can be computed with single values left out.
BY_VALUE = {
    *("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredLogarithmicError", "Huber"),
    *("BinaryCrossentropy", "BinaryFocalCrossentropy", "LogCosh", "Poisson"),
    *("mean_squared_error", "mean_absolute_error", "mean_squared_logarithmic_error", "huber", "log_cosh", "poisson"),
    *("binary_crossentropy", "binary_focal_crossentropy"),
}


WITHIN_UNIT_INTERVAL = ("binary_crossentropy", "BinaryCrossentropy", "binary_focal_crossentropy")


class Objective:
    """What a level is trained to minimise.

    Args:
        loss: reconstruction loss between targets and the decoder's output: the name of a Keras loss, a
            `keras.losses.Loss`, or a function such as `metrics.ssim_loss`.
        penalty: a Keras regularizer of the encodings, or `KLSparsity`. A regularizer's value is divided by the batch
            size. `KLSparsity` gives one value per batch.
        corruption: a Keras layer that is applied to the inputs in training. The loss compares with the clean inputs.
        kl_weight: if above 0, the encoder outputs a normal distribution in training. Its Kullback-Leibler divergence
            from the standard normal distribution is added to the loss with this weight, per image and divided by the
            number of input values of the level. With `kl_weight=1` and the mean squared error, the loss is the evidence
            lower bound for observations with a variance of 1/2.
        nested: whether the decoder receives random prefixes of the features in training steps. Losses are weighted so
            that all prefixes contribute equally at first. Validation measures the loss with all features.

    Raises:
        ValueError: an argument is unknown, or cannot be stored in `autoencoder.json`.
    """

    def __init__(
        self,
        loss: Loss = "mse",
        penalty: str | keras.regularizers.Regularizer | None = None,
        corruption: keras.layers.Layer | None = None,
        kl_weight: float = 0.0,
        nested: bool = False,
    ) -> None:
        self.kl_weight = non_negative("kl_weight", kl_weight)
        self.nested = bool(nested)
        self.loss = resolve("loss", loss)
        self.penalty = None if penalty is None else resolve("penalty", penalty)
        self.corruption = None if corruption is None else resolve("corruption", corruption)
        self.config = {
            "loss": describe("loss", self.loss),
            "penalty": None if penalty is None else describe("penalty", self.penalty),
            "corruption": None if corruption is None else describe("corruption", self.corruption),
            "kl_weight": self.kl_weight,
            "nested": self.nested,
        }

    def __reduce__(self) -> tuple[Callable[..., Objective], tuple[Any, ...]]:
        # Unpickling imports the modules of these functions and classes, which registers the user's own with Keras.
        parts = [self.loss, self.penalty, self.corruption]
        kinds = [part if inspect.isfunction(part) else type(part) for part in parts if part is not None]
        return _rebuild, (type(self), self.config, kinds)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that differ from the defaults, as plain values."""
        defaults = dict.fromkeys(self.config) | {"loss": "mean_squared_error", "kl_weight": 0.0, "nested": False}
        return {name: value for name, value in self.config.items() if value != defaults[name]}

    @property
    def is_plain(self) -> bool:
        """Whether the validation loss is the mean squared error and nothing else."""
        return not self.get_config().keys() - {"nested"}

    @property
    def loss_name(self) -> str:
        """Name of the loss function or class."""
        loss = self.config["loss"]
        return loss if isinstance(loss, str) else loss["name"]

    @property
    def is_within_unit_interval(self) -> bool:
        """Whether the loss compares probabilities, so that images must lie in [0, 1]."""
        return self.loss_name in WITHIN_UNIT_INTERVAL

    def check_by_value(self) -> None:
        """Raises `ValueError` unless the loss is a mean over values, so that single values can be left out."""
        if self.loss_name not in BY_VALUE:
            raise ValueError(
                '`missing="ignore"` leaves single values out of the loss of the first level, which is impossible with '
                f'this loss. Use `loss="mse"`, `loss="mae"` or another of {", ".join(sorted(BY_VALUE))}, or use '
                f'`missing="error"`. Received: loss={self.loss_name!r}'
            )

    def of_reconstruction(
        self,
        targets: tf.Tensor,
        outputs: tf.Tensor,
        mask: tf.Tensor | None = None,
        weights: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the reconstruction loss of a batch, a scalar.

        Args:
            targets: float tensor `(N, …)`.
            outputs: the reconstructions, in the shape of the targets.
            mask: boolean, `(N, timesteps)` or in the shape of the targets: which steps or values count. By default all
                count.
            weights: `(N,)`, factors of the losses of the images. By default all are 1.
        """
        if mask is None and self.loss is keras.losses.mean_squared_error:
            # One sum over all values. Keras averages over the three channels first, which makes a training step 3 %
            # slower.
            error = ops.subtract(outputs, targets)
            if weights is not None:
                error = error * ops.sqrt(ops.reshape(weights, (-1,) + (1,) * (len(error.shape) - 1)))
            return 2.0 * tf.nn.l2_loss(error) / ops.cast(ops.size(error), error.dtype)
        if mask is not None and len(mask.shape) == len(targets.shape):
            # Keras averages over the last axis, so add one. Targets that don't count may be NaN.
            targets, outputs = ops.where(mask, targets, 0.0)[..., None], outputs[..., None]
        losses = (self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss)(targets, outputs)
        if weights is not None:
            losses = losses * ops.reshape(weights, (-1,) + (1,) * (len(losses.shape) - 1))
        if mask is None:
            return ops.mean(losses)
        mask = ops.cast(mask, losses.dtype)
        return ops.sum(losses * mask) / ops.maximum(ops.sum(mask), 1.0)

    def of_code(self, code: tf.Tensor) -> tf.Tensor:
        """Returns the penalty of a batch of encodings, a scalar."""
        value = self.penalty(code)
        return value if isinstance(self.penalty, KLSparsity) else value / ops.cast(ops.shape(code)[0], code.dtype)


def _rebuild(kind: type[Objective], config: dict[str, Any], _: Sequence[Any]) -> Objective:
    """Recreates an objective that was pickled or copied."""
    return kind(**config)


def resolve(argument: str, value: Any) -> Any:
    """Returns the function or object for a name or description, as given by a user or by `autoencoder.json`."""
    if isinstance(value, Mapping):
        return _lookup(argument, value["name"])(**_arguments(argument, value))
    if not isinstance(value, str):
        if not callable(value) or inspect.isclass(value):
            raise ValueError(
                f"`{argument}` must be a name, a function or an object. Call a class to create an object, such as "
                f"`keras.losses.Huber()`. Received: {argument}={value!r}"
            )
        return value
    known_object = _lookup(argument, {"l1": "L1", "l2": "L2", "l1_l2": "L1L2"}.get(value, value))
    return known_object() if inspect.isclass(known_object) else known_object


def describe(argument: str, value: Any) -> str | dict[str, Any]:
    """Returns the name of a function, or name and arguments of an object, as `autoencoder.json` stores them."""
    kind = value if inspect.isfunction(value) else type(value)
    names = [name for name, known in KNOWN[argument].items() if known is kind]
    name = names[-1] if names else keras.saving.get_registered_name(kind)
    if not names and keras.saving.get_registered_object(name) is not kind:
        raise ValueError(
            f"`{argument}` is a {kind.__name__}, which `Autoencoder.load` could not recreate. Register the class or "
            "function: put `@keras.saving.register_keras_serializable()` above its definition. No registration is "
            f"needed for {', '.join(KNOWN[argument])}. Received: {argument}={value!r}"
        )
    if kind is value:
        return name
    # Keras 3.15's `Huber` and `CosineSimilarity` omit their arguments from `get_config`.
    config = {**getattr(value, "_fn_kwargs", {}), **value.get_config()}
    parameters = inspect.signature(kind).parameters.values()
    accepted = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD} - {"name", "dtype"}
    if accepted - config.keys():
        missing = ", ".join(sorted(accepted - config.keys()))
        raise ValueError(
            f"`{argument}` is a {kind.__name__} whose `get_config` omits {missing}, so `Autoencoder.load` could not "
            f"recreate it. Return all arguments of the constructor from `get_config`. Received: {argument}={value!r}"
        )
    description = {"name": name, "arguments": {key: each for key, each in config.items() if key in accepted}}
    _arguments(argument, description)
    return description


def _lookup(argument: str, name: Any) -> Any:
    known_object = KNOWN[argument].get(name) or keras.saving.get_registered_object(name)
    if known_object is None:
        raise ValueError(
            f"`{argument}` is unknown: {did_you_mean(name, KNOWN[argument])}Use one of {', '.join(KNOWN[argument])}, "
            f"or register your own with `@keras.saving.register_keras_serializable()`. Received: {argument}={name!r}"
        )
    return known_object


def _arguments(argument: str, description: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a description after checking that they are numbers, strings or lists of them."""
    arguments = dict(description.get("arguments", {}))
    for key, value in arguments.items():
        parts = value if isinstance(value, (list, tuple)) else [value]
        if not all(part is None or isinstance(part, (bool, int, float, str)) for part in parts):
            raise ValueError(
                f"`{argument}` must have arguments that are numbers, strings or lists of them, so that "
                f"`Autoencoder.load` can recreate it. Received: {key}={value!r} of {description['name']}"
            )
    return arguments
