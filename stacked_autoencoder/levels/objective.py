"""What a level is trained for, and what acts on it only in training. Nothing of it is in the saved pair.

`autoencoder.json` tells of losses, penalties and corruption by name and plain arguments. They are made again only from
the names below, or from what the program itself has registered with Keras, since the file may come from a stranger.
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


# What each argument may name. Classes are made again from their arguments, so these are all that take only numbers.
KNOWN: dict[str, dict[str, Any]] = {
    "loss": {"mse": keras.losses.mean_squared_error, "mae": keras.losses.mean_absolute_error}
    | {name: getattr(keras.losses, name) for name in _LOSS_CLASSES + _LOSS_FUNCTIONS}
    | {"ssim_loss": ssim_loss, "SSIMWithL1": SSIMWithL1},
    "penalty": {name: getattr(keras.regularizers, name) for name in ("L1", "L2", "L1L2", "OrthogonalRegularizer")}
    | {"KLSparsity": KLSparsity},
    "corruption": {name: getattr(keras.layers, name) for name in _NOISES}
    | {"Mask": Mask, "SaltAndPepper": SaltAndPepper},
}


# Losses that are means of one number per value, so that values can be left out.
BY_VALUE = {
    *("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredLogarithmicError", "Huber"),
    *("BinaryCrossentropy", "BinaryFocalCrossentropy", "LogCosh", "Poisson"),
    *("mean_squared_error", "mean_absolute_error", "mean_squared_logarithmic_error", "huber", "log_cosh", "poisson"),
    *("binary_crossentropy", "binary_focal_crossentropy"),
}


WITHIN_UNIT_INTERVAL = ("binary_crossentropy", "BinaryCrossentropy", "binary_focal_crossentropy")


class Objective:
    """What a level is trained for.

    Args:
        loss: between what the level restores and what it should: the name of a Keras loss, a `keras.losses.Loss`, or a
            function such as `metrics.ssim_loss`.
        penalty: Keras regularizer on the code, or `KLSparsity`. A regularizer's value is taken per image, whatever the
            batch; that of `KLSparsity` is one per batch.
        corruption: Keras layer that acts on the inputs in training; the loss is against the clean ones.
        kl_weight: makes the code a distribution in training, and weighs its Kullback-Leibler divergence from the
            standard normal: per image, divided by the number of values that the level sees. With 1 and the mean squared
            error that is the evidence lower bound of an observation whose variance is 1/2.

    Raises:
        ValueError: something that isn't known, or couldn't be written to `autoencoder.json` and made again.
    """

    def __init__(
        self,
        loss: Loss = "mse",
        penalty: str | keras.regularizers.Regularizer | None = None,
        corruption: keras.layers.Layer | None = None,
        kl_weight: float = 0.0,
    ) -> None:
        self.kl_weight = non_negative("kl_weight", kl_weight)
        self.loss = made("loss", loss)
        self.penalty = None if penalty is None else made("penalty", penalty)
        self.corruption = None if corruption is None else made("corruption", corruption)
        self.config = {
            "loss": plain("loss", self.loss),
            "penalty": None if penalty is None else plain("penalty", self.penalty),
            "corruption": None if corruption is None else plain("corruption", self.corruption),
            "kl_weight": self.kl_weight,
        }

    def __reduce__(self) -> tuple[Callable[..., Objective], tuple[Any, ...]]:
        # A pickle names functions and classes by their modules: to import these registers the user's own with Keras.
        things = [self.loss, self.penalty, self.corruption]
        kinds = [thing if inspect.isfunction(thing) else type(thing) for thing in things if thing is not None]
        return _made_again, (type(self), self.config, kinds)

    def get_config(self) -> dict[str, Any]:
        """What isn't as it is by default, as plain values."""
        usual = {"loss": "mean_squared_error", "penalty": None, "corruption": None, "kl_weight": 0.0}
        return {name: value for name, value in self.config.items() if value != usual[name]}

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but the mean squared error."""
        return not self.get_config()

    @property
    def loss_name(self) -> str:
        """The name of the loss's function or class."""
        loss = self.config["loss"]
        return loss if isinstance(loss, str) else loss["name"]

    @property
    def is_within_unit_interval(self) -> bool:
        """Whether the loss is of probabilities."""
        return self.loss_name in WITHIN_UNIT_INTERVAL

    def check_by_value(self) -> None:
        """Raises `ValueError` unless the loss is a mean over values, from which single ones can be left out."""
        if self.loss_name not in BY_VALUE:
            raise ValueError(
                '`missing="ignore"` leaves single values out of the loss of the first level, and this loss can\'t be '
                f'computed value by value: take `loss="mse"`, `loss="mae"`, another of {", ".join(sorted(BY_VALUE))}, '
                f'or `missing="error"`. Received: loss={self.loss_name!r}'
            )

    def of_reconstruction(self, targets: tf.Tensor, outputs: tf.Tensor, counted: tf.Tensor | None = None) -> tf.Tensor:
        """The loss of a batch, a scalar.

        Args:
            counted: which steps of sequences count, `(N, timesteps)`, or which values, of the targets' shape; all by
                default.
        """
        if counted is None and self.loss is keras.losses.mean_squared_error:
            # In one sum: by way of the means over an image's three channels a training step takes 3 % longer.
            error = ops.subtract(outputs, targets)
            return 2.0 * tf.nn.l2_loss(error) / ops.cast(ops.size(error), error.dtype)
        if counted is not None and len(counted.shape) == len(targets.shape):
            # An axis more, since Keras takes the mean over the last. Behind a value that is left out may be NaN.
            targets, outputs = ops.where(counted, targets, 0.0)[..., None], outputs[..., None]
        losses = (self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss)(targets, outputs)
        if counted is None:
            return ops.mean(losses)
        counted = ops.cast(counted, losses.dtype)
        return ops.sum(losses * counted) / ops.maximum(ops.sum(counted), 1.0)

    def of_code(self, code: tf.Tensor) -> tf.Tensor:
        """The penalty on a batch of encodings, a scalar."""
        value = self.penalty(code)
        return value if isinstance(self.penalty, KLSparsity) else value / ops.cast(ops.shape(code)[0], code.dtype)


