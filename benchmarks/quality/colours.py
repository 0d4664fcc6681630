"""What it is worth to swap the colour channels of half the crops: few photographs hold few colours.

    python -m benchmarks.quality.colours            # 5 minutes of training each

64x64x3 photographs to 8x8x32, as in `benchmarks.quality.photographs`: the same crops with their own colours, and with
the channels of half of them swapped.
"""

from pathlib import Path

from benchmarks.harness import data, table
from benchmarks.harness.designs import budgets_of, level_for, our_row, train_ours

CODE = "8x8x32"


def compare_colours(minutes: float, count: int, test_folder: Path) -> list[dict]:
    test, valid = data.test_tiles(test_folder), data.validation_tiles()
    rows = []
    for swapped in (False, True):
        images = data.training_crops(count, swap_colours=swapped)
        sae, took = train_ours([level_for(CODE)], images, valid, 60 * minutes)
        budgets = budgets_of(sae, test, valid)
        rows.append(our_row(CODE, f"colours {'swapped' if swapped else 'kept'}", sae, test, budgets, took))
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
