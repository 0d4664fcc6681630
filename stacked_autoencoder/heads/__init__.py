"""Heads: models that are trained on encodings instead of images.

`classifier` makes a classifier. `VAE`, `WGAN`, `BEGAN` and `Flow` generate encodings, which the stack decodes to
images. `AnomalyDetector` finds images that are unlike normal ones.
"""

from __future__ import annotations

from stacked_autoencoder.heads.anomaly_detector import AnomalyDetector
from stacked_autoencoder.heads.began import BEGAN
from stacked_autoencoder.heads.classifier import classifier
from stacked_autoencoder.heads.flow import Flow
from stacked_autoencoder.heads.vae import VAE
from stacked_autoencoder.heads.wgan import WGAN

__all__ = ["BEGAN", "VAE", "WGAN", "AnomalyDetector", "Flow", "classifier"]
