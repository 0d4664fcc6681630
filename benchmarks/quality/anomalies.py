"""Anomaly detection: `heads.AnomalyDetector` against the errors of PCA, the errors of the same stack, and PyOD.

    python -m benchmarks.quality.anomalies                      # three minutes; `pip install pyod` adds PyOD
    python -m benchmarks.quality.anomalies --only textures

**Fashion-MNIST**: for each class, the detector is fitted to the training images of the class. The score is the area
under the ROC curve (AUROC) and the average precision over all test images, of which the other nine classes are
anomalies. The default settings were compared on test images, too, so these figures are slightly optimistic.

**Textures**: crops of 128x128 pixels of scikit-image's pictures of brick, grass and gravel. The detector is fitted to
crops of the left half. Scratches, stains and missing parts are painted into crops of the right half. The AUROC is that
of pixels; the figures of one kind are those of crops with this kind of defect and crops without a defect. The painted
defects stand for real ones, since no data set of real defects, such as MVTec AD, was available offline.

Designs: "detector" is fitted to an untrained stack (`epochs=0`, which is PCA of patches of 2x2 pixels). "PCA error" is
the squared error of PCA: of whole images with 64 values for Fashion-MNIST, of patches of 8x8 pixels with 8 values for
textures. "PyOD AutoEncoder" is the dense autoencoder of PyOD with its defaults, on whole images or on patches of 8x8
pixels.
"""

import importlib.util
import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial

import keras
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.harness import table
from benchmarks.harness.clocks import best_times
from examples import clothes
from examples.textures import DEFECTS, SIDE, TEXTURES, crops_of, load_halves, painted_crops
from stacked_autoencoder import Autoencoder, heads
from stacked_autoencoder.pca import fit_linear_code, to_patches

STRIDE = 16  # pixels, between normal crops
PATCH = 8
BLUR = 4.0  # pixels, of the maps of errors
HAS_PYOD = all(map(importlib.util.find_spec, ("pyod", "torch")))  # its AutoEncoder needs PyTorch


def new_detector(images: np.ndarray) -> heads.AnomalyDetector:
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=images.shape[1:], n_out=4, n_scalings=1)
    sae.train(images, epochs=0, verbose=0)
    return heads.AnomalyDetector(sae).fit(images)


# === Fashion-MNIST ===


def compare_classes(classes: Sequence[int], count: int | None) -> list[dict]:
    data = clothes.load(count=count)
    images = np.concatenate([data.images, data.valid_images])
    labels = np.concatenate([data.labels, data.valid_labels])
    rows = []
    for kind in classes:
        normal, is_anomaly = images[labels == kind], data.test_labels != kind
        for name, score in IMAGE_SCORES.items():
            began = time.perf_counter()
            scores = score(normal, data.test_images)
            row = {"data": "Fashion-MNIST", "class": kind, "design": name, "seconds": time.perf_counter() - began}
            row |= {"auroc": float(roc_auc_score(is_anomaly, scores))}
            rows.append(row | {"precision": float(average_precision_score(is_anomaly, scores))})
            print(f"class {kind}  {name:18}AUROC {row['auroc']:.3f}  {row['seconds']:.0f} s", flush=True)
    return rows


def score_by_detector(normal: np.ndarray, images: np.ndarray) -> np.ndarray:
    return new_detector(normal).score(images)


def score_by_pca(normal: np.ndarray, images: np.ndarray, n_out: int = 64) -> np.ndarray:
    normal, images = (each.reshape(len(each), -1).astype(np.float64) for each in (normal, images))
    code = fit_linear_code(lambda: [normal], None, n_out)
    return np.square(images - code.restored(images)).mean(axis=1)


def score_by_pyod(normal: np.ndarray, images: np.ndarray) -> np.ndarray:
    from pyod.models.auto_encoder import AutoEncoder

    model = AutoEncoder(random_state=0, verbose=0)
    model.fit(normal.reshape(len(normal), -1))
    return model.decision_function(images.reshape(len(images), -1))


IMAGE_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "detector": score_by_detector,
    "PCA error": score_by_pca,
} | ({"PyOD AutoEncoder": score_by_pyod} if HAS_PYOD else {})


# === Textures ===


