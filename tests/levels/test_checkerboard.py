"""Whether what is restored shows the grid of the patches.

Odena et al. 2016, "Deconvolution and checkerboard artifacts", Distill.
"""

import keras
import numpy as np
import pytest
from keras import layers

from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.datasets import photograph, random_crops, tiles


def grid_energy(errors: np.ndarray, factor: int) -> float:
    """Energy of errors `(N, side, side, C)` at the frequencies of a grid, over that of the frequencies around each."""
    power = np.square(np.abs(np.fft.fft2(errors, axes=(1, 2)))).mean(axis=(0, 3))
    step = len(power) // factor
    around = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]
    grid = [(row * step, column * step) for row in range(factor) for column in range(factor)][1:]
    neighbours = [np.mean([power[(r + dr) % len(power), (c + dc) % len(power)] for dr, dc in around]) for r, c in grid]
    return float(sum(power[place] for place in grid) / sum(neighbours))


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(64, 32, 32, 3)).astype(np.float32)


def test_the_measure_sees_a_grid_where_there_is_one_and_none_in_noise():
    assert grid_energy(noise(0), 4) == pytest.approx(1, abs=0.2)
    board = np.tile(np.eye(2, dtype=np.float32), (16, 16))[None, ..., None]
    assert grid_energy(noise(0) + board, 2) > 10


def test_random_transposed_convolutions_show_a_grid_and_upsampling_does_not():
    """Of flat shades, untrained: what Odena et al. show, and why residual paths start at zero."""
    keras.utils.set_random_seed(0)
    shades = np.random.default_rng(0).normal(size=(64, 1, 1, 8)).astype(np.float32) * np.ones(
        (1, 20, 20, 1), np.float32
    )
    energies = {}
    for name, grow in {
        "kernel 3, stride 2": [layers.Conv2DTranspose(3, 3, strides=2, padding="same")],
        "kernel 2, stride 2": [layers.Conv2DTranspose(3, 2, strides=2)],
        "nearest": [layers.UpSampling2D(2), layers.Conv2D(3, 3, padding="same")],
    }.items():
        values = shades
        for layer in grow:
            values = np.asarray(layer(values))
        energies[name] = grid_energy(values[:, 4:-4, 4:-4] + noise(1), 2)
    assert energies["nearest"] < 1.5
    assert energies["kernel 2, stride 2"] > 20
    assert energies["kernel 3, stride 2"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("upsampling", [None, "nearest", "bilinear"])
def test_a_trained_level_shows_no_more_of_a_grid_than_its_linear_code(upsampling):
    images = random_crops([photograph(name) for name in ("chelsea.png", "coffee.png")], 1000, 32)
    valid = tiles([photograph("astronaut.png")], 32)
    sae = Autoencoder(shape=(32, 32, 3), levels=[ConvLevel(8, 2, 16, upsampling=upsampling)])
    energies = []
    for epochs in (0, 6):
        sae.train(images, epochs=epochs, validation_data=valid, verbose=0)
        energies.append(grid_energy(sae.reconstruct(valid) - (valid / 127.5 - 1), 4))
    assert energies[1] < 1.1 * energies[0]
    assert energies[1] < 2
