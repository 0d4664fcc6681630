"""The recurrent level: encodes sequences as vectors, and reconstructs or predicts sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from stacked_autoencoder.distribution import BatchFunction
from stacked_autoencoder.least_squares import least_squares
from stacked_autoencoder.levels.base import EXACT, Level
from stacked_autoencoder.pca import LinearCode, fit_linear_code
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import SMALLEST, did_you_mean, positive_ints
from stacked_autoencoder.utils.images import Shape

TARGETS = ("input", "next", "both")
SAMPLE = 4096  # number of sequences used for the closed-form initialisation
# A feature whose standard deviation is below this fraction of the largest one counts as constant. Encodings with more
# features than the data has are constant up to rounding. Scaling them to variance 1 would multiply that noise by a
# million, beyond the range of float16.
CONSTANT = 5e-6


class SequenceLevel(Level):
    """Recurrent level: an LSTM or GRU encodes a sequence as a vector, and another one decodes it.

    Use it for time series and other sequences of one known length.

    ```
    x_1 … x_T ─┬─▶ linear ────────────────(+)─▶ encoding
               └─▶ LSTM ─▶ Dense (zeros) ──┘
    encoding ─┬─▶ linear ────────────────────────(+)─▶ x_1 … x_T
              └─▶ LSTM ─▶ Dense (zeros) ─▶ flip ──┘
    ```

    The linear paths are initialised with PCA of the sequences, computed in closed form (of single steps if the encoding
    is a sequence). The last Dense layers are initialised with zeros, so before training the level computes PCA of the
    same size. The weights of the encoder's first recurrent layer are scaled as if every feature had mean 0 and
    variance 1.

    `SequenceLevel([64, 16])` is one level with two recurrent layers. `levels=[SequenceLevel(64), SequenceLevel(16)]` is
    a stack of two levels. The lower level then encodes each sequence as a sequence.

    Args:
        units: numbers of units of the encoder's recurrent layers, from input to encoding, or one number for a single
            layer. The last number is the size of the encoding.
        target: `"input"` reconstructs the sequence. `"next"` predicts: the encoder receives the sequence delayed by one
            step, and the decoder outputs the sequence. `"both"` does both, with a second decoder, `predictor`.
        reverse: whether the recurrent layers of the decoder generate steps from the last to the first. The output is
            flipped, so it has the order of the input. Predictions are always generated from the first step to the last.
        conditional: whether each generated step also depends on the previous one: on the true one in training (teacher
            forcing), and on the generated one otherwise.
        cell: `"lstm"` or `"gru"`.
        return_sequences: whether the encoding is a sequence of the same length. Set automatically when you put another
            SequenceLevel on top.
        mask_value: value that marks padding. Steps whose features all have this value are skipped and do not count in
            the loss. It must be a finite number; for NaN see the argument `missing` of `Autoencoder`.
        loss, penalty, corruption: as in `DenseLevel`.

    Attributes:
        predictor: `keras.Model` from encodings to predicted sequences, if `target="both"`. `None` otherwise.

    Input shape:
        `(N, timesteps, features)`, float32, of one known length.

    Output shape:
        `(N, units[-1])`, or `(N, timesteps, units[-1])` with `return_sequences`, float32. After initialisation, the
        mean square of the encoding values is 1.

    Raises:
        ValueError: an argument is invalid, or the inputs are not sequences of one known length.

    Example:
        >>> sae = Autoencoder(shape=(24, 1), levels=[SequenceLevel(16, target="both")])
        >>> sae.train(series)                                       # (N, 24, 1) float32
        >>> encodings = sae.encode(series)                          # (N, 16)
        >>> sae.levels[0].predictor(encodings)[:, -1]               # (N, 1): the step after the last

    Reference:
        Srivastava et al. 2015, "Unsupervised learning of video representations using LSTMs" (arXiv:1502.04681), section
        2.
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
                "`mask_value` must be a finite number that does not occur in the data; NaN equals nothing, not even "
                "itself. Mark missing steps with `np.nan_to_num(sequences, nan=-9.0)` and `mask_value=-9.0`. For "
                'single missing values create the Autoencoder with `missing="ignore"`. Received: '
                f"mask_value={mask_value!r}"
            )
        if return_sequences and (conditional or target != "input"):
            raise ValueError(
                '`return_sequences=True` excludes `conditional=True` and any `target` other than "input", because the '
                "level then decodes step by step. Leave `conditional` and `target` out, or use "
                f"`return_sequences=False`. Received: target={target!r}, conditional={conditional!r}"
            )
        super().__init__(loss=loss, penalty=penalty, corruption=corruption)

    def get_config(self) -> dict[str, Any]:
        names = ("units", "target", "reverse", "conditional", "cell", "return_sequences", "mask_value")
        return {name: getattr(self, name) for name in names} | self.objective.get_config()

    @property
    def network(self) -> str:
        return f"{self.cell} {'-'.join(map(str, self.units))}"

    # === Models ===

    def build(self, input_shape: Shape, index: int = 0) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                "A SequenceLevel needs sequences of shape (timesteps, features). To use the rows of images as steps, "
                f"call `images.reshape(len(images), height, -1)`. Received: input_shape={tuple(input_shape)}"
            )
        if input_shape[0] is None:
            raise ValueError(
                "A SequenceLevel needs sequences of one known length. Pad shorter sequences with a value that you "
                "pass as `mask_value`, and create the Autoencoder with `shape=(timesteps, features)`. Received: "
                f"input_shape={tuple(input_shape)}"
            )
        if self.target != "input" and input_shape[0] < 2:
            raise ValueError(
                f"`target={self.target!r}` predicts steps from earlier ones and needs sequences of at least two steps. "
                f'Use longer sequences or `target="input"`. Received: input_shape={tuple(input_shape)}'
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
                "A SequenceLevel on top of another SequenceLevel needs sequences, but the lower level outputs "
                f"vectors. Create the lower level with `return_sequences=True`. Received: {self!r} below {above!r}"
            )
        self.return_sequences = True
        self.build(self.input_shape, self.index)

    def input_layers(self) -> list[tuple[layers.Layer, int]]:
        return [*self._recurrent_input_layers(), (self.encoder.get_layer("linear"), 0)]

    def _recurrent_input_layers(self) -> list[tuple[layers.Layer, int]]:
        cells = [(self.encoder.get_layer(f"{self.cell}0").cell, 0)]
        if self.conditional:  # each step of the decoder reads the encoding, then the previous step
            last = f"cell{len(self.units) - 1}"
            cells += [(decoder.get_layer(last), self.units[-1]) for decoder in self.decoders()]
        return cells

    def sizes(self, input_shape: Shape) -> set[int]:
        """Returns the size of a sequence if the decoder is unrolled: it must occur among the shapes of its weights."""
        return {math.prod(input_shape)} if self.conditional else set()  # which is built step by step

    def models(self) -> dict[str, keras.Model]:
        return super().models() | ({"predictor": self.predictor} if self.target == "both" else {})

    @property
    def parts(self) -> int:
        """Number of state vectors of a cell: 2 for an LSTM, 1 for a GRU."""
        return 2 if self.cell == "lstm" else 1

    @property
    def values(self) -> int:
        """Number of values of a whole sequence."""
        return math.prod(self.input_shape)

    # === Training ===

    def encoder_inputs(self, inputs: Any) -> Any:
        """Returns the encoder's input: the sequences, delayed by one step if the level predicts."""
        return delayed(inputs) if self.target == "next" else inputs

    @property
    def is_judged_by_image(self) -> bool:
        return super().is_judged_by_image and self.mask_value is None

    def loss_mask(self, inputs: Any) -> Any:
        if self.target == "next":
            return self.following(inputs)
        if self.fill_values is not None:
            return self.is_there(inputs)
        return None if self.mask_value is None else self._is_not_padding(inputs)

    def is_there(self, inputs: Any) -> Any:
        return ops.logical_and(super().is_there(inputs), self._is_not_padding(inputs)[..., None])

    def following(self, inputs: Any) -> Any:
        """Returns a boolean mask of the values that count in the loss of a prediction.

        The mask has the shape that `loss_mask` describes. The first step does not count, because it cannot be
        predicted.
        """
        is_first = np.arange(inputs.shape[1]) == 0
        if self.fill_values is not None:
            return ops.logical_and(self.is_there(inputs), ~is_first[:, None])
        return ops.logical_and(self._is_not_padding(inputs), ~is_first)

    def _is_not_padding(self, inputs: Any) -> Any:
        """Returns a boolean mask `(N, timesteps)` of the steps that are not padding."""
        if self.mask_value is None:
            return ops.ones_like(inputs[..., 0], "bool")
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    # === Closed-form initialisation ===

    def adapt(self, stream: BatchFunction) -> LinearCode | None:
        """Initialises the linear paths with PCA of the sequences, or of their steps, computed in closed form.

        Returns:
            PCA of the sequences. `None` if the encoding is a sequence or steps are padded, because then no PCA can be
            compared with the level.
        """
        code = fit_linear_code(lambda: map(self._linear_view, stream()), None, self.units[-1])
        power = float(np.mean(code.variances))
        scale = 1.0 / np.sqrt(power) if power > 0 else 1.0
        down = code.components * scale
        self.encoder.get_layer("linear").set_weights([down, -code.mean @ down])
        self.decoder.get_layer("linear").set_weights([code.components.T / scale, code.mean])
        sample = self._sample(stream)
        self._normalise_features(sample)
        if self.target != "input":
            predictor = self.decoder if self.target == "next" else self.predictor
            encodings, targets = self.encode(delayed(sample)).astype(np.float64), self._linear_view(sample)
            kernel = least_squares(encodings, targets)
            predictor.get_layer("linear").set_weights([kernel, (targets - encodings @ kernel).mean(axis=0)])
        self.started = True
        # With padding, a comparison with PCA would not be fair.
        return code if self.mask_value is None and not self.return_sequences else None

    def _linear_view(self, batch: np.ndarray) -> np.ndarray:
        """Returns the input of the linear path: `(N, timesteps * features)`, or single steps. Padding becomes zero."""
        if self.mask_value is not None:
            batch = batch * np.asarray(self._is_not_padding(batch))[..., None]
        return batch.reshape(-1, self.input_shape[-1] if self.return_sequences else self.values)

    def _sample(self, stream: BatchFunction) -> np.ndarray:
        batches, count = [], 0
        for batch in stream():
            batches.append(batch)
            count += len(batch)
            if count >= SAMPLE:
                break
        return np.concatenate(batches)

    def _normalise_features(self, sample: np.ndarray) -> None:
        """Scales the recurrent layers that read sequences as if every feature had mean 0 and variance 1."""
        steps = sample[np.asarray(self._is_not_padding(sample))].astype(np.float64)
        mean, deviation = steps.mean(axis=0), steps.std(axis=0)
        largest = max(deviation.max(), np.sqrt(SMALLEST))
        divisor = np.where(deviation > CONSTANT * largest, deviation, largest)[:, None]
        for cell, first in self._recurrent_input_layers():
            kernel, bias = np.asarray(cell.kernel), np.asarray(cell.bias)
            scaled = kernel[first:] / divisor
            shift = mean @ scaled
            cell.kernel.assign(np.concatenate([kernel[:first], scaled]))
            # A GRU also has a recurrent bias.
            cell.bias.assign(bias - (np.stack([shift, 0 * shift]) if bias.ndim == 2 else shift))


