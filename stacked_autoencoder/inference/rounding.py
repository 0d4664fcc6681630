"""Finds the step to which encodings can be rounded, so that the loss of reconstructions grows by at most a given share.

The error that rounding adds is about proportional to the square of the step, and about equal for all images. The loss
without rounding differs much between images. So the loss is measured on more images than the added error. Half of the
images for the added error serve to find the step, and the other half to measure the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stacked_autoencoder.data.source import Source
from stacked_autoencoder.inference.codec import decode_batch, encode_batch
from stacked_autoencoder.inference.evaluation import without_masked
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.metrics import Mean, squared_error
from stacked_autoencoder.store.compression import LARGEST_NUMBER
from stacked_autoencoder.utils.images import cropped

MOST_IMAGES = 512
MOST_VALUES = 1 << 26  # of these images
BLOCKS = 32  # neighbouring images; the blocks are spread over the source
ROUNDED = 1 / 4  # share of the images on which the added error is measured
LEAST_SHARE = 0.9  # of the budget that the step has to use
ATTEMPTS = 20
LEAST_BUDGET = 1e-10  # an added loss below this share is lost in the rounding errors of float32
EXACT = 1e-12  # share of the mean square of the images; a loss below it is a rounding error of float32


class Rounding(NamedTuple):
    """A step, and the share by which rounding to its multiples increases the loss of held-out images."""

    step: float
    added_loss: float


def find_rounding(stack: Stack, level: int, source: Source, loss_budget: float) -> Rounding:
    """Returns the largest step, within a tenth of the budget, whose added loss is at most `loss_budget`.

    Args:
        stack: the stack.
        level: index of the level of the encodings.
        source: the images.
        loss_budget: share of the loss, such as 0.01.

    Raises:
        ValueError: the loss is 0, or the budget is too small for float32.
    """
    decoder, loss, power, rounded = _Decoder(stack, level), Mean(), Mean(), []
    for images in _sampled(source):
        scaled = source.values.to_level(images).numpy()
        encodings = encode_batch(stack, stack.levels[0].encoder_inputs(scaled), level)
        power.add(float(np.nansum(np.square(scaled, dtype=np.float64))), scaled.size)
        some = math.ceil(ROUNDED * len(scaled))
        rounded.append(Sample(scaled[:some], encodings[:some], *decoder.squared_error(scaled[:some], encodings[:some])))
        loss.add(rounded[-1].squared_error, rounded[-1].count)
        if some < len(scaled):
            loss.add(*decoder.squared_error(scaled[some:], encodings[some:]))
    if not rounded:  # the store will be empty
        return Rounding(1.0, 0.0)
    if loss.value <= EXACT * power.value:
        raise ValueError(
            "`loss_budget` is a share of the loss of reconstructions, but the loss of these images is 0, apart from "
            f'rounding. Use `dtype="float32"` instead. Received: images with a loss of {loss.value:g}'
        )
    if loss_budget < LEAST_BUDGET:
        raise _too_small(loss_budget, loss.value)
    # Every second block, so both halves are spread over the source. A single block serves as both.
    chosen, held_out = rounded[::2], rounded[1::2] or rounded
    allowed = loss_budget * loss.value
    step = _step_of_error(allowed, chosen)
    for _ in range(ATTEMPTS):
        added = decoder.added_error(chosen, step)
        if LEAST_SHARE * allowed <= added <= allowed:
            break
        step *= _factor(allowed, added)
    least = max(np.abs(sample.encodings).max() for sample in rounded) / LARGEST_NUMBER
    for _ in range(ATTEMPTS):
        added = decoder.added_error(held_out, step)
        if step < least:
            break
        if added <= allowed:
            return Rounding(step, added / loss.value)
        step *= min(_factor(allowed, added), 0.95)
    raise _too_small(loss_budget, loss.value)


def _too_small(loss_budget: float, loss: float) -> ValueError:
    return ValueError(
        f"No step adds at most {loss_budget * loss:g} to the loss, which is {loss:g}, since float32 rounds as much. "
        'Use a larger `loss_budget`, or `dtype="float32"` without it. '
        f"Received: loss_budget={loss_budget!r}"
    )


class Sample(NamedTuple):
    """Scaled images, their encodings, the sum of squared errors without rounding, and the number of values."""

    images: np.ndarray
    encodings: np.ndarray
    squared_error: float
    count: int


def _step_of_error(allowed: float, samples: list[Sample]) -> float:
    """Returns the step for which rounding would add an error to the images if the decoder kept distances."""
    values = sum(sample.images.size for sample in samples)
    return math.sqrt(12 * allowed * values / sum(sample.encodings.size for sample in samples))


def _factor(allowed: float, added: float) -> float:
    """Returns by how much to change a step, since the added error grows with its square."""
    return 4.0 if added <= 0 else float(np.clip(np.sqrt(0.97 * allowed / added), 1 / 16, 4))


class _Decoder:
    """Measures the errors of decoded images."""

    def __init__(self, stack: Stack, level: int) -> None:
        self.stack, self.level = stack, level

    def squared_error(self, images: np.ndarray, encodings: np.ndarray) -> tuple[float, int]:
        """Returns the sum of squared errors of scaled images, and the number of values."""
        decoded = cropped(decode_batch(self.stack, encodings, self.level), images.shape[1:])
        return squared_error(*without_masked(self.stack.levels[0], images, decoded))

    def added_error(self, samples: list[Sample], step: float) -> float:
        """Returns by how much the mean squared error of images grows if encodings are multiples of a step.

        It is the mean for the rounding errors and for their opposites, which are as likely. Otherwise, a small growth
        would be lost in its correlation with the errors without rounding, which is 0 over many images.
        """
        mean = Mean()
        for images, encodings, error, count in samples:
            rounding = np.rint(encodings.astype(np.float64) / step) * step - encodings
            for each in (rounding, -rounding):
                mean.add(self.squared_error(images, (encodings + each).astype(np.float32))[0] - error, count)
        return mean.value


def _sampled(source: Source) -> Iterator[np.ndarray]:
    """Yields batches of up to 512 images from all parts of a source; the first ones if its length is not known."""
    count = source.count()
    of_image = 0 if None in source.shape else int(np.prod(source.shape))
    most = MOST_IMAGES if not of_image else int(np.clip(MOST_VALUES // of_image, 2, MOST_IMAGES))
    size = max(1, (most if count is None else min(most, count)) // BLOCKS)  # images per block
    if count is None:
        wanted = set(range(most // size))
    else:
        blocks = -(-count // size)
        wanted = set(np.linspace(0, blocks - 1, min(blocks, most // size)).round().astype(int).tolist())
    values = 0
    for block in source.blocks(size, wanted.__contains__):
        if block.index in wanted:
            for images in block.batches(BATCH):
                yield images
                values += images.size
        if block.index >= max(wanted) or values >= MOST_VALUES:
            return
