from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stacked_autoencoder.cli.png import destinations, sheet, write_png
from stacked_autoencoder.utils.images import as_bytes


def test_bytes_are_the_nearest_in_the_range():
    images = np.array([-2.0, -1.0, 0.0, 0.999, 1.0], np.float32).reshape(1, 5, 1, 1)
    assert as_bytes(images, (-1, 1)).reshape(-1).tolist() == [0, 0, 128, 255, 255]
    assert as_bytes(images, (0, 1)).reshape(-1).tolist() == [0, 0, 0, 255, 255]
    assert as_bytes(np.array([[[[7]]]], np.uint8), (-1, 1)).item() == 7


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_comes_back_as_it_was(channels, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    write_png(tmp_path / "new" / "picture.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "picture.png")), image.squeeze())


def test_what_isnt_a_picture_is_told():
    with pytest.raises(ValueError, match=r"1 or 3 channels\. Received: pictures with 5"):
        write_png(Path("picture.png"), np.zeros((2, 2, 5), np.uint8))


@pytest.mark.parametrize(
    ("names", "taken", "expected"),
    [
        (["a.jpg", "b/c.png", "000001"], "", ["a.png", "b/c.png", "000001.png"]),
        (["a.jpg", "a.png", "b.jpg"], "", ["a.jpg.png", "a.png.png", "b.png"]),
        (["b.jpg", "a.png", "a.jpg"], "", ["b.png", "a.png.png", "a.jpg.png"]),
        (["a.jpg", "sheet.jpg"], "sheet.png", ["a.png", "sheet.jpg.png"]),
        (["x/a.jpg", "y/a.png", "y/a.gif"], "", ["x/a.png", "y/a.png.png", "y/a.gif.png"]),
        # the longer name of one is the short name of another
        (["a.jpg", "a.png", "a.jpg.bmp", "b.jpg"], "", ["a.jpg.png", "a.png.png", "a.jpg.bmp.png", "b.png"]),
    ],
)
def test_each_picture_has_a_file_of_its_own(names, taken, expected):
    assert destinations(names, Path("out"), taken) == [Path("out") / name for name in expected]


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "b/../../a.png", "", "."])
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(ValueError, match=r"must not point outside of its folder\. Received: "):
        destinations(["a.png", name], Path("out"))


def test_a_name_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match="Names of pictures must be unique"):
        destinations(["a.png", "a.png"], Path("out"))


def test_a_sheet_has_pictures_in_rows_and_shrinks_large_ones():
    small, large = np.zeros((10, 20, 3), np.uint8), np.full((400, 200, 3), 9, np.uint8)
    whole = sheet([[small, large], [small]])
    assert whole.shape == (2 * (192 + 4) + 4, 2 * (96 + 4) + 4, 3)
    np.testing.assert_array_equal(whole[4:14, 4:24], small)
    assert (whole[4:196, 104:200] == 9).all()
    assert (whole[200:, 104:] == 255).all()