def _one_of(argument: str, value: Any, known: Any) -> str:
    if value in known:
        return value
    raise ValueError(
        f"`{argument}` must be one of {', '.join(known)}: {did_you_mean(value, known)}Received: {argument}={value!r}"
    )


CELLS = {"lstm": (layers.LSTM, layers.LSTMCell), "gru": (layers.GRU, layers.GRUCell)}


def sequence_encoder(level: SequenceLevel, name: str) -> keras.Model:
    """Builds the encoder: the sum of the linear path and the recurrent path."""
    inputs = values = layers.Input(level.input_shape)
    if level.mask_value is not None:
        values = layers.Masking(level.mask_value, dtype=EXACT)(inputs)  # also sets masked steps to zero
    hidden, (recurrent, _) = values, CELLS[level.cell]
    for depth, units in enumerate(level.units):
        return_sequences = level.return_sequences or depth < len(level.units) - 1
        hidden = recurrent(units, return_sequences=return_sequences, name=f"{level.cell}{depth}")(hidden)
    # `Flatten` would warn that it drops the mask.
    flat = values if level.return_sequences else ops.reshape(values, (-1, level.values))
    linear = layers.Dense(level.units[-1], dtype=EXACT, name="linear")(flat)
    residual = layers.Dense(level.units[-1], kernel_initializer="zeros", dtype=EXACT, name="residual")(hidden)
    return keras.Model(inputs, layers.Add(dtype=EXACT, name="encoding")([linear, residual]), name=name)


