"""The units of data: what the optimizer needs, so that it learns equally well in each, and warnings about them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.optimizers import Units

# A column whose standard deviation is a smaller share of the largest is less than a ten-thousandth of the loss.
LEAST_DEVIATION = 1e-2
# Standard deviations for which the activations of a tied level work.
TIED_DEVIATIONS = (1e-2, 1e2)
NAMED = 5  # columns to name in a warning


def scales_and_units(
    levels: Sequence[Level], inputs: np.ndarray, error: float
) -> tuple[dict[int, float], dict[int, Units]]:
    """Returns what makes the steps of the optimizer independent of the unit of the data and of the size of the error.

    Adam moves every weight by about the learning rate, whatever the loss. After the closed-form initialisation, the
    error may be a hundredth of the signal, and unscaled steps of the output layers would change the output by more
    than that. With scaled ones, the residual paths can learn at full speed.

    Args:
        levels: neighbouring levels, the lowest first.
        inputs: one batch of inputs of the first level.
        error: mean squared error of the levels before the first step.

    Returns:
        `id` of each variable of an output layer → factor on its learning rate, which is proportional to the error
        before the first step; and `id` of each variable that reads or writes data → its units.
    """
    scales: dict[int, float] = {}
    units: dict[int, Units] = {}
    relative = None
    for level in levels:
        encodings = level.encode(inputs)
        mean, deviation = _moments(level, inputs)
        if relative is None:
            relative = float(np.sqrt(error)) / deviation
        for layer in map(level.encoder.get_layer, level.output_layers[0]):
            units |= {id(variable): Units(float(encodings.std()) or 1.0) for variable in layer.trainable_variables}
        unit = level.reconstruction_unit(deviation)
        for layer in level.reconstruction_layers():
            units |= {id(variable): Units(unit) for variable in layer.trainable_variables}
        for model, names in zip((level.encoder, level.decoder), level.output_layers, strict=True):
            for layer in map(model.get_layer, names):
                scales |= {id(variable): relative for variable in layer.trainable_variables}
        for layer, first in level.input_layers():
            units |= _units_of_reader(layer, first, mean, deviation, units)
        inputs = encodings
    return scales, units


def check_units(level: Level, batches: Sequence[np.ndarray]) -> None:
    """Warns if the inputs of a level have units that it can't learn well.

    Args:
        level: the level. Only level 0 is checked, whose inputs come from the user.
        batches: some of its inputs.
    """
    if level.index == 0 and len(level.input_shape) < 3:
        _check_columns(level, np.concatenate([level.filled(batch) for batch in batches]))
    if level.index == 0 and level.tied_layers():
        _check_unit_of_tied(_moments(level, level.filled(batches[0]))[1])


def _check_unit_of_tied(deviation: float) -> None:
    least, most = TIED_DEVIATIONS
    if not least <= deviation <= most:
        warnings.warn(
            "`tied=True` needs inputs with a standard deviation near 1, because a kernel that is used in both "
            "directions can't change the unit of its inputs. Divide the inputs by their standard deviation, or leave "
            f"`tied` out. Received: inputs with a standard deviation of {deviation:.3g}",
            UserWarning,
            stacklevel=2,
        )


def _check_columns(level: Level, inputs: np.ndarray) -> None:
    """Warns about columns that hardly contribute to the loss, because they vary much less than others."""
    rows, is_there = _rows(level, inputs)
    deviations = rows.std(axis=0, dtype=np.float64, where=is_there)
    weak = np.flatnonzero((deviations > 0) & (deviations < LEAST_DEVIATION * deviations.max()))
    if weak.size:
        named = ", ".join(map(str, weak[:NAMED])) + (f" and {weak.size - NAMED} more" if weak.size > NAMED else "")
        warnings.warn(
            f"Some columns of `images` vary less than a hundredth as much as column {deviations.argmax()}, so they "
            f"hardly contribute to the loss: {named} (counted from 0). If they matter, standardise all columns first, "
            "for example with `normalization = keras.layers.Normalization()`, `normalization.adapt(images)` and "
            f"`normalization(images).numpy()`. Received: standard deviations from {deviations[weak].min():.3g} to "
            f"{deviations.max():.3g}",
            UserWarning,
            stacklevel=2,
        )


def _moments(level: Level, inputs: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the mean of each channel, and the standard deviation of all values about it (1 if it is 0)."""
    rows, is_there = _rows(level, inputs)
    mean = rows.mean(axis=0, dtype=np.float64, where=is_there)
    return mean, float(np.sqrt(np.mean(np.square(rows - mean), where=is_there))) or 1.0


def _rows(level: Level, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs as `(rows, channels)`, and which values are not padding."""
    return tuple(np.asarray(each).reshape(-1, inputs.shape[-1]) for each in (inputs, level.is_there(inputs)))


def _units_of_reader(
    layer: keras.layers.Layer, first: int, mean: np.ndarray, deviation: float, units: Mapping[int, Units]
) -> dict[int, Units]:
    """Returns the units of kernel and bias of a layer, or cell, that reads the inputs of a level.

    A kernel with more inputs than outputs is measured in units of an orthogonal matrix: the inputs have few principal
    components, so steps of the size of single inputs would be too large.

    Args:
        layer: the layer.
        first: number of rows of the kernel that read something else. They come first.
        mean: mean of each channel of the inputs.
        deviation: standard deviation of the inputs.
        units: the units of layers that write data, which may include this one.
    """
    written = units.get(id(layer.kernel), Units()).size
    rows, outputs = math.prod(layer.kernel.shape[:-1]), layer.kernel.shape[-1]
    unit = deviation * math.sqrt(max(1.0, (rows - first) / outputs))
    repeats = (layer.kernel.shape[-2] - first) // len(mean)
    centre = np.concatenate([np.zeros(first), np.tile(mean, repeats)]).astype(np.float32)[:, None]
    size = written / unit
    if first:
        own = np.full(len(centre), written)
        own[first:] /= unit
        size = own.astype(np.float32)[:, None]
    if layer.bias is None or not layer.bias.trainable:
        return {id(layer.kernel): Units(size)}
    return {id(layer.kernel): Units(size, centre, layer.bias), id(layer.bias): Units(written)}
