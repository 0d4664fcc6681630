"""Peak memory of many images against few, and of one large image.

    python -m benchmarks.speed.memory                      # ten minutes; needs 2 GB of disk
    python -m benchmarks.speed.memory --images 10000 --side 3072

Each job runs in a separate process. *Many* encodes `--images` images of 64x64x3 to a store and trains level 1 from it
for one epoch. It reports the peak memory minus that of the same job on 1,000 images. *Large* encodes and decodes one
image of `--side` x `--side` pixels with two levels, tile by tile. It reports the peak memory, and the time per pixel
divided by that of a whole 512x512 image.
"""

import json
import tempfile
from functools import partial

from benchmarks.harness import table
from benchmarks.harness.process import in_a_process, peak_megabytes

FEW = 1000
SMALL = 512


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = table.parser(__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=6144)
    parser.add_argument("--job", choices=list(JOBS), help="the job of a child process; needs --size")
    parser.add_argument("--size", type=int)
    parser.add_argument("--width", type=int, default=64, help="width of the network")
    arguments = parser.parse_args(argv)
    if arguments.job is not None:
        figures = JOBS[arguments.job](arguments.size, arguments.width)
        print(json.dumps(figures | {"megabytes": peak_megabytes()}))
        return figures
    job = partial(in_a_process, "benchmarks.speed.memory", f"--width={arguments.width}")
    few, many = (job("--job=many", f"--size={number}") for number in (FEW, arguments.images))
    large = job("--job=large", f"--size={arguments.side}")
    figures = {
        f"peak memory of {arguments.images:,} images above that of {FEW:,} images (MB)": many["megabytes"]
        - few["megabytes"],
        f"(peak memory of {FEW:,} images (MB))": few["megabytes"],
        f"time per image of {arguments.images:,} images / of {FEW:,} images": many["seconds"] / few["seconds"],
        f"peak memory of one {arguments.side}x{arguments.side} image (MB)": large["megabytes"],
        f"time per pixel of a {arguments.side}x{arguments.side} image / of a {SMALL}x{SMALL} image": large["ratio"],
    }
    return table.figures(figures, arguments.json)


def many(count: int, width: int) -> dict[str, float]:
    import numpy as np  # imported here, so that the parent process stays small
    import tensorflow as tf

    from benchmarks.harness.clocks import best_times
    from benchmarks.harness.designs import as_if_trained
    from stacked_autoencoder import Autoencoder, ConvLevel

    some = tf.constant(np.random.default_rng(0).integers(0, 256, (256, 64, 64, 3), dtype=np.uint8))
    images = tf.data.Dataset.range(count).map(lambda index: some[index % 256])
    sae = Autoencoder(shape=(64, 64, 3), levels=[ConvLevel(32, 2, width), ConvLevel(32, 1, width)])
    with tempfile.TemporaryDirectory() as folder:
        sae.train(images, [0, 1], cache_dir=folder, memory_budget=0, batch_size=64, verbose=0)
    as_if_trained(sae)

    def encode() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sae.encode_to(folder, images, level=0, verbose=0)

    return {"seconds": best_times({"encode": encode}, 1)["encode"] / count}


def large(side: int, width: int) -> dict[str, float]:
    import numpy as np

    from benchmarks.harness.clocks import best_times
    from benchmarks.harness.designs import as_if_trained
    from stacked_autoencoder import Autoencoder

    sae = Autoencoder(size=width, n_out=32, n_scalings=2, n_levels=2)
    as_if_trained(sae)
    images = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    small = images[:, :SMALL, :SMALL]
    jobs = {"whole": lambda: sae.reconstruct(small), "tiles": lambda: sae.decode(sae.encode(images))}
    times = best_times(jobs, 1)
    return {"ratio": times["tiles"] / times["whole"] * small.size / images.size}


JOBS = {"many": many, "large": large}

if __name__ == "__main__":
    main()