def sequence_decoder(level: SequenceLevel, name: str, *, reverse: bool) -> keras.Model:
    """Builds a decoder, the mirror image of the encoder, which must exist already.

    Args:
        level: the level of the decoder.
        name: name of the model.
        reverse: whether the recurrent layers generate steps from the last to the first.
    """
    inputs = layers.Input(level.encoding_shape)
    generated = level.input_shape[-1] if level.return_sequences else level.values
    linear = layers.Dense(generated, dtype=EXACT, name="linear")(inputs)
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
    """Builds a conditional decoder from built-in layers, unrolled: each step depends on the previous output."""
    steps, features = level.input_shape
    depths = list(reversed(range(len(level.units))))
    cells = [CELLS[level.cell][1](level.units[depth], name=f"cell{depth}") for depth in depths]
    states = [
        [layers.Dense(level.units[depth], "tanh", name=f"state{depth}_{part}")(inputs) for part in range(level.parts)]
        for depth in depths
    ]
    residual = layers.Dense(features, kernel_initializer="zeros", dtype=EXACT, name="residual")
    generated: dict[int, keras.KerasTensor] = {}
    hidden, previous = states[-1][0], None
    for step in reversed(range(steps)) if reverse else range(steps):
        if previous is not None:
            hidden = layers.Concatenate()([inputs, layers.Flatten()(previous)])
            for depth, cell in enumerate(cells):
                hidden, states[depth] = cell(hidden, states[depth])
        linear_step = layers.Cropping1D((step, steps - 1 - step), dtype=EXACT)(linear)
        residual_step = layers.Reshape((1, features), dtype=EXACT)(residual(hidden))
        previous = layers.Add(dtype=EXACT)([linear_step, residual_step])
        generated[step] = previous
    ordered = [generated[step] for step in range(steps)]
    return layers.Concatenate(axis=1, dtype=EXACT)(ordered) if steps > 1 else previous


def delayed(sequences: Any) -> Any:
    """Returns sequences delayed by one step. The first step is repeated."""
    return ops.concatenate([sequences[:, :1], sequences[:, :-1]], axis=1)
