"""Loss on photographs for given encoding sizes and training times: PCA, a typical autoencoder and this library.

    python -m benchmarks.quality.photographs                       # 5 minutes of training for each design: half an hour
    python -m benchmarks.quality.photographs --codes 8x8x32
    python -m benchmarks.quality.photographs --longer 4x4x32       # and 20 minutes of this library there

64x64x3 images in [-1, 1]. The loss is measured on eleven test photographs, which are used neither for training nor
for model selection. "worse than PCA" is the share of their tiles with a loss above that of PCA. The validation loss is
measured on two other photographs, which select the weights to keep for every design. The defaults of this library were
chosen with these two and with the photographs of Debian's package lomiri-wallpapers-16.04.

The usual design is the convolutional autoencoder of most tutorials: 4x4 kernels from the full resolution down, batch
normalisation, leaky ReLU, tanh encodings and a learning rate of 1e-4. All designs are trained on the same images for
the same time. The learning rate of this library falls to zero over that time.
"""

from collections.abc import Sequence
from pathlib import Path

import keras

from benchmarks.harness import data, table
from benchmarks.harness.clocks import step_times
from benchmarks.harness.designs import (
    BATCH,
    CODES,
    N_OUT,
    SIZE,
    budgets_of,
    level_for,
    photographs_row,
    reconstruction,
    train_levels,
)
from benchmarks.harness.rivals import train_plain, usual_design
from benchmarks.harness.table import row
from stacked_autoencoder.utils.images import scaled


def compare_photographs(
    codes: Sequence[str],
    minutes: float,
    count: int,
    test_folder: Path,
    longer: Sequence[str] = (),
    longer_minutes: float = 20.0,
) -> list[dict]:
    test, valid, images = data.test_tiles(test_folder), data.validation_tiles(), data.training_crops(count)
    rows = []
    for code in codes:
        sae, ours_seconds = train_levels([level_for(code)], images, valid, 60 * minutes)
        keras.utils.set_random_seed(0)
        usual = usual_design(images.shape[1:], CODES[code], N_OUT, SIZE)
        usual_seconds = train_plain(usual, images, valid, 60 * minutes, BATCH, steps=100)
        budgets = budgets_of(sae, test, valid)
        pca = [budget["pca_loss"] for budget in budgets]
        theirs = [usual.evaluate(scaled(tiles), scaled(tiles), verbose=0) for tiles in (test, valid)]
        batch = images[:BATCH]
        steps = step_times({"ours": reconstruction(sae, batch), "usual": usual}, scaled(batch))
        about = ("photographs", code, int(budgets[0]["values"]))
        found = [
            row(*about, "PCA", pca[0], pca[0], valid=pca[1]),
            row(*about, "usual design", theirs[0], pca[0], usual_seconds, steps["usual"], valid=theirs[1]),
            photographs_row(code, "ours", sae, test, budgets, ours_seconds, steps["ours"]),
        ]
        if code in longer:
            sae, seconds = train_levels([level_for(code)], images, valid, 60 * longer_minutes)
            found.append(photographs_row(code, "ours, longer", sae, test, budgets_of(sae, test, valid), seconds))
        table.show(found)
        rows += found
    return rows


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--codes", nargs="+", choices=list(CODES), default=list(CODES))
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of each design")
    parser.add_argument(
        "--longer",
        nargs="+",
        choices=list(CODES),
        default=[],
        help="encodings for which this library is trained once more",
    )
    parser.add_argument("--longer-minutes", type=float, default=20.0)
    data.add_count(parser)
    data.add_test_photographs(parser)
    arguments = parser.parse_args(argv)
    longer = arguments.longer, arguments.longer_minutes
    rows = compare_photographs(arguments.codes, arguments.minutes, arguments.count, arguments.test_photographs, *longer)
    table.show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
