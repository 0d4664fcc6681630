"""Loss of photographs for a given code size and time: PCA, the usual design, and ours, in one run.

    python -m benchmarks.quality.photographs                       # 5 minutes of training for each design: half an hour
    python -m benchmarks.quality.photographs --codes 8x8x32
    python -m benchmarks.quality.photographs --longer 4x4x32       # and ours there once more, for 20 minutes

64x64x3 in [-1, 1]. `loss` is the one on eleven photographs that decided nothing, `worse` the share of their tiles on
which the loss is above PCA's; `valid` is the loss on two others by which, for every design, the best weights were kept.
This library's defaults were found by those two and by the photographs in Debian's package lomiri-wallpapers-16.04. The
usual design is the deep convolutional autoencoder of most tutorials: 4x4 kernels from full resolution down, batch norm,
leaky ReLU, tanh code, learning rate 1e-4. Every design gets the same images and the same minutes; the learning rate of
ours falls to zero by that clock.
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
    our_row,
    reconstruction,
    train_ours,
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
        sae, ours_seconds = train_ours([level_for(code)], images, valid, 60 * minutes)
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
            our_row(code, "ours", sae, test, budgets, ours_seconds, steps["ours"]),
        ]
        if code in longer:
            sae, seconds = train_ours([level_for(code)], images, valid, 60 * longer_minutes)
            found.append(our_row(code, "ours, longer", sae, test, budgets_of(sae, test, valid), seconds))
        table.show(found)
        rows += found
    return rows


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--codes", nargs="+", choices=list(CODES), default=list(CODES))
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of each design")
    parser.add_argument("--longer", nargs="+", choices=list(CODES), default=[], help="codes that ours trains for again")
    parser.add_argument("--longer-minutes", type=float, default=20.0)
    data.add_count(parser)
    data.add_test_photographs(parser)
    told = parser.parse_args(argv)
    longer = told.longer, told.longer_minutes
    rows = compare_photographs(told.codes, told.minutes, told.count, told.test_photographs, *longer)
    table.show(rows)
    return table.write(rows, told.json)


if __name__ == "__main__":
    main()
