"""Photographs with encodings of given sizes: PCA, a typical autoencoder, this library and, optionally, TAEF2.

    python -m benchmarks.quality.photographs                       # 5 minutes of training for each design: half an hour
    python -m benchmarks.quality.photographs --codes 8x8x32 --taef2 taef2_encoder.pth taef2_decoder.pth
    python -m benchmarks.quality.photographs --longer 4x4x32       # and 20 minutes of this library there

64x64x3 images in [-1, 1]. All designs are measured on eleven test photographs, which are used neither for training nor
for model selection: mean squared error, structural similarity (SSIM), and sharpness, the share of the Laplacian energy
that is kept. "highest" is the highest loss of a picture, divided by that of PCA; "worse tiles" is the share of tiles
with a loss above that of PCA. The validation loss is measured on two other photographs, which select
the weights to keep for every design. The defaults of this library were chosen with these two and with the photographs
of Debian's package lomiri-wallpapers-16.04.

The stacks of this library have default arguments except for the size of their encodings. "closed form" is
`train(images, epochs=0)`. The usual design is the convolutional autoencoder of most tutorials: 4x4 kernels from the
full resolution down, batch normalisation, leaky ReLU, tanh encodings and a learning rate of 1e-4. All designs are
trained on the same images for the same time. The learning rate of this library falls to zero over that time. TAEF2 is a
pretrained autoencoder, see `benchmarks.harness.taef2`.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from benchmarks.harness import data, measures, table
from benchmarks.harness.clocks import step_times
from benchmarks.harness.designs import (
    BATCH,
    CODES,
    N_OUT,
    PHOTOGRAPHS,
    SIZE,
    stack_for,
    step_of_last_level,
    train_stack,
)
from benchmarks.harness.rivals import train_plain, usual_design
from benchmarks.harness.taef2 import taef2
from stacked_autoencoder.utils.images import scaled

TAEF2_CODE = "8x8x32"  # its encodings


def compare_photographs(
    codes: Sequence[str],
    minutes: float,
    count: int,
    test_folder: Path,
    longer: Sequence[str] = (),
    longer_minutes: float = 20.0,
    taef2_files: Sequence[Path] = (),
) -> list[dict]:
    test, valid, images = data.test_pictures(test_folder), data.validation_tiles(), data.training_crops(count)
    rows = []
    for code in codes:
        initialised = stack_for(code)
        began = time.perf_counter()
        initialised.train(images, epochs=0, validation_data=valid, verbose=0)
        taken = time.perf_counter() - began
        pca = measures.pca_of(initialised)
        comparison = measures.Comparison(code, pca, test, valid)
        found = [comparison.row("PCA", pca), comparison.row("closed form", initialised.reconstruct, taken)]
        sae = stack_for(code)
        taken = train_stack(sae, images, valid, 60 * minutes)
        keras.utils.set_random_seed(0)
        usual = usual_design(images.shape[1:], CODES[code], N_OUT, SIZE)
        usual_seconds = train_plain(usual, images, valid, 60 * minutes, BATCH, steps=100)
        batch = images[:BATCH]
        step = step_times({"usual": usual}, scaled(batch))["usual"]
        found.append(comparison.row("usual design", predicted(usual), usual_seconds, step))
        step = step_of_last_level(sae, batch)
        found.append(comparison.row("ours", sae.reconstruct, taken, step))
        if code in longer:
            sae = stack_for(code)
            taken = train_stack(sae, images, valid, 60 * longer_minutes)
            found.append(comparison.row("ours, longer", sae.reconstruct, taken))
        if taef2_files and code == TAEF2_CODE:
            found.append(comparison.row("TAEF2", predicted(*taef2(*taef2_files))))
        measures.show(found)
        rows += found
    return rows


def predicted(*models: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """The function that applies Keras models one after the other."""

    def reconstruct(images: np.ndarray) -> np.ndarray:
        for model in models:
            images = model.predict(images, batch_size=BATCH, verbose=0)
        return images

    return reconstruct


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--codes", nargs="+", choices=list(PHOTOGRAPHS), default=list(PHOTOGRAPHS))
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of each design")
    parser.add_argument(
        "--longer",
        nargs="+",
        choices=list(PHOTOGRAPHS),
        default=[],
        help="encodings for which this library is trained once more",
    )
    parser.add_argument("--longer-minutes", type=float, default=20.0)
    parser.add_argument(
        "--taef2", nargs=2, type=Path, default=(), metavar=("ENCODER", "DECODER"), help="the two weight files of TAEF2"
    )
    data.add_count(parser)
    data.add_test_photographs(parser)
    arguments = parser.parse_args(argv)
    rows = compare_photographs(
        arguments.codes,
        arguments.minutes,
        arguments.count,
        arguments.test_photographs,
        arguments.longer,
        arguments.longer_minutes,
        arguments.taef2,
    )
    measures.show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
