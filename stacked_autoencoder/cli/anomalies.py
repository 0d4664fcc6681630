"""The command `anomalies`: fits a detector to normal pictures, and scores other pictures."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.cli.common import Result, Say, pictures_of, shows_progress, written
from stacked_autoencoder.cli.png import destinations, write_png
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.data.image_folder import ImageFolder
from stacked_autoencoder.heads.anomaly_detector import AnomalyDetector
from stacked_autoencoder.utils.console import Progress
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.images import as_bytes

BATCH, OPEN_BATCH = 64, 8  # pictures that are in memory with their maps; fewer of any size, since they can be large
SCORES = "scores.csv"
LISTED = 5  # anomalies that are printed
RED = np.array([255, 0, 0], np.float32)
STRONGEST = 0.7  # share of red in a heat map, where the score is twice the threshold or more


def anomalies(arguments: Namespace, say: Say) -> Result:
    return fit(arguments, say) if arguments.action == "fit" else score(arguments, say)


def fit(arguments: Namespace, say: Say) -> Result:
    sae = Autoencoder.load(arguments.model)
    images = pictures_of(arguments.folder, arguments, sae)
    detector = AnomalyDetector(sae).fit(images, arguments.contamination, verbose=int(shows_progress(arguments)))
    path = detector.save(arguments.detector)
    say(f"Fitted a detector to {len(images):,} pictures. A score above {detector.threshold:.3g} is an anomaly: {path}")
    return {"detector": str(path), "pictures": len(images), "threshold": detector.threshold}


def score(arguments: Namespace, say: Say) -> Result:
    detector, out = AnomalyDetector.load(arguments.detector), arguments.out
    threshold = detector.threshold if arguments.threshold is None else arguments.threshold
    images = pictures_of(arguments.folder, arguments, detector.stack)
    files = dict(zip(images.names, destinations(images.names, out, taken=SCORES), strict=True))
    rows = []
    with Progress(len(images), shows_progress(arguments)) as progress:
        for name, picture, value, heat in _scored(detector, images):
            rows.append({"name": name, "score": float(value), "is_anomaly": bool(value > threshold)})
            if heat is not None:
                pixels = as_bytes(picture, detector.stack.value_range)
                write_png(files[name], heat_map(pixels, heat, threshold))
            progress.add(1)
    _write_scores(out / SCORES, rows)
    anomalous = sorted((row for row in rows if row["is_anomaly"]), key=lambda row: -row["score"])
    say(f"{len(anomalous):,} of {len(rows):,} pictures have a score above {threshold:.3g}: {out / SCORES}")
    for row in anomalous[:LISTED]:
        say(f"  {row['score']:8.3g}  {printable(row['name'])}")
    if len(anomalous) > LISTED:
        say(f"  and {len(anomalous) - LISTED:,} more")
    return {
        **written(out, len(rows), lambda _: None),
        "threshold": threshold,
        "anomalies": len(anomalous),
        "scores": rows,
    }


def _scored(
    detector: AnomalyDetector, images: ImageFolder
) -> Iterator[tuple[str, np.ndarray, float, np.ndarray | None]]:
    """Yields the name, the pixels, the score and the map of each picture; `None` if the detector has no maps."""
    size = OPEN_BATCH if None in detector.stack.shape else BATCH
    for block in as_source(images, **detector.stack.source_options, finite="images").blocks(size):
        results = []  # `block.names` leaves out unreadable pictures after they have been read
        for batch in block.batches(size):
            has_maps = detector.has_maps
            scores, maps = detector.score_and_map(batch) if has_maps else (detector.score(batch), [None] * len(batch))
            results += zip(batch, scores, maps, strict=True)
        for name, result in zip(block.names, results, strict=True):
            yield (name, *result)


def heat_map(picture: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Returns a picture `(H, W, 3)` uint8, grey with red where scores `(H, W)` are high."""
    grey = picture.astype(np.float32).mean(axis=-1, keepdims=True)
    share = STRONGEST * np.clip(scores / (2 * threshold), 0, 1)[..., None]
    return np.rint((1 - share) * grey + share * RED).astype(np.uint8)


def _write_scores(file: Path, rows: list[dict]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.DictWriter(stream, ["name", "score", "is_anomaly"])
        writer.writeheader()
        writer.writerows(rows)
