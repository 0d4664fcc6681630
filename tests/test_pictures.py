import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from stacked_autoencoder.sources.pictures import orientation, picture_reader

Y, X = np.mgrid[:45, :70]
COLOURS = np.stack([X * 255 // 70, Y * 255 // 45, (3 * X + 2 * Y) % 256], -1).astype(np.uint8)
OPACITY = ((X * Y) % 256).astype(np.uint8)[..., None]
NO_SEED = tf.zeros(2, tf.int64)
LOSSLESS = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 95}}


def read(path, channels=3, side=None, crop=None, seed=NO_SEED):
    return picture_reader(channels, side, crop)(tf.constant(str(path)), seed).numpy()


def by_pillow(path, mode="RGB"):
    """As another library reads it: upright, on white."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return np.asarray(white.convert("RGB").convert(mode))


def save(path, array, kind, mode=None, **options):
    picture = Image.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(path, kind, **LOSSLESS.get(kind, {}), **options)
    return path


KINDS = {
    "colour JPEG": (COLOURS, "JPEG", "RGB"),
    "grey JPEG": (COLOURS, "JPEG", "L"),
    "CMYK JPEG": (COLOURS, "JPEG", "CMYK"),
    "colour PNG": (COLOURS, "PNG", "RGB"),
    "grey PNG": (COLOURS, "PNG", "L"),
    "PNG of two colours": (COLOURS, "PNG", "1"),
    "PNG with a palette": (COLOURS, "PNG", "P"),
    "transparent PNG": (np.concatenate([COLOURS, OPACITY], -1), "PNG", "RGBA"),
    "transparent grey PNG": (np.concatenate([COLOURS, OPACITY], -1), "PNG", "LA"),
    "WebP": (COLOURS, "WEBP", "RGB"),
    "transparent WebP": (np.concatenate([COLOURS, OPACITY], -1), "WEBP", "RGBA"),
    "BMP": (COLOURS, "BMP", "RGB"),
    "grey BMP": (COLOURS, "BMP", "L"),
    "BMP with a palette": (COLOURS, "BMP", "P"),
    "GIF": (COLOURS, "GIF", None),
}


@pytest.mark.parametrize("name", KINDS)
def test_pictures_of_every_kind_are_what_pillow_sees_on_white(tmp_path, name):
    array, kind, mode = KINDS[name]
    path = save(tmp_path / "picture", array, kind, mode)
    np.testing.assert_array_equal(read(path), by_pillow(path))
    np.testing.assert_allclose(read(path, channels=1)[..., 0], by_pillow(path, "L").astype(int), atol=1)


def test_bitmaps_whose_fourth_byte_is_padding_are_not_transparent(tmp_path):
    padded = np.concatenate([COLOURS, np.zeros_like(OPACITY)], -1)
    np.testing.assert_array_equal(read(save(tmp_path / "picture.bmp", padded, "BMP")), COLOURS)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.fromarray(COLOURS), Image.fromarray(COLOURS[::-1].copy())]
    frames[0].save(tmp_path / "picture.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read(tmp_path / "picture.gif"), by_pillow(tmp_path / "picture.gif"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("number", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, kind, number):
    exif = Image.Exif()
    exif[0x0112] = number
    path = save(tmp_path / "picture", COLOURS, kind, exif=exif)
    expected = by_pillow(path)
    assert expected.shape == ((45, 70, 3) if number < 5 else (70, 45, 3))
    np.testing.assert_array_equal(read(path), expected)
    height, width = expected.shape[:2]
    crop = read(path, crop=33, seed=tf.constant([5, number], tf.int64)).astype(int)
    places = [(top, left) for top in range(height - 32) for left in range(width - 32)]
    # A JPEG's colours are interpolated from fewer, which differ a little at the edges of a crop.
    assert min(np.abs(expected[top : top + 33, left : left + 33] - crop).mean() for top, left in places) < 0.5


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_exif_block_is_read_in_both_byte_orders_and_a_broken_one_passed_over(order):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(f"{order}HHHIHHHHIHH", 2, 0x0100, 3, 1, 99, 0, 0x0112, 3, 1, 6, 0)
    block = b"\xff\xd8\xff\xe1..Exif\0\0" + mark + struct.pack(f"{order}I", 8) + entries
    assert orientation(block) == 6
    assert orientation(block[:-4]) == 1  # cut short
    assert orientation(block.replace(struct.pack(f"{order}HH", 6, 0), struct.pack(f"{order}HH", 9, 0))) == 1
    assert orientation(b"\xff\xd8\xff\xe0JFIF") == 1


def test_side_is_the_largest_square_in_the_middle_shrunk_by_area(tmp_path):
    """Nearly so where a JPEG is decoded at a fraction of its size."""
    large = Image.fromarray(COLOURS).resize((1400, 900), Image.Resampling.BICUBIC)
    middle = large.crop((250, 0, 1150, 900))
    for side in (451, 450, 225, 112, 36):
        large.save(tmp_path / "picture.jpg", quality=95)
        expected = np.asarray(middle.resize((side, side), Image.Resampling.BOX)).astype(int)
        shrunk = read(tmp_path / "picture.jpg", side=side)
        assert np.abs(shrunk - expected).mean() < 1
    large.save(tmp_path / "picture.png")
    np.testing.assert_allclose(
        read(tmp_path / "picture.png", side=100), middle.resize((100, 100), Image.Resampling.BOX), atol=1
    )
    assert read(tmp_path / "picture.png", side=1000).shape == (1000, 1000, 3)  # larger than it is
    assert read(tmp_path / "picture.png", channels=1, side=100).shape == (100, 100, 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_crops_are_a_function_of_the_seed_and_reach_everywhere(tmp_path, kind):
    path = save(tmp_path / "picture", COLOURS, kind)
    crops = [read(path, crop=40, seed=tf.constant([1, row], tf.int64)) for row in range(60)]
    np.testing.assert_array_equal(crops[7], read(path, crop=40, seed=tf.constant([1, 7], tf.int64)))
    tops = {int(np.median(crop[0, :, 1])) for crop in crops}
    assert len(tops) >= 5  # of 6 that there are
    np.testing.assert_array_equal(read(save(path, COLOURS[:40, :40], kind), crop=40), by_pillow(path))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_animated_webp_is_an_error(tmp_path, mode):
    """TensorFlow 2.21 takes the process down with an opaque one."""
    frames = [Image.fromarray(array).convert(mode) for array in (COLOURS, COLOURS[::-1].copy())]
    frames[0].save(tmp_path / "picture.webp", save_all=True, append_images=frames[1:], lossless=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="an animated WebP"):
        read(tmp_path / "picture.webp")


@pytest.mark.parametrize("contents", [b"", b"text", b"\xff\xd8\xff\xe0 no more"])
def test_what_is_no_picture_is_an_error(tmp_path, contents):
    (tmp_path / "picture.jpg").write_bytes(contents)
    with pytest.raises(tf.errors.OpError):
        read(tmp_path / "picture.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_smaller_than_the_crop_is_an_error(tmp_path, kind):
    with pytest.raises(tf.errors.InvalidArgumentError, match="smaller than `crop`"):
        read(save(tmp_path / "picture", COLOURS, kind), crop=46)
