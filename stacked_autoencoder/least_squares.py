"""The best linear map from what a layer is given to what it should give, in closed form."""

import numpy as np

from stacked_autoencoder.principal import SMALLEST


def least_squares(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """`(inputs, outputs)`: the best linear map between centred samples, drawn to zero where these are few."""
    centred = inputs - inputs.mean(axis=0)
    square = centred.T @ centred
    ridge = np.trace(square) / len(inputs)  # as if as many samples as there are inputs had been zero
    square[np.diag_indices_from(square)] += max(ridge, SMALLEST)
    return np.linalg.solve(square, centred.T @ (outputs - outputs.mean(axis=0)))
