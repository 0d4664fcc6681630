"""Estimators for scikit-learn: the transformer `StackedAutoencoder` and the outlier detector `AnomalyDetector`.

Scikit-learn is an extra: `pip install "stacked_autoencoder[sklearn]"`. `import stacked_autoencoder` doesn't import this
module. Import its names with `from stacked_autoencoder.sklearn import AnomalyDetector, StackedAutoencoder`.
"""

try:
    from sklearn.base import BaseEstimator  # noqa: F401
    from sklearn.utils.validation import validate_data  # noqa: F401  since scikit-learn 1.6
except ImportError as error:
    raise ImportError(
        'The estimators need scikit-learn 1.6 or later: `pip install "stacked_autoencoder[sklearn]"`.'
    ) from error

from stacked_autoencoder.sklearn.anomaly_detector import AnomalyDetector
from stacked_autoencoder.sklearn.transformer import StackedAutoencoder

__all__ = ["AnomalyDetector", "StackedAutoencoder"]
