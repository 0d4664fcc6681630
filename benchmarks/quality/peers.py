"""Loss over time: this library's level, PCA, and what people build instead, with codes of one size.

    python -m benchmarks.quality.peers                      # 8x8x32, ten minutes of training each: an hour
    python -m benchmarks.quality.peers --code 16x16x32 --minutes 5

64x64x3 photographs in [-1, 1]; the loss is the mean squared error on others, looked at now and then, and the clock runs
through starts, compiling and looks; images per second are those between two looks. *Usual* is the deep convolutional
autoencoder of most tutorials, *Keras blog* that of its post with as many filters as ours, *dense* one hidden layer with
as many units as the code has values, *PyTorch* our network there, with PyTorch's own random start and Adam at 1e-3. PCA
is scikit-learn's, of all patches that give one pixel of the code. *Sooner* is how many times as soon a design is at the
loss that the usual one ends with.
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
from benchmarks.harness.designs import BATCH, CODES, N_OUT, SIZE, level_for, steps_to_look, train_ours
from benchmarks.harness.rivals import dense_code, keras_blog, train_plain, usual_design
from stacked_autoencoder.pca import to_patches
from stacked_autoencoder.utils.images import scaled

LOOK = 100  # steps from one look to the next
PATCHES = 200_000  # that PCA is fitted to


def pca(code: str, images: np.ndarray, valid: np.ndarray) -> Curve:
    curve, factor = Curve(), 2 ** CODES[code]
    patches = to_patches(scaled(images[: PATCHES * factor**2 // data.SIDE**2]).numpy(), factor)
    fitted = PCA(N_OUT).fit(patches.reshape(-1, patches.shape[-1]))
    seen = to_patches(scaled(valid).numpy(), factor).reshape(-1, patches.shape[-1])
    curve.add(float(np.mean(np.square(seen - fitted.inverse_transform(fitted.transform(seen))))))
    return curve


def ours(code: str, images: np.ndarray, valid: np.ndarray, seconds: float) -> Curve:
    curve = Curve()
    sae, _ = train_ours([level_for(code)], images, valid, seconds, callbacks=[curve])
    # Before its first step a level is PCA, and can be used.
    start = {"seconds": curve.start, "loss": sae.evaluate(valid, return_dict=True)[0]["pca_loss"]}
    curve.rows.insert(0, start)
    return curve


def of_keras(make: Callable[[], keras.Model], images: np.ndarray, valid: np.ndarray, seconds: float) -> Curve:
    keras.utils.set_random_seed(0)
    model, curve = make(), Curve()
    train_plain(model, images, valid, seconds, BATCH, steps=LOOK, callbacks=[curve])
    return curve


def of_torch(code: str, images: np.ndarray, valid: np.ndarray, seconds: float) -> Curve:
    level, curve = level_for(code), Curve()
    level.build(images.shape[1:])
    torch_twin.train(torch_twin.twin(level, seed=0), images, valid, seconds, curve, LOOK, BATCH)
    return curve


def row(design: str, curve: Curve, steps: int) -> dict:
    """One design's row. Its speed is told by the time from look to look, so many steps apart (0: it takes none)."""
    times = [look["seconds"] for look in curve.rows]
    result = {"design": design, "loss": min(look["loss"] for look in curve.rows), "seconds": times[-1]}
    if steps:
        waits = [later - sooner for sooner, later in itertools.pairwise(times)] or [times[0] - curve.start]
        result["images_per_second"] = steps * BATCH / statistics.median(waits)
    return result | {"curve": curve.rows}


def compare_peers(code: str, seconds: float, count: int) -> list[dict]:
    images, valid = data.training_crops(count), data.validation_tiles()
    about = images.shape[1:], CODES[code], N_OUT, SIZE
    values = math.prod(map(int, code.split("x")))
    designs = {
        "PCA": lambda: pca(code, images, valid),
        "ours": lambda: ours(code, images, valid, seconds),
        "PyTorch": lambda: of_torch(code, images, valid, seconds),
        "usual": lambda: of_keras(lambda: usual_design(*about), images, valid, seconds),
        "Keras blog": lambda: of_keras(lambda: keras_blog(*about), images, valid, seconds),
        "dense": lambda: of_keras(lambda: dense_code(images.shape[1:], values), images, valid, seconds),
    }
    rows, steps = [], {"PCA": 0, "ours": steps_to_look(len(images))}
    for design, train in designs.items():
        rows.append({"code": code, "values": values} | row(design, train(), steps.get(design, LOOK)))
        print(f"{design}: {rows[-1]['loss']:.2e} after {rows[-1]['seconds']:.0f} s", flush=True)
    (usual,) = [each for each in rows if each["design"] == "usual"]
    taken = reached_after(usual["curve"], usual["loss"], "loss")
    for each in rows:
        there = reached_after(each["curve"], usual["loss"], "loss")
        each |= {"equal": there, "sooner": there and taken / there}
    return rows


def show(rows: list[dict]) -> None:
    print(
        f"\n{'code':9}{'values':>7}  {'design':12}{'loss':>10}{'seconds':>9}{'images/s':>10}{'equal':>8}{'sooner':>8}"
    )
    for row in rows:
        speed = f"{row['images_per_second']:10.0f}" if "images_per_second" in row else " " * 10
        equal = f"{row['equal']:8.1f}{row['sooner']:8.1f}" if row["equal"] else ""
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
