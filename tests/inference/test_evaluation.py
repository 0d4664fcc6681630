import re

import numpy as np
import pytest

from stacked_autoencoder import Autoencoder
from stacked_autoencoder.inference.evaluation import table
from stacked_autoencoder.metrics import Mean
from tests.conftest import blobs


def test_a_mean_weighs_every_value_alike():
    mean = Mean()
    assert np.isnan(mean.value)
    mean.add(10, 1)
    mean.add(0, 9)
    assert mean.value == pytest.approx(1.0)


def cells(line):
    return re.split(r"\s{2,}", line.strip())


@pytest.mark.parametrize("value", [0, 255, 17])
def test_the_table_of_pictures_without_a_difference(value):
    images = np.full((8, 16, 16, 3), value, np.uint8)
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    sae.train(images, epochs=0, verbose=0)
    (row,) = sae.evaluate(images, return_dict=True).values()
    header, line = map(cells, table({0: row}))
    shown = dict(zip(header, line, strict=True))["loss / PCA loss"]
    if row["pca_loss"] > 0:
        assert float(shown) == pytest.approx(row["full_loss"] / row["pca_loss"], abs=0.01)
    else:
        assert shown == ("0 / 0" if row["full_loss"] == 0 else "inf")


def test_the_table_says_what_cant_be_divided():
    row = {"values": 3.0, "ratio": 2.0, "psnr": np.inf, "ssim": 1.0}
    budget = {
        level: {**row, "full_loss": loss, "pca_loss": pca_loss}
        for level, (loss, pca_loss) in enumerate([(0.0, 0.0), (1e-3, 0.0), (1e-3, 2e-3)])
    }
    header, *lines = map(cells, table(budget))
    assert header == ["level", "values", "ratio", "full loss", "PCA loss", "loss / PCA loss", "PSNR (dB)", "SSIM"]
    assert [line[5] for line in lines] == ["0 / 0", "inf", "0.50"]


def test_the_table_explains_pictures_without_an_ssim():
    lines = {}
    for side in (8, 16):
        sae = Autoencoder(shape=(side, side, 3), size=4, n_out=4)
        sae.train(blobs(8, side=side), epochs=0, verbose=0)
        lines[side] = table(sae.evaluate(blobs(8, side=side), return_dict=True))
    assert [cells(line)[-1] for line in lines[8][:2]] == ["SSIM", "nan"]
    assert lines[8][2:] == ["SSIM is defined for images of at least 11x11 pixels."]
    assert len(lines[16]) == 2
