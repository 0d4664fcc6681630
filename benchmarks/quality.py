"""Loss for a given code size and time: PCA, the usual design, and ours, in one run.

    python -m benchmarks.quality                       # everything, 5 minutes of training each: about an hour
    python -m benchmarks.quality --only photographs --codes 8x8x32
    python -m benchmarks.quality --only fashion --minutes 15

Photographs: 64x64x3 in [-1, 1]. `loss` is the one on eleven photographs that decided nothing, `worse` the share of
their tiles on which the loss is above PCA's; `valid` is the loss on two others by which, for every design, the best
weights were kept. This library's defaults were found by those two and by the photographs in Debian's package
lomiri-wallpapers-16.04. The usual design is the deep convolutional autoencoder of most tutorials: 4x4 kernels from full
resolution down, batch norm, leaky ReLU, tanh code, learning rate 1e-4. Fashion-MNIST: 28x28 in [0, 1], 30 values,
judged by the validation set; the textbook net is dense, 784-100-30-100-784 (Géron, "Hands-On Machine Learning", chapter
17). Every design gets the same images and the same minutes; the learning rate of ours falls to zero by that clock.
"""

import os
import platform
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks import data, table
from benchmarks.fashion import compare_fashion, compare_greedy_with_joint
from benchmarks.photographs import CODES, compare_colours, compare_photographs


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parts = ["photographs", "colours", "fashion", "greedy"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="some parts; all by default")
    parser.add_argument("--codes", nargs="+", choices=list(CODES), default=list(CODES))
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of each design")
    parser.add_argument("--epochs", type=int, default=4, help="of the comparison of greedy with joint training")
    parser.add_argument(
        "--test-photographs",
        type=Path,
        default=data.DEBIAN_PHOTOGRAPHS,
        help="usr/share/wallpapers of Debian's package plasma-workspace-wallpapers",
    )
    arguments = parser.parse_args(argv)
    rows = []
    if "photographs" in arguments.only:
        rows += compare_photographs(arguments.codes, 60 * arguments.minutes, arguments.test_photographs)
    if "colours" in arguments.only:
        rows += compare_colours(60 * arguments.minutes, arguments.test_photographs)
    if "fashion" in arguments.only:
        rows += compare_fashion(60 * arguments.minutes)
    if "greedy" in arguments.only:
        rows += compare_greedy_with_joint(arguments.epochs)
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, Keras {keras.__version__}, TensorFlow {tf.__version__}")
    table.show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
