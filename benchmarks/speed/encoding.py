"""Speed of `encode_to` against the forward pass alone, and of reading a store against training from it.

    python -m benchmarks.speed.encoding                    # a few minutes
    python -m benchmarks.speed.encoding --images 100000

The images are 64x64x3 crops; `--code` sets the shape of their encodings. Each ratio compares two jobs that take turns
in one run, with the best round of each, because other programs on the machine can only add time.
"""

import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness import data, table
from benchmarks.harness.clocks import best_times
from benchmarks.harness.designs import CODES, as_if_trained, level_for
from stacked_autoencoder import Autoencoder, ConvLevel, EncodingStore, ImageFolder
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.levels.stack import BATCH
from stacked_autoencoder.store.compression import FRAMES
from stacked_autoencoder.utils.images import scaled


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = table.parser(__doc__)
    parser.add_argument("--code", choices=list(CODES), default="16x16x32")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    crops = data.training_crops(arguments.images)
    sae = Autoencoder(shape=crops.shape[1:], levels=[level_for(arguments.code), ConvLevel(32, 1)])
    sae.train(crops[:1024], epochs=0, verbose=0)
    as_if_trained(sae)
    folder = Path(tempfile.mkdtemp())
    some = crops[: max(arguments.images // 8, 1)]
    try:
        ratios = from_array(sae, some, folder, arguments.rounds)
        ratios |= from_folder(sae, arguments.images // 20, 384, folder, arguments.rounds)
        ratios |= from_folder(sae, arguments.images // 2, data.SIDE, folder, arguments.rounds)
        ratios |= reading(sae, some, folder, arguments.rounds)
        ratios |= flatness(sae, crops, folder)
        ratios |= compressed(sae, crops, folder, arguments.rounds)
    finally:
        shutil.rmtree(folder)
    return table.figures(ratios, arguments.json)


def from_array(sae: Autoencoder, images: np.ndarray, folder: Path, rounds: int) -> dict[str, float]:
    times = best_times({"to disk": storing(sae, images, folder), "alone": forward(sae, images)}, rounds)
    return {"`encode_to` from an array: speed / speed of the forward pass": times["alone"] / times["to disk"]}


def from_folder(sae: Autoencoder, count: int, side: int, folder: Path, rounds: int) -> dict[str, float]:
    """Encodes JPEGs with sides of `side` pixels, which are resized while reading if the level needs another size."""
    pictures = folder / f"pictures{side}"
    pictures.mkdir()
    for index, crop in enumerate(data.training_crops(count, side=side)):
        tf.io.write_file(str(pictures / f"{index:06d}.jpg"), tf.io.encode_jpeg(crop, quality=90))
    images = ImageFolder(pictures, side=None if side == sae.shape[0] else sae.shape[0])

    def decode() -> None:
        for _ in as_source(images, sae.shape).in_order(BATCH):
            pass

    jobs = {
        "to disk": storing(sae, images, folder),
        "forward": forward(sae, np.concatenate(list(as_source(images, sae.shape).in_order(BATCH, scale=False)))),
        "decoding": decode,
    }
    times = best_times(jobs, rounds)
    slower, both = max(times["forward"], times["decoding"]), times["forward"] + times["decoding"]
    files = f"{side}x{side} JPEGs"
    parts = "of decoding followed by the forward pass", "of the slower of decoding and the forward pass"
    return {
        f"`encode_to` from {files}: speed / speed {parts[0]}": both / times["to disk"],
        f"`encode_to` from {files}: speed / speed {parts[1]}": slower / times["to disk"],
        f"(decoding {files}: speed / speed of the forward pass)": times["forward"] / times["decoding"],
    }


def reading(sae: Autoencoder, images: np.ndarray, folder: Path, rounds: int) -> dict[str, float]:
    store = sae.encode_to(folder / "read", images, level=0, verbose=0)
    level = sae.levels[1]
    model = keras.Sequential([level.encoder, level.decoder])
    model.compile("adam", "mse")
    step = tf.function(model.train_step)
    batch = tf.constant(store[:BATCH].astype(np.float32))

    def consume() -> None:
        for _ in range(-(-len(store) // BATCH)):
            step((batch, batch))

    times = best_times({"read": passing(store), "consume": consume}, rounds)
    return {"shuffled reading of a store: speed / speed of training level 1": times["consume"] / times["read"]}


def flatness(sae: Autoencoder, images: np.ndarray, folder: Path) -> dict[str, float]:
    few = images[: max(len(images) // 100, 1)]
    times = best_times({"few": storing(sae, few, folder)}, 5)
    times |= best_times({"many": storing(sae, images, folder)}, 1)
    per_image = times["many"] / len(images), times["few"] / len(few)
    name = f"`encode_to`: time per image of {len(images):,} images / of {len(few):,} images"
    return {name: per_image[0] / per_image[1]}


def compressed(sae: Autoencoder, images: np.ndarray, folder: Path, rounds: int) -> dict[str, float]:
    """A store with `loss_budget` against one in float16."""
    small = {"loss_budget": 0.01}
    jobs = {"float16": storing(sae, images, folder), "small": storing(sae, images, folder, **small)}
    times = best_times(jobs, rounds)
    read_float16 = passing(sae.encode_to(folder / "float16", images, level=0, verbose=0))
    read = passing(sae.encode_to(folder / "small", images, level=0, verbose=0, **small))

    def read_first() -> None:
        FRAMES.clear()
        read()

    reads = best_times({"float16": read_float16, "first": read_first, "later": read}, rounds)
    what = "a store with `loss_budget=0.01`: speed / speed of float16"
    return {
        f"writing {what}": times["float16"] / times["small"],
        f"reading {what}, first epoch": reads["float16"] / reads["first"],
        f"reading {what}, later epochs": reads["float16"] / reads["later"],
    }


def passing(store: EncodingStore) -> Callable[[], None]:
    """Returns a job that reads a whole store in random order."""

    def read() -> None:
        for _ in store.dataset(BATCH, shuffle=True):
            pass

    return read


def storing(sae: Autoencoder, images: np.ndarray | Path, folder: Path, **options: float) -> Callable[[], None]:
    numbers = itertools.count()

    def store() -> None:
        path = folder / f"store{next(numbers)}"
        sae.encode_to(path, images, level=0, verbose=0, **options)
        shutil.rmtree(path)

    return store


def forward(sae: Autoencoder, images: np.ndarray) -> Callable[[], None]:
    batches = [scaled(images[start : start + BATCH]).numpy() for start in range(0, len(images), BATCH)]

    def run() -> None:
        for batch in batches:
            sae.levels[0].encode(batch)

    return run


if __name__ == "__main__":
    main()
