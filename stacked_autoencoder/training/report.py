"""What `train` and `fine_tune` print: the data, each level, the time left, and a table of losses at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import keras

from stacked_autoencoder.data.pairs import Pairs
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.distribution import is_chief
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.utils.console import aligned, clock, quotient, shape_text
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.images import Shape

NOUNS = {3: "images", 2: "sequences", 1: "vectors"}  # rank of one example → what users call several
# A step also has a fixed cost, so the estimate for a small level is at least this share of that for a large one.
LEAST_SHARE = 0.1
NAMED = 3  # skipped pictures to name


class Row(NamedTuple):
    """A row of the table of losses. `pca_loss` and `loss` are `None` if they are not known."""

    level: str
    encoding: str
    pca_loss: float | None
    start_loss: float
    loss: float | None


class TrainingReport:
    """Prints what one call of `train` or `fine_tune` does. With `verbose=0`, it prints nothing. With several workers,
    only the chief prints.

    Args:
        stack: the stack to train.
        data: the training data.
        validation: the validation data, `None` if there are none.
        epochs: index of a level to train → its epochs; those of `fine_tune` have the index `None`.
        verbose: as in Keras's `fit`.
        batch_size: images per step, for the number of steps of the levels to come.
        first_level: index of the level that receives the data: 0 for images.
    """

    def __init__(
        self,
        stack: Stack,
        data: Pairs,
        validation: Pairs | None,
        epochs: Mapping[int | None, int],
        verbose: int | str,
        *,
        batch_size: int,
        first_level: int = 0,
    ) -> None:
        self.stack, self.data, self.validation, self.epochs = stack, data, validation, dict(epochs)
        self.batch_size, self.first_level = batch_size, first_level
        self.is_silent = not verbose or not is_chief()
        self.measured_on = "the validation data" if validation is not None else "a sample of the training data"
        self.rows: list[Row] = []
        self.start_time = time.monotonic()
        self.skipped, self.has_reported_ignored = 0, False

    # === The whole call ===

    def begin(self) -> None:
        """Prints the levels and the numbers of images."""
        if self.is_silent:
            return
        indices = [index for index in self.epochs if index is not None]
        if indices:
            what = f"Training level{'s' * (len(indices) > 1)} {_enumerated(indices)}"
        else:
            shapes = _shapes(self.stack.shape, self.stack.encoding_shape)
            what = f"Fine-tuning all levels jointly ({shapes})"
        noun = NOUNS[len(self.stack.shape)] if self.first_level == 0 else f"encodings of level {self.first_level - 1}"
        trained_on = _counted(self.data.inputs, noun)
        if self.validation is None:
            self.print(f"{what} on {trained_on}. No validation data: {self.measured_on} selects the weights.")
        else:
            count = self.validation.inputs.count()
            validation = "validation data" if count is None else f"{count:,} validation examples"
            self.print(f"{what} on {trained_on}, with {validation}.")
        self._report_skipped()

    def end(self) -> None:
        """Prints the table of losses, and the time that training took."""
        if self.is_silent:
            return
        self._report_skipped()
        took = f"Training took {clock(time.monotonic() - self.start_time)}."
        if not self.rows:
            self.print(took)
            return
        with_pca = all(row.pca_loss is not None for row in self.rows)
        before = "PCA loss" if with_pca else "initial loss"
        table = [["level", "encoding", before, "loss", f"loss / {before}"]]
        for row in self.rows:
            reference = row.pca_loss if with_pca else row.start_loss
            losses = ["?", "?"] if row.loss is None else [f"{row.loss:.3e}", quotient(row.loss, reference)]
            table.append([row.level, row.encoding, f"{reference:.3e}", *losses])
        subject = "each level on its own input" if None not in self.epochs else "the whole stack"
        self.print(f"\nLosses of {subject}, measured on {self.measured_on}:")
        for line in aligned(table, str.rjust):
            self.print(line)
        self.print(took)

    def print(self, line: str) -> None:
        if not self.is_silent:
            print(line, flush=True)

    def _report_skipped(self) -> None:
        """Names files of folders that aren't pictures or can't be read, if there are more than the last time."""
        pairs = [each for each in (self.data, self.validation) if each is not None]
        folders = [folder for each in pairs for source in each.sources for folder in getattr(source, "folders", ())]
        folders = list({id(folder): folder for folder in folders}.values())
        for folder in folders:
            if folder.ignored and not self.has_reported_ignored:
                kinds = (
                    f"{count:,} {printable(kind, 40) or 'without suffix'}" for kind, count in folder.ignored.items()
                )
                self.print(f"Ignored files in {printable(folder.path)}: {', '.join(kinds)}.")
        self.has_reported_ignored = True
        count = sum(len(folder.skipped) for folder in folders)
        if count > self.skipped:
            self.skipped = count
            for folder in folders:
                first = [f"{name} ({reason})" for name, reason in islice(folder.skipped.items(), NAMED)]
                more = len(folder.skipped) - len(first)
                if first:
                    named = "; ".join(map(printable, first)) + (f"; and {more:,} more" if more else "")
                    share = f"{len(folder.skipped):,} of {len(folder.files):,} pictures"
                    self.print(f"Skipped {share} in {printable(folder.path)}: {named}.")

    # === One level ===

    def level(self, index: int) -> FitReport:
        """Starts the report of a level that is trained alone."""
        level = self.stack.levels[index]
        indices = [*self.epochs]
        position = f", {indices.index(index) + 1} of {len(indices)}" if len(indices) > 1 else ""
        shapes = _shapes(level.input_shape, level.encoding_shape)
        self.print(f"Level {index}{position}: {shapes}")
        return FitReport(self, index, f"Level {index} ({shapes})")

    def all_levels(self) -> FitReport:
        """Starts the report of joint training."""
        return FitReport(self, None, f"All levels ({_shapes(self.stack.shape, self.stack.encoding_shape)})")

    def encoding(self, index: int, name: str) -> None:
        """Reports that a level encodes the data for the next one."""
        self.print(f"Encoding the {name} data with level {index} ...")

    def seconds_of_later_levels(self, index: int | None, seconds_per_step: float, steps: int) -> float:
        """Estimates the time that the levels above need, from their weights and input sizes.

        Args:
            index: index of the level that is being trained.
            seconds_per_step: seconds per step of this level.
            steps: steps per epoch of this level.
        """
        later = [other for other in self.epochs if index is not None and other > index]
        if not later:
            return 0.0
        cost = _cost(self.stack, index)
        count = self.data.inputs.count()
        steps = steps if count is None else math.ceil(count / self.batch_size)
        shares = {other: max(_cost(self.stack, other) / cost, LEAST_SHARE) for other in later}
        return sum(share * seconds_per_step * steps * self.epochs[other] for other, share in shares.items())


class FitReport:
    """Prints what one `fit` does, and passes its losses to the report of the whole call.

    Args:
        report: report of the call.
        index: index of the level; `None` for all levels jointly.
        title: name of the level in messages.
    """

    def __init__(self, report: TrainingReport, index: int | None, title: str) -> None:
        self.report, self.index, self.title = report, index, title
        self.has_pca, self.pca_loss = False, None

    def initialising(self, level: Level) -> None:
        """Reports that a new level is about to be initialised."""
        self.has_pca = level.starts_with_pca and self.report.data.targets is None
        name = "PCA of its input" if self.has_pca else "the closed-form initialisation"
        self.report.print(f"  Computing {name} ...")

    def measured(self, loss: float, pca_loss: float) -> None:
        """Reports the loss before the first step, and that the step is compiled next.

        Args:
            loss: the loss before the first step.
            pca_loss: the loss with PCA's decoder.
        """
        text = f"Loss before training on {self.report.measured_on}: {loss:.3e}"
        if self.has_pca:
            self.pca_loss = pca_loss
            text = f"PCA loss on {self.report.measured_on}: {pca_loss:.3e}"
            if loss < pca_loss:
                text += f". Loss with a decoder that reads neighbouring encodings: {loss:.3e}"
        compiling = " Compiling the training step ..." if self.report.epochs[self.index] else ""
        self.report.print(f"  {text}.{compiling}")

    def resumed(self, epoch: int, step: int) -> None:
        """Reports that training continues within a level."""
        where = f"epoch {epoch + 1}" if step == 0 else f"step {step + 1:,} of epoch {epoch + 1}"
        self.report.print(f"  Continuing from the checkpoint, at {where}.")

    def was_finished(self, folder: Any, history: keras.callbacks.History) -> None:
        """Reports that an earlier call has finished this training."""
        self.report.print(f"  Already trained: taken from the checkpoint in {folder}.")
        self.finished(history)

    def finished(self, history: keras.callbacks.History) -> None:
        """Adds the losses of a finished training to the table."""
        name, stack = "all" if self.index is None else str(self.index), self.report.stack
        shape = stack.encoding_shape if self.index is None else stack.levels[self.index].encoding_shape
        best = getattr(history, "best_loss", None)
        self.report.rows.append(Row(name, shape_text(shape), self.pca_loss, history.start_loss, best))

    def time_left(self, seconds_per_step: float, steps_left: int, steps: int) -> str:
        """Formats the time left for this level, and for all levels to train."""
        seconds = seconds_per_step * steps_left
        later = self.report.seconds_of_later_levels(self.index, seconds_per_step, steps)
        if not later:
            return f"about {clock(seconds)} left"
        return f"about {clock(seconds)} left, {clock(seconds + later)} for all levels"


def _counted(source: Source, noun: str) -> str:
    count = source.count()
    return f"{noun} (number not known beforehand)" if count is None else f"{count:,} {noun}"


def _shapes(inputs: Shape, encodings: Shape) -> str:
    return f"{shape_text(inputs)} -> {shape_text(encodings)}"


def _enumerated(indices: Sequence[int]) -> str:
    *most, last = map(str, indices)
    return f"{', '.join(most)} and {last}" if most else last


def _cost(stack: Stack, index: int) -> float:
    """A rough measure of a step's cost: the weights of a level times the pixels of its input."""
    open_side = stack.factor // (stack.factor_at(index - 1) if index else 1)  # of an image of one encoding
    sides = stack.levels[index].input_shape[:-1]
    return max(stack.levels[index].count_params(), 1) * math.prod(side or open_side for side in sides)
