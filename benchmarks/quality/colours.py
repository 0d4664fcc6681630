"""Effect of swapping the colour channels of half the training crops, because few photographs show few colours.

    python -m benchmarks.quality.colours            # 5 minutes of training each

64x64x3 photographs with 8x8x32 encodings, as in `benchmarks.quality.photographs`. The same crops are used with original
colours, and with swapped channels in half of them.
"""

from pathlib import Path

from benchmarks.harness import data, table
from benchmarks.harness.designs import budgets_of, level_for, photographs_row, train_levels

CODE = "8x8x32"


def compare_colours(minutes: float, count: int, test_folder: Path) -> list[dict]:
    test, valid = data.test_tiles(test_folder), data.validation_tiles()
    rows = []
    for swapped in (False, True):
        images = data.training_crops(count, swap_colours=swapped)
        sae, took = train_levels([level_for(CODE)], images, valid, 60 * minutes)
        budgets = budgets_of(sae, test, valid)
        rows.append(photographs_row(CODE, f"colours {'swapped' if swapped else 'kept'}", sae, test, budgets, took))
    return rows


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    data.add_count(parser)
    data.add_test_photographs(parser)
    arguments = parser.parse_args(argv)
    rows = compare_colours(arguments.minutes, arguments.count, arguments.test_photographs)
    table.show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
