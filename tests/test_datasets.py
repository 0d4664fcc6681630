"""The photographs of `stacked_autoencoder.datasets`, and the crops and tiles that are cut out of them."""

import os
import re

import numpy as np
import pytest
from PIL import Image

from stacked_autoencoder import ImageFolder, datasets
from stacked_autoencoder.data.adapters import as_source
from tests.conftest import run_elsewhere

PICTURE = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
SMALL = PICTURE[:40, :40]


def test_the_public_names_are_listed():
    names = {name for name, value in vars(datasets).items() if getattr(value, "__module__", "") == datasets.__name__}
    assert {name for name in names if not name.startswith("_")} | {"HELD_OUT", "TRAINING"} == set(datasets.__all__)
    for name in datasets.__all__:
        if callable(function := getattr(datasets, name)):
            assert "Args:" in function.__doc__
            assert "Returns:" in function.__doc__


@pytest.mark.parametrize(("subset", "names"), [("training", datasets.TRAINING), ("validation", datasets.HELD_OUT)])
def test_subsets_are_lists_of_colour_pictures(subset, names):
    pictures = datasets.load_photographs(subset)
    assert len(pictures) == len(names)
    for picture, name in zip(pictures, names, strict=True):
        assert (picture.dtype, picture.ndim, picture.shape[-1]) == (np.uint8, 3, 3)
        np.testing.assert_array_equal(picture, datasets.photograph(name))
    assert not set(datasets.TRAINING) & set(datasets.HELD_OUT)


def test_saved_photographs_are_a_folder_of_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = datasets.save_photographs("~/new/photos")
    assert folder == tmp_path / "new" / "photos"
    assert datasets.save_photographs(folder) == folder  # files are overwritten
    images = ImageFolder(folder)
    assert images.names == sorted((*datasets.TRAINING, *datasets.HELD_OUT))
    by_name = dict(zip(images.names, as_source(images, (None, None, 3)).in_order(1, scale=False), strict=True))
    assert by_name["coffee.png"].shape == (1, *datasets.photograph("coffee.png").shape)


def test_pictures_are_opened_upright_in_colour(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees
    Image.fromarray(PICTURE[..., 0]).save(tmp_path / "grey.png", exif=exif)
    expected = np.rot90(PICTURE[..., :1].repeat(3, -1), -1)
    np.testing.assert_array_equal(datasets.open_picture(tmp_path / "grey.png"), expected)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(OSError, match="it is a named pipe, not a regular file"):
        datasets.open_picture(tmp_path / "pipe.png")


def test_crops_have_the_size_and_number_and_depend_on_the_seed():
    crops = datasets.random_crops([PICTURE, SMALL], count=5, side=32)
    assert (crops.shape, crops.dtype) == ((5, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(datasets.random_crops([PICTURE, SMALL], 5, 32, seed=0), crops)
    assert (datasets.random_crops([PICTURE, SMALL], 5, 32, seed=1) != crops).any()
    dark, bright = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    means = datasets.random_crops([dark, bright], 6, 32).mean(axis=(1, 2, 3))
    assert means.tolist() == [0, 255] * 3  # as many of each picture


def test_tiles_cover_pictures_without_overlap():
    tiles = datasets.tiles([PICTURE, SMALL, PICTURE[:16]], side=32)
    assert (tiles.shape, tiles.dtype) == ((2 * 2 + 1, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(tiles[3], PICTURE[32:64, 32:64])
    np.testing.assert_array_equal(tiles[4], SMALL[:32, :32])
    assert datasets.tiles([PICTURE[..., :1] / 255], 32).shape == (4, 32, 32, 1)
    assert datasets.tiles(datasets.load_photographs("validation"), 64).shape == (82, 64, 64, 3)  # as documented


# A call, its message, and the same call as the message advises.
ADVICE = {
    "unknown subset": (
        lambda: datasets.load_photographs("test"),
        r'`subset` must be "training" or "validation"\. Received: subset=\'test\'',
        lambda: datasets.load_photographs("validation"),
    ),
    "unknown name": (
        lambda: datasets.photograph("coffee"),
        r"such as astronaut\.png, .*coffee\.png.*Received: name='coffee'",
        lambda: datasets.photograph("coffee.png"),
    ),
    "no pictures": (lambda: datasets.tiles([], 8), "at least one picture", lambda: datasets.tiles([PICTURE], 8)),
    "one picture": (
        lambda: datasets.random_crops(PICTURE, 2, 8),
        r"pass a single picture as `\[picture\]`\. Received: shape=\(90, 3\) at index 0",
        lambda: datasets.random_crops([PICTURE], 2, 8),
    ),
    "one picture in tiles": (
        lambda: datasets.tiles(PICTURE, 8),
        r"pass a single picture as `\[picture\]`",
        lambda: datasets.tiles([PICTURE], 8),
    ),
    "grey": (
        lambda: datasets.random_crops([PICTURE[..., :1]], 2, 8),
        r"`np\.repeat\(picture, 3, axis=-1\)`.*Received: uint8 of shape \(70, 90, 1\)",
        lambda: datasets.random_crops([np.repeat(PICTURE[..., :1], 3, axis=-1)], 2, 8),
    ),
    "floats": (
        lambda: datasets.random_crops([PICTURE / 255], 2, 8),
        r"`np\.rint\(255 \* picture\)\.astype\('uint8'\)`.*Received: float64",
        lambda: datasets.random_crops([np.rint(255 * (PICTURE / 255)).astype("uint8")], 2, 8),
    ),
    "too small for a crop": (
        lambda: datasets.random_crops([PICTURE, SMALL], 2, 64),
        r"a `side` of at most 40, or leave out this picture\. Received: side=64, and shape \(40, 40, 3\) at index 1",
        lambda: [datasets.random_crops([PICTURE, SMALL], 2, 40), datasets.random_crops([PICTURE], 2, 64)],
    ),
    "too small for a tile": (
        lambda: datasets.tiles([SMALL, PICTURE], 80),
        r"a `side` of at most 70\. Received: side=80",
        lambda: datasets.tiles([SMALL, PICTURE], 70),
    ),
    "no crops": (
        lambda: datasets.random_crops([PICTURE], 0, 8),
        r"`count` must be a whole number of at least 1\. Received: count=0",
        lambda: datasets.random_crops([PICTURE], 1, 8),
    ),
}


@pytest.mark.parametrize("kind", ADVICE)
def test_the_advice_of_each_message_works(kind):
    call, message, followed = ADVICE[kind]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        call()
    assert len(followed()) > 0


def test_without_the_extra_the_command_to_install_it_is_named():
    program = (
        "import sys\nsys.modules['skimage'] = None\n"
        "try:\n    from stacked_autoencoder import datasets\nexcept ImportError as error:\n    print(error)"
    )
    assert re.search(r'`pip install "stacked_autoencoder\[examples\]"`', run_elsewhere(program))