def _made_again(kind: type[Objective], config: dict[str, Any], _: Sequence[Any]) -> Objective:
    """An objective that was pickled or copied."""
    return kind(**config)


def made(argument: str, thing: Any) -> Any:
    """What a user, or `autoencoder.json`, names → the thing itself: a function, or an object."""
    if isinstance(thing, Mapping):
        return _found(argument, thing["name"])(**_arguments(argument, thing))
    if not isinstance(thing, str):
        if not callable(thing) or inspect.isclass(thing):
            raise ValueError(f"`{argument}` must be an object, a function or a name. Received: {argument}={thing!r}")
        return thing
    found = _found(argument, {"l1": "L1", "l2": "L2", "l1_l2": "L1L2"}.get(thing, thing))
    return found() if inspect.isclass(found) else found


def plain(argument: str, thing: Any) -> str | dict[str, Any]:
    """The name of a function, or name and arguments of an object."""
    kind = thing if inspect.isfunction(thing) else type(thing)
    names = [name for name, known in KNOWN[argument].items() if known is kind]
    name = names[-1] if names else keras.saving.get_registered_name(kind)
    if not names and keras.saving.get_registered_object(name) is not kind:
        raise ValueError(
            f"`{argument}` is a {kind.__name__}, which `load` couldn't make again. Register it, above its definition, "
            f"with `@keras.saving.register_keras_serializable()`. Known without: {', '.join(KNOWN[argument])}. "
            f"Received: {argument}={thing!r}"
        )
    if kind is thing:
        return name
    # Keras 3.15's `Huber` and `CosineSimilarity` leave their arguments out of their configuration.
    told = {**getattr(thing, "_fn_kwargs", {}), **thing.get_config()}
    parameters = inspect.signature(kind).parameters.values()
    taken = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD} - {"name", "dtype"}
    if taken - told.keys():
        missing = ", ".join(sorted(taken - told.keys()))
        raise ValueError(
            f"`{argument}` is a {kind.__name__} whose `get_config` doesn't tell its {missing}, so that `load` couldn't "
            f"make it again. Received: {argument}={thing!r}"
        )
    description = {"name": name, "arguments": {key: value for key, value in told.items() if key in taken}}
    _arguments(argument, description)
    return description


def _found(argument: str, name: Any) -> Any:
    found = KNOWN[argument].get(name) or keras.saving.get_registered_object(name)
    if found is None:
        raise ValueError(
            f"`{argument}` isn't known: {did_you_mean(name, KNOWN[argument])}Known are {', '.join(KNOWN[argument])}, "
            f"and what is registered with `@keras.saving.register_keras_serializable()`. Received: {argument}={name!r}"
        )
    return found


def _arguments(argument: str, description: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, texts and lists of them; anything else could be more than it seems when it is read."""
    arguments = dict(description.get("arguments", {}))
    for key, value in arguments.items():
        parts = value if isinstance(value, (list, tuple)) else [value]
        if not all(part is None or isinstance(part, (bool, int, float, str)) for part in parts):
            raise ValueError(
                f"`{argument}` must be made with numbers, texts or lists of them, so that `load` can make it again. "
                f"Received: {key}={value!r} of {description['name']}"
            )
    return arguments
