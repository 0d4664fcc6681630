"""Loss and cost of the presets, which differ in width and depth, after the same training time.

    python -m benchmarks.quality.presets                        # 8x8x32, two and eight minutes each: half an hour
    python -m benchmarks.quality.presets --code 16x16x32 --minutes 1 5

64x64x3 photographs, with the three sets of `benchmarks.quality.photographs`. The loss is measured on the test set and
divided by that of PCA with the same number of values. Encoding is the forward pass per image, in batches of 64. The
learning rate falls to zero over the training time, so each number of minutes is a separate training.
"""

from pathlib import Path

import numpy as np

from benchmarks.harness import data, table
from benchmarks.harness.clocks import best_times, step_times
from benchmarks.harness.designs import BATCH, CODES, N_OUT, new_stack, reconstruction, train_stack
from stacked_autoencoder import Autoencoder
from stacked_autoencoder.levels.presets import PRESETS
from stacked_autoencoder.utils.images import scaled

ENCODED = 64  # images per batch where encoding is timed


def compare_presets(
    names: list[str], code: str, minutes: list[float], count: int, test_folder: Path, rounds: int = 10
) -> list[dict]:
    test, valid, images = data.test_tiles(test_folder), data.validation_tiles(), data.training_crops(count)
    rows = []
    for name in names:
        for each in minutes:
            sae = new_stack(shape=images.shape[1:], preset=name, n_out=N_OUT, n_scalings=CODES[code])
            seconds, level = train_stack(sae, images, valid, 60 * each), sae.levels[0]
            budget = sae.evaluate(test, return_dict=True)[0]
            row = {"preset": name, "code": code, "size": level.size, "depth": level.depth, "minutes": each}
            row |= {"loss": budget["full_loss"], "of_pca": budget["full_loss"] / budget["pca_loss"], "seconds": seconds}
            rows.append(row | {"weights": level.count_params()} | costs(sae, images, rounds))
            show(rows[-1:])
    return rows


def costs(sae: Autoencoder, images: np.ndarray, rounds: int) -> dict[str, float]:
    """Microseconds per image of a training step and of encoding."""
    step = step_times({"step": reconstruction(sae.levels, images[:BATCH])}, scaled(images[:BATCH]), rounds)["step"]
    batch = scaled(images[:ENCODED])
    encode = best_times({"encode": lambda: sae.levels[0].encode(batch)}, rounds)["encode"]
    return {"train_us": 1e6 * step / BATCH, "encode_us": 1e6 * encode / ENCODED}


def show(rows: list[dict]) -> None:
    print(
        f"\n{'preset':10}{'encoding':9}{'size':>5}{'depth':>6}{'minutes':>8}{'loss / PCA loss':>16}"
        f"{'training':>10}{'encoding':>10}"
    )
    for row in rows:
        about = f"{row['preset']:10}{row['code']:9}{row['size']:5}{row['depth']:6}{row['minutes']:8g}"
        print(f"{about}{row['of_pca']:16.3f}{row['train_us']:7.0f} us{row['encode_us']:7.0f} us", flush=True)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--code", choices=list(CODES), default="8x8x32")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0, 8.0])
    data.add_count(parser)
    data.add_test_photographs(parser)
    arguments = parser.parse_args(argv)
    rows = compare_presets(
        arguments.only, arguments.code, arguments.minutes, arguments.count, arguments.test_photographs
    )
    print("\nAll presets:")
    show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
