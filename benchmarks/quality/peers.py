"""Validation loss over training time: this library, the same network in PyTorch, PCA and other autoencoders.

    python -m benchmarks.quality.peers                      # 8x8x32, ten minutes of training each: an hour
    python -m benchmarks.quality.peers --code 16x16x32 --minutes 5

64x64x3 photographs in [-1, 1], encodings of one size. The loss is the mean squared error on the validation set. Times
include initialisation, compilation and validation; images per second are measured between two validations. Designs:

- ours: a level of this library.
- PyTorch: the same network, with PyTorch's random weights and Adam at 1e-3.
- PCA: scikit-learn's, of the patches that become one pixel of the encoding.
- Keras blog: the autoencoder of its post, with the same number of filters.
- usual: the convolutional autoencoder of most tutorials.
- dense: one hidden layer with one unit per value of the encoding.

*equal* is the time to the lowest loss of the usual design, *sooner* the time of the usual design divided by it.
"""

import itertools
import math
import statistics
from collections.abc import Callable

import keras
import numpy as np
from sklearn.decomposition import PCA

from benchmarks.harness import data, table, torch_twin
from benchmarks.harness.clocks import Curve, reached_after
from benchmarks.harness.designs import (
    BATCH,
    CODES,
    N_OUT,
    SIZE,
    level_for,
    new_stack,
    steps_per_validation,
    train_stack,
)
from benchmarks.harness.rivals import dense_code, keras_blog, train_plain, usual_design
from stacked_autoencoder.pca import to_patches
from stacked_autoencoder.utils.images import scaled

VALIDATE_EVERY = 100  # steps
N_PATCHES = 200_000  # for PCA


def fit_pca(code: str, images: np.ndarray, valid: np.ndarray) -> Curve:
    curve, factor = Curve(), 2 ** CODES[code]
    patches = to_patches(scaled(images[: N_PATCHES * factor**2 // data.SIDE**2]).numpy(), factor)
    fitted = PCA(N_OUT).fit(patches.reshape(-1, patches.shape[-1]))
    valid_patches = to_patches(scaled(valid).numpy(), factor).reshape(-1, patches.shape[-1])
    restored = fitted.inverse_transform(fitted.transform(valid_patches))
    curve.add(float(np.mean(np.square(valid_patches - restored))))
    return curve


def train_level(code: str, images: np.ndarray, valid: np.ndarray, seconds: float) -> Curve:
    curve = Curve()
    sae = new_stack(shape=images.shape[1:], levels=[level_for(code)])
    (history,) = sae.train(images, epochs=0, validation_data=valid, verbose=0)
    curve.add(history.start_loss)
    train_stack(sae, images, valid, max(seconds - curve.seconds, 0.1), callbacks=[curve])
    return curve


def train_keras(make: Callable[[], keras.Model], images: np.ndarray, valid: np.ndarray, seconds: float) -> Curve:
    keras.utils.set_random_seed(0)
    model, curve = make(), Curve()
    train_plain(model, images, valid, seconds, BATCH, steps=VALIDATE_EVERY, callbacks=[curve])
    return curve


def train_torch(code: str, images: np.ndarray, valid: np.ndarray, seconds: float) -> Curve:
    level, curve = level_for(code), Curve()
    level.build(images.shape[1:])
    torch_twin.train(torch_twin.twin(level, seed=0), images, valid, seconds, curve, VALIDATE_EVERY, BATCH)
    return curve


def row(design: str, curve: Curve, steps: int) -> dict:
    """The row of a design, with its speed if there are `steps` from one validation to the next."""
    times = [point["seconds"] for point in curve.rows]
    result = {"design": design, "loss": min(point["loss"] for point in curve.rows), "seconds": times[-1]}
    if steps:
        waits = [later - sooner for sooner, later in itertools.pairwise(times)] or [times[0] - curve.start]
        result["images_per_second"] = steps * BATCH / statistics.median(waits)
    return result | {"curve": curve.rows}


def compare_peers(code: str, seconds: float, count: int) -> list[dict]:
    images, valid = data.training_crops(count), data.validation_tiles()
    about = images.shape[1:], CODES[code], N_OUT, SIZE
    values = math.prod(map(int, code.split("x")))
    designs = {
        "PCA": lambda: fit_pca(code, images, valid),
        "ours": lambda: train_level(code, images, valid, seconds),
        "PyTorch": lambda: train_torch(code, images, valid, seconds),
        "usual": lambda: train_keras(lambda: usual_design(*about), images, valid, seconds),
        "Keras blog": lambda: train_keras(lambda: keras_blog(*about), images, valid, seconds),
        "dense": lambda: train_keras(lambda: dense_code(images.shape[1:], values), images, valid, seconds),
    }
    rows, steps = [], {"PCA": 0, "ours": steps_per_validation(len(images))}
    for design, train in designs.items():
        rows.append({"code": code, "values": values} | row(design, train(), steps.get(design, VALIDATE_EVERY)))
        print(f"{design}: {rows[-1]['loss']:.2e} after {rows[-1]['seconds']:.0f} s", flush=True)
    (usual,) = [each for each in rows if each["design"] == "usual"]
    taken = reached_after(usual["curve"], usual["loss"], "loss")
    for each in rows:
        there = reached_after(each["curve"], usual["loss"], "loss")
        each |= {"equal": there, "sooner": there and taken / there}
    return rows


def show(rows: list[dict]) -> None:
    print(
        f"\n{'encoding':9}{'values':>7}  {'design':12}{'loss':>10}{'time (s)':>9}{'images/s':>10}"
        f"{'equal (s)':>10}{'sooner':>8}"
    )
    for row in rows:
        speed = f"{row['images_per_second']:10.0f}" if "images_per_second" in row else " " * 10
        equal = f"{row['equal']:10.1f}{row['sooner']:8.1f}" if row["equal"] else ""
        about = f"{row['code']:9}{row['values']:7}  {row['design']:12}"
        print(f"{about}{row['loss']:10.2e}{row['seconds']:9.1f}{speed}{equal}")


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--code", choices=list(CODES), default="8x8x32")
    parser.add_argument("--minutes", type=float, default=10.0, help="training time of each design")
    data.add_count(parser)
    arguments = parser.parse_args(argv)
    rows = compare_peers(arguments.code, 60 * arguments.minutes, arguments.count)
    show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
