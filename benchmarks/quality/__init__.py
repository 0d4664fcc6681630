"""Benchmarks of losses, accuracies and generated images."""
