import re

import numpy as np
import pytest
from PIL import Image

from stacked_autoencoder import Autoencoder, DenseLevel, ImageFolder, SequenceLevel
from stacked_autoencoder.inference.evaluation import table
from stacked_autoencoder.metrics import Mean
from tests.conftest import blobs, bow, waves


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


def holey(count):
    images = blobs(count).copy()
    images[::2, 4:9, 2:5] = np.nan
    images[1, ..., 0] = np.nan
    return images


def padded_waves(count):
    sequences = waves(count)
    sequences[::2, 6:] = -9.0
    return sequences


def sequence_stack(**options):
    return Autoencoder(shape=(10, 2), levels=[SequenceLevel(4, **options)])


DATA = {
    "images": (lambda: Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_levels=2), blobs, (16, 16)),
    "missing values": (lambda: Autoencoder(shape=(16, 16, 3), size=4, n_out=4, missing="ignore"), holey, (16, 16)),
    "padded sequences": (lambda: sequence_stack(mask_value=-9.0), padded_waves, (10,)),
    "next steps": (lambda: sequence_stack(target="next"), waves, (10,)),
    "vectors": (lambda: Autoencoder(shape=(4,), levels=[DenseLevel(2)]), bow, (4,)),
}


@pytest.mark.parametrize(("make", "source", "shape"), DATA.values(), ids=DATA)
def test_errors_of_images_and_of_places(make, source, shape):
    data, sae = source(12), make()
    sae.train(source(24), epochs=0, verbose=0)
    errors, maps, expected = sae.errors(data), sae.error_maps(data), np.square(sae.reconstruct(data) - data)
    assert (errors.shape, errors.dtype) == ((12,), np.float64)
    assert (maps.shape, maps.dtype) == ((12, *shape), np.float64)
    counts = ~np.isnan(maps)
    if source is padded_waves:
        assert not counts[::2, 6:].any()
        assert counts[1::2].all()
    elif source is waves:
        assert not counts[:, 0].any()
        assert counts[:, 1:].all()
    elif source is holey:
        assert not counts[::2, 4:9, 2:5].any()
        assert counts[1].all()  # two channels are left
        expected = np.square(sae.reconstruct(data) - data)
    else:
        assert counts.all()
        np.testing.assert_allclose(errors, expected.mean(axis=tuple(range(1, data.ndim))), rtol=1e-4)
    means = maps if data.ndim == 2 else np.nanmean(np.where(counts[..., None], expected, 0), axis=-1)
    np.testing.assert_allclose(maps[counts], means[counts], rtol=1e-4, atol=1e-9)
    values = counts.sum(axis=tuple(range(1, maps.ndim))) if source is not holey else (~np.isnan(data)).sum((1, 2, 3))
    assert np.average(errors, weights=values) == pytest.approx(sae.evaluate(data), rel=1e-5)


def test_errors_of_images_of_several_sizes_and_of_targets():
    sae = Autoencoder(shape=(None, None, 3), size=4, n_out=4)
    sae.train(blobs(24), epochs=0, verbose=0)
    images = [blobs(1, side=side, seed=side)[0] for side in (16, 20, 18)]
    errors, maps = sae.errors(images), sae.error_maps(images)
    assert [each.shape for each in maps] == [(16, 16), (20, 20), (18, 18)]
    np.testing.assert_allclose(errors, [each.mean() for each in maps])
    noisy = blobs(6) + 0.1
    noisy = np.clip(noisy, -1, 1)
    expected = np.square(sae.reconstruct(noisy) - blobs(6)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(sae.errors(noisy, targets=blobs(6)), expected, rtol=1e-4)


def test_errors_are_in_the_order_of_the_names_of_a_folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    for index in np.random.default_rng(1).permutation(30):
        Image.fromarray(pixels[index]).save(tmp_path / f"{index:02d}.png")
    (tmp_path / "01.png").write_bytes(b"damaged")
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    sae.train(pixels, epochs=0, verbose=0)
    folder = ImageFolder(tmp_path)
    with pytest.warns(UserWarning, match=r"01\.png"):
        errors = sae.errors(folder)
    assert folder.names == [f"{index:02d}.png" for index in range(30) if index != 1]
    np.testing.assert_allclose(errors, sae.errors(np.delete(pixels, 1, axis=0)), rtol=1e-6)
