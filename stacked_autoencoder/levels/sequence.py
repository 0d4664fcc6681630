"""The recurrent level: sequences to a vector and back, or on to what comes next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from stacked_autoencoder.distribution import BatchFunction
from stacked_autoencoder.levels.base import EXACT, Level
from stacked_autoencoder.pca import LinearCode, fit_linear_code, least_squares
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import SMALLEST, did_you_mean, positive_ints
from stacked_autoencoder.utils.images import Shape

TARGETS = ("input", "next", "both")
SAMPLE = 4096  # sequences that the start is fitted on
# A feature that varies by less, of the one that varies most, is noise: encodings of more features than the data has are
# constant but for rounding, which would be blown up a million times, beyond what float16 holds.
CONSTANT = 5e-6


class SequenceLevel(Level):
    """Recurrent layers that read a sequence into a vector, and others that write it, or its continuation, from there.

    ```
    x_1 … x_T ─┬─▶ linear ─────────────────────(+)─▶ encoding ─┬─▶ linear ────────────────────────────(+)─▶ x_1 … x_T
               └─▶ LSTM ─▶ Dense, starts at zero ┘             └─▶ LSTM ─▶ Dense, starts at zero, turned ┘
    ```

    Several units make one deep level, `SequenceLevel([64, 16])`; several levels a greedy stack, whose lower ones encode
    as sequences: `levels=[SequenceLevel(64), SequenceLevel(16)]`. The linear paths start as principal components of the
    sequences (of single steps, where the encoding is a sequence), and the recurrent ones see every feature with mean 0
    and variance 1: before training the level is exactly PCA of the same size.

    Args:
        units: of the encoder's layers, from the sequence on; one number for a single layer. The last is the size of the
            encoding.
        target: `"input"` restores the sequence. `"next"` predicts: what is encoded is the sequence as it stood a step
            ago, and `decoder` gives the sequence. `"both"` does both, with a second decoder, `predictor`.
        reverse: whether the recurrent layers write from the last step to the first, which the encoder saw last. The
            output is turned around, so it comes in the order of the input; a predictor's never is.
        conditional: whether each step is also given the one before: in training as it truly was (teacher forcing),
            otherwise as it was written.
        cell: `"lstm"` or `"gru"`.
        return_sequences: whether the encoding is a sequence of as many steps; set by itself under another
            SequenceLevel.
        mask_value: steps all of whose features have this value are padding: passed over and not counted in any loss.
            A finite number; for NaN see `missing` of `Autoencoder`.
        loss, penalty, corruption: as in `DenseLevel`.

    Input shape:
        `(N, timesteps, features)`, float32, of one known length.

    Output shape:
        `(N, units[-1])`, or `(N, timesteps, units[-1])`. Before training, after the start, the mean square of an
        encoding value is 1.

    Raises:
        ValueError: an argument isn't what it should be, or what is seen aren't sequences of one known length.

    Example:
        >>> sae = Autoencoder(shape=(24, 1), levels=[SequenceLevel(16, target="both")])
        >>> sae.train(series)                                       # (N, 24, 1) floats
        >>> sae.levels[0].predictor(sae.encode(series))[:, -1]      # (N, 1): the step after the last

    Reference:
        Srivastava et al. 2015, "Unsupervised learning of video representations using LSTMs", section 2.
    """

    kind = "sequence"
    factor = 1
    output_layers = (("linear", "residual"), ("linear", "residual"))
    predictor: keras.Model | None = None

    def __init__(
        self,
        units: int | Sequence[int],
        target: str = "input",
        reverse: bool = True,
        conditional: bool = False,
        cell: str = "lstm",
        *,
        return_sequences: bool = False,
        mask_value: float | None = None,
        loss: Any = "mse",
        penalty: Any = None,
        corruption: Any = None,
    ) -> None:
        self.units = positive_ints("units", units)
        self.target = _one_of("target", target, TARGETS)
        self.reverse = bool(reverse)
        self.conditional = bool(conditional)
        self.cell = _one_of("cell", cell, CELLS)
        self.return_sequences = bool(return_sequences)
        self.mask_value = None if mask_value is None else float(mask_value)
        if self.mask_value is not None and not math.isfinite(self.mask_value):
            raise ValueError(
                "`mask_value` must be a finite number that the data don't have otherwise; NaN equals nothing, not even "
                "itself. Mark steps that are missing with `np.nan_to_num(sequences, nan=-9.0)` and `mask_value=-9.0`; "
                'for single values make the Autoencoder with `missing="ignore"`. '
                f"Received: mask_value={mask_value!r}"
            )
        if return_sequences and (conditional or target != "input"):
            raise ValueError(
                "A level that encodes as a sequence restores it step by step: `conditional` and `target` are for "
                f"levels that end in a vector. Received: target={target!r}, conditional={conditional!r}"
            )
        super().__init__(loss=loss, penalty=penalty, corruption=corruption)

    def get_config(self) -> dict[str, Any]:
        names = ("units", "target", "reverse", "conditional", "cell", "return_sequences", "mask_value")
        return {name: getattr(self, name) for name in names} | self.objective.get_config()

    # === Models ===

    def build(self, input_shape: Shape, index: int = 0) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                "A SequenceLevel sees sequences (timesteps, features), or encodings of such a shape. The rows of "
                "images become steps with `images.reshape(len(images), height, -1)`. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        if input_shape[0] is None:
            raise ValueError(
                "A SequenceLevel needs sequences of one known length: pad them, and tell by which value with "
                f"`mask_value`. Received: input_shape={tuple(input_shape)}"
            )
        if self.target != "input" and input_shape[0] < 2:
            raise ValueError(
                f"To predict takes sequences of at least two steps. Received: input_shape={tuple(input_shape)}"
            )
        self.input_shape, self.index = tuple(input_shape), index
        self.encoder = sequence_encoder(self, f"encoder{index}")
        self.decoder = sequence_decoder(self, f"decoder{index}", reverse=self.reverse and self.target != "next")
        if self.target == "both":
            self.predictor = sequence_decoder(self, f"predictor{index}", reverse=False)

    def prepare_for(self, above: Level) -> None:
        if not isinstance(above, SequenceLevel) or self.return_sequences:
            return
        if self.started or self.conditional or self.target != "input":
            raise ValueError(
                "A SequenceLevel on top of another needs it to encode as sequences, and this one ends in a vector: "
                f"make it with `return_sequences=True`. Received: {self!r} below {above!r}"
            )
        self.return_sequences = True
        self.build(self.input_shape, self.index)

    def sizes(self, input_shape: Shape) -> set[int]:
        return {math.prod(input_shape)} if self.conditional else set()  # which is built step by step

    def models(self) -> dict[str, keras.Model]:
        return super().models() | ({"predictor": self.predictor} if self.target == "both" else {})

    @property
    def parts(self) -> int:
        """Of a cell's state."""
        return 2 if self.cell == "lstm" else 1

    @property
    def values(self) -> int:
        """Of a whole sequence."""
        return math.prod(self.input_shape)

    # === Training ===

    def encoder_inputs(self, inputs: Any) -> Any:
        return delayed(inputs) if self.target == "next" else inputs

    @property
    def is_judged_by_image(self) -> bool:
        return super().is_judged_by_image and self.mask_value is None

    def loss_mask(self, inputs: Any) -> Any:
        if self.target == "next":
            return self.following(inputs)
        if self.fill_values is not None:
            return self.is_there(inputs)
        return None if self.mask_value is None else self._real(inputs)

    def is_there(self, inputs: Any) -> Any:
        return ops.logical_and(super().is_there(inputs), self._real(inputs)[..., None])

    def following(self, inputs: Any) -> Any:
        """What counts in the loss of a prediction, as `loss_mask` gives it: the first step is given, not predicted."""
        is_first = np.arange(inputs.shape[1]) == 0
        if self.fill_values is not None:
            return ops.logical_and(self.is_there(inputs), ~is_first[:, None])
        return ops.logical_and(self._real(inputs), ~is_first)

    def _real(self, inputs: Any) -> Any:
        """Which steps aren't padding."""
        if self.mask_value is None:
            return ops.ones(ops.shape(inputs)[:2], "bool")
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    # === Start ===

    def adapt(self, stream: BatchFunction) -> LinearCode | None:
        code = fit_linear_code(lambda: map(self._linear_view, stream()), None, self.units[-1])
        power = float(np.mean(code.variances))
        scale = 1.0 / np.sqrt(power) if power > 0 else 1.0
        down = code.components * scale
        self.encoder.get_layer("linear").set_weights([down, -code.mean @ down])
        self.decoder.get_layer("linear").set_weights([code.components.T / scale, code.mean])
        sample = self._sample(stream)
        self._see_evenly(sample)
        if self.target != "input":
            predictor = self.decoder if self.target == "next" else self.predictor
            encodings, wanted = self.encode(delayed(sample)).astype(np.float64), self._linear_view(sample)
            kernel = least_squares(encodings, wanted)
            predictor.get_layer("linear").set_weights([kernel, (wanted - encodings @ kernel).mean(axis=0)])
        self.started = True
        # Of padded steps there is no fair one.
        return code if self.mask_value is None and not self.return_sequences else None

    def _linear_view(self, batch: np.ndarray) -> np.ndarray:
        """What the linear path sees: `(N, timesteps * features)`, or single steps; padding is zero."""
        if self.mask_value is not None:
            batch = batch * np.asarray(self._real(batch))[..., None]
        return batch.reshape(-1, self.input_shape[-1] if self.return_sequences else self.values)

    def _sample(self, stream: BatchFunction) -> np.ndarray:
        taken, count = [], 0
        for batch in stream():
            taken.append(batch)
            count += len(batch)
            if count >= SAMPLE:
                break
        return np.concatenate(taken)

    def _see_evenly(self, sample: np.ndarray) -> None:
        """Lets the first recurrent layer see every feature with mean 0 and variance 1, whatever its unit."""
        steps = sample[np.asarray(self._real(sample))].astype(np.float64)
        layer = self.encoder.get_layer(f"{self.cell}0")
        kernel, recurrent, bias = layer.get_weights()
        spread = steps.std(axis=0)
        largest = max(spread.max(), np.sqrt(SMALLEST))
        kernel = kernel / np.where(spread > CONSTANT * largest, spread, largest)[:, None]
        shift = steps.mean(axis=0) @ kernel
        bias = bias - (np.stack([shift, 0 * shift]) if bias.ndim == 2 else shift)  # a GRU has a recurrent one, too
        layer.set_weights([kernel, recurrent, bias])


def _one_of(argument: str, value: Any, known: Any) -> str:
    if value in known:
        return value
    raise ValueError(
        f"`{argument}` must be one of {', '.join(known)}: {did_you_mean(value, known)}Received: {argument}={value!r}"
    )


CELLS = {"lstm": (layers.LSTM, layers.LSTMCell), "gru": (layers.GRU, layers.GRUCell)}


def sequence_encoder(level: SequenceLevel, name: str) -> keras.Model:
    """Sequence → vector, or a sequence of as many steps: the linear path and the recurrent one, added."""
    inputs = seen = layers.Input(level.input_shape)
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
    inputs = layers.Input(level.encoding_shape)
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


def delayed(sequences: Any) -> Any:
    """Each sequence as it stood a step ago, its first step twice: what predicts the sequence itself."""
    return ops.concatenate([sequences[:, :1], sequences[:, :-1]], axis=1)
