"""Effect of swapping the colour channels of half the training crops, because few photographs show few colours.

    python -m benchmarks.quality.colours            # 5 minutes of training each

64x64x3 photographs with 8x8x32 encodings, as in `benchmarks.quality.photographs`. The same crops are used with original
colours, and with swapped channels in half of them.
"""

from pathlib import Path

from benchmarks.harness import data, measures, table
from benchmarks.harness.designs import stack_for, train_stack

CODE = "8x8x32"


def compare_colours(minutes: float, count: int, test_folder: Path) -> list[dict]:
    test, valid = data.test_pictures(test_folder), data.validation_tiles()
    rows = []
    for swapped in (False, True):
        images = data.training_crops(count, swap_colours=swapped)
        sae = stack_for(CODE)
        taken = train_stack(sae, images, valid, 60 * minutes)
        design = f"colours {'swapped' if swapped else 'kept'}"
        rows.append(measures.Comparison(CODE, measures.pca_of(sae), test, valid).row(design, sae.reconstruct, taken))
    return rows


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    data.add_count(parser)
    data.add_test_photographs(parser)
    arguments = parser.parse_args(argv)
    rows = compare_colours(arguments.minutes, arguments.count, arguments.test_photographs)
    measures.show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
