"""Layers and regularizers that act in training only and are never saved."""
