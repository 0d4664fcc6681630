"""The networks of a recurrent level: what its arguments ask for, before the start sets any weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers, ops

from stacked_autoencoder.level import EXACT

if TYPE_CHECKING:
    from stacked_autoencoder.levels.sequence import SequenceLevel

CELLS = {"lstm": (layers.LSTM, layers.LSTMCell), "gru": (layers.GRU, layers.GRUCell)}


def sequence_encoder(level: SequenceLevel, name: str) -> keras.Model:
    """Sequence → vector, or a sequence of as many steps: the linear path and the recurrent one, added."""
    inputs = seen = keras.Input(level.input_shape)
    if level.mask_value is not None:
        seen = layers.Masking(level.mask_value, dtype=EXACT)(inputs)  # also sets what it masks to zero
    hidden, (recurrent, _) = seen, CELLS[level.cell]
    for depth, units in enumerate(level.units):
        goes_on = level.return_sequences or depth < len(level.units) - 1
        hidden = recurrent(units, return_sequences=goes_on, name=f"{level.cell}{depth}")(hidden)
    # Not `Flatten`, which would warn that it drops the mask.
    flat = seen if level.return_sequences else ops.reshape(seen, (-1, level.values))
    linear = layers.Dense(level.units[-1], dtype=EXACT, name="linear")(flat)
    residual = layers.Dense(level.units[-1], kernel_initializer="zeros", dtype=EXACT, name="residual")(hidden)
    return keras.Model(inputs, layers.Add(dtype=EXACT, name="encoding")([linear, residual]), name=name)


def sequence_decoder(level: SequenceLevel, name: str, *, reverse: bool) -> keras.Model:
    """Encoding → sequence, the encoder's mirror; the encoder must have been built.

    Args:
        level: asks for it.
        name: of the model.
        reverse: whether the recurrent layers write from the last step to the first.
    """
    inputs = keras.Input(level.encoding_shape)
    written = level.input_shape[-1] if level.return_sequences else level.values
    linear = layers.Dense(written, dtype=EXACT, name="linear")(inputs)
    if not level.return_sequences:
        linear = layers.Reshape(level.input_shape, dtype=EXACT)(linear)
    if level.conditional:
        return keras.Model(inputs, _step_by_step(level, inputs, linear, reverse), name=name)
    hidden = inputs if level.return_sequences else layers.RepeatVector(level.input_shape[0])(inputs)
    for depth in reversed(range(len(level.units))):
        recurrent, _ = CELLS[level.cell]
        hidden = recurrent(level.units[depth], return_sequences=True, name=f"{level.cell}{depth}")(hidden)
    residual = layers.Dense(level.input_shape[-1], kernel_initializer="zeros", dtype=EXACT, name="residual")(hidden)
    if reverse and not level.return_sequences:
        residual = ops.flip(residual, axis=1)
    return keras.Model(inputs, layers.Add(dtype=EXACT, name="decoding")([linear, residual]), name=name)


def _step_by_step(
    level: SequenceLevel, inputs: keras.KerasTensor, linear: keras.KerasTensor, reverse: bool
) -> keras.KerasTensor:
    """Each step is given what was written before: unrolled, so that the model is made of Keras's own layers."""
    steps, features = level.input_shape
    depths = list(reversed(range(len(level.units))))
    cells = [CELLS[level.cell][1](level.units[depth], name=f"cell{depth}") for depth in depths]
    states = [
        [layers.Dense(level.units[depth], "tanh", name=f"state{depth}_{part}")(inputs) for part in range(level.parts)]
        for depth in depths
    ]
    residual = layers.Dense(features, kernel_initializer="zeros", dtype=EXACT, name="residual")
    written: dict[int, keras.KerasTensor] = {}
    hidden, before = states[-1][0], None
    for step in reversed(range(steps)) if reverse else range(steps):
        if before is not None:
            hidden = layers.Concatenate()([inputs, layers.Flatten()(before)])
            for depth, cell in enumerate(cells):
                hidden, states[depth] = cell(hidden, states[depth])
        here = layers.Cropping1D((step, steps - 1 - step), dtype=EXACT)(linear)
        added = layers.Reshape((1, features), dtype=EXACT)(residual(hidden))
        before = layers.Add(dtype=EXACT)([here, added])
        written[step] = before
    whole = [written[step] for step in range(steps)]
    return layers.Concatenate(axis=1, dtype=EXACT)(whole) if steps > 1 else before
