"""Models that are trained on encodings."""

from stacked_autoencoder.heads.classifier import classifier

__all__ = ["classifier"]