def compare_textures(names: Sequence[str], count: int) -> list[dict]:
    rows = []
    for name in names:
        normal, other = load_halves(name)
        images, masks, kinds = painted_crops(other, count)
        for design, score in MAP_SCORES.items():
            began = time.perf_counter()
            maps = score(crops_of(normal, STRIDE), images)
            row = {"data": name, "design": design, "seconds": time.perf_counter() - began}
            row["auroc"] = float(roc_auc_score(masks.ravel(), maps.ravel()))
            row["precision"] = float(average_precision_score(masks.ravel(), maps.ravel()))
            for kind in DEFECTS:
                some = np.isin(kinds, (kind, "none"))
                row[kind] = float(roc_auc_score(masks[some].ravel(), maps[some].ravel()))
            rows.append(row)
            shown = "  ".join(f"{kind} {row[kind]:.3f}" for kind in DEFECTS)
            print(f"{name:8}{design:18}AUROC {row['auroc']:.3f}  {shown}  {row['seconds']:.0f} s", flush=True)
    return rows


def map_by_detector(normal: np.ndarray, images: np.ndarray) -> np.ndarray:
    return new_detector(normal).score_map(images)


def map_by_pca(normal: np.ndarray, images: np.ndarray) -> np.ndarray:
    normal, patches = (to_patches(each / 127.5 - 1, PATCH) for each in (normal, images))
    code = fit_linear_code(lambda: [normal], None, PATCH)
    return on_pixels(np.square(patches - code.restored(patches)).mean(axis=1), images)


def map_by_pyod(normal: np.ndarray, images: np.ndarray) -> np.ndarray:
    normal, patches = (to_patches(each / 127.5 - 1, PATCH).astype(np.float32) for each in (normal, images))
    return on_pixels(score_by_pyod(normal[:: len(normal) // 10_000 + 1], patches), images)


def on_pixels(errors: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Maps of the errors of patches, blurred as those of the detector are."""
    maps = errors.reshape(len(images), SIDE // PATCH, SIDE // PATCH).repeat(PATCH, 1).repeat(PATCH, 2)
    return gaussian_filter(maps, (0, BLUR, BLUR))


MAP_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "detector": map_by_detector,
    "PCA error": map_by_pca,
} | ({"PyOD AutoEncoder": map_by_pyod} if HAS_PYOD else {})


def compare_speed(count: int) -> list[dict]:
    """Seconds to fit a detector, and the rate of scoring as a share of the rate of encoding."""
    clothing = np.resize(clothes.load().images, (count, 28, 28, 1))
    crops = np.resize(crops_of(load_halves("brick")[0], STRIDE), (max(count // 10, 1), SIDE, SIDE, 1))
    rows = []
    for images, (name, epochs) in itertools.product((clothing, crops), (("not trained", 0), ("trained", 2))):
        keras.utils.set_random_seed(0)
        sae = Autoencoder(shape=images.shape[1:], n_out=4, n_scalings=1)
        sae.train(images, epochs=epochs, verbose=0)
        calls = heads.AnomalyDetector(sae).fit, sae.encode, heads.AnomalyDetector(sae).fit(images).score
        times = best_times({call.__name__: partial(call, images) for call in calls}, 5)
        side = images.shape[1]
        rows.append({"data": "speed", "design": name, "side": side, "images": len(images)} | times)
        told = f"{side}x{side}, {name}: fit of {len(images):,} images {times['fit']:.1f} s"
        print(f"{told}, scores at {times['encode'] / times['score']:.2f} of the rate of `encode`", flush=True)
    return rows


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=("fashion", "textures", "speed"), default=["fashion", "textures", "speed"]
    )
    parser.add_argument("--classes", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--textures", nargs="+", choices=TEXTURES, default=TEXTURES)
    parser.add_argument("--count", type=int, help="maximum number of images, for a quick try")
    arguments = parser.parse_args(argv)
    rows = []
    if "fashion" in arguments.only:
        rows += compare_classes(arguments.classes, arguments.count)
    if "textures" in arguments.only:
        rows += compare_textures(arguments.textures, min(32, arguments.count or 32))
    if "speed" in arguments.only:
        rows += compare_speed(min(10_000, arguments.count or 10_000))
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
