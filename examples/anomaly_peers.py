"""Code that the examples of anomaly detection share: two peers of `heads.AnomalyDetector`, measures, and a table."""

from collections.abc import Mapping

import numpy as np
from pyod.models.base import BaseDetector
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score


def pca_errors(normal: np.ndarray, rows: np.ndarray, n_components: int) -> np.ndarray:
    """Returns the mean squared error of PCA for each row, `(M,)`.

    Args:
        normal: `(N, features)`, to which PCA is fitted.
        rows: `(M, features)`.
        n_components: number of principal components.
    """
    pca = PCA(n_components).fit(normal)
    return np.square(rows - pca.inverse_transform(pca.transform(rows))).mean(axis=1)


def pyod_scores(detector: BaseDetector, normal: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the anomaly score of each row `(M,)` from a new detector of PyOD, after fitting it to normal rows."""
    return detector.fit(normal).decision_function(rows)


def measures(is_anomaly: np.ndarray, scores: np.ndarray, share: float | None = None) -> dict[str, float]:
    """Returns the area under the ROC curve (`AUROC`) and the average precision (`AP`).

    Args:
        is_anomaly: bool array of any shape.
        scores: array of the same shape, larger for anomalies.
        share: share of anomalies for which the average precision is computed, by weighting them; by default that of
            `is_anomaly`. The AUROC does not depend on it.
    """
    is_anomaly, scores = is_anomaly.ravel(), scores.ravel()
    weights = None
    if share is not None:
        actual = is_anomaly.mean()
        weights = np.where(is_anomaly, share / actual, (1 - share) / (1 - actual))
    precision = average_precision_score(is_anomaly, scores, sample_weight=weights)
    return {"AUROC": float(roc_auc_score(is_anomaly, scores)), "AP": float(precision)}


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Returns the mean of each measure over several results."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def print_measures(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Prints a table with one line per design; `rows` is `{design: {measure: value}}`."""
    names = list(next(iter(rows.values())))
    width = max(len(each) for each in (title, *rows))
    print(f"\n{title:{width}}" + "".join(f"  {name:>7}" for name in names))
    for design, row in rows.items():
        print(f"{design:{width}}" + "".join(f"  {row[name]:{max(7, len(name))}.3f}" for name in names), flush=True)
