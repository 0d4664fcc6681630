import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from stacked_autoencoder.data import decoding
from stacked_autoencoder.data.decoding import MAX_PIXELS, _on_white, picture_reader
from stacked_autoencoder.data.folder import reason_of
from stacked_autoencoder.data.picture_headers import gif_size, orientation
from tests.conftest import run_elsewhere

Y, X = np.mgrid[:45, :70]
COLOURS = np.stack([X * 255 // 70, Y * 255 // 45, (3 * X + 2 * Y) % 256], -1).astype(np.uint8)
OPACITY = ((X * Y) % 256).astype(np.uint8)[..., None]
NO_SEED = tf.zeros(2, tf.int64)
LOSSLESS = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 95}}


def read(path, channels=3, side=None, crop=None, seed=NO_SEED, max_pixels=MAX_PIXELS):
    size = None if side is None else (side, side)
    return picture_reader(channels, size, crop, max_pixels)(tf.constant(str(path)), seed).numpy()


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
def test_pictures_of_every_kind_are_read_like_by_pillow_on_white(tmp_path, name):
    array, kind, mode = KINDS[name]
    path = save(tmp_path / "picture", array, kind, mode)
    np.testing.assert_array_equal(read(path), by_pillow(path))
    np.testing.assert_allclose(read(path, channels=1)[..., 0], by_pillow(path, "L").astype(int), atol=1)


def test_bitmaps_whose_fourth_byte_is_padding_are_not_transparent(tmp_path):
    padded = np.concatenate([COLOURS, np.zeros_like(OPACITY)], -1)
    np.testing.assert_array_equal(read(save(tmp_path / "picture.bmp", padded, "BMP")), COLOURS)


def test_an_animation_is_read_as_its_first_frame(tmp_path):
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
    with pytest.raises(tf.errors.InvalidArgumentError, match="smaller than `crop="):
        read(save(tmp_path / "picture", COLOURS, kind), crop=46)


# === How large a picture may be ===


def png(width, height, before=b""):
    header = struct.pack(">II5B", width, height, 8, 6, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + before + b"".join(packed)


def bmp(width, height):
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def gif(screen, *frames):
    """Frames of `(width, height)`, whose pixels are missing but for two."""
    parts = [b",\0\0\0\0" + struct.pack("<HHB", *frame, 0) + b"\x02\x02\x04\x05\0" for frame in frames]
    extension = b"!\xfe\x05,\0\0;!\0"  # a comment, in which nothing counts
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + extension + b"".join(parts) + b";"


def webp(*chunks):
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8(width, height):
    return b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(8)


def vp8l(width, height):
    return b"VP8L", b"\x2f" + struct.pack("<I", (height - 1) << 14 | (width - 1)) + bytes(9)


def vp8x(width, height):
    return b"VP8X", bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


def jpeg(width, height):
    """Only a header: decoding would fail."""
    parts = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + b"\x03\x01\x22\0\x02\x11\x01\x03\x11\x01"
    quantities = b"\xff\xdb\0\x43\0" + b"\x01" * 64 + b"\xff\xdb\0\x43\x01" + b"\x01" * 64
    return (
        b"\xff\xd8" + quantities + parts + b"\xff\xda\0\x0c\x03\x01\0\x02\x11\x03\x11\0\x3f\0" + bytes(9) + b"\xff\xd9"
    )


HUGE = {
    "JPEG": (jpeg(60000, 50000), "50000 x 60000"),
    "PNG": (png(23000, 22000), "22000 x 23000"),
    "PNG of more than any picture": (png(2**32 - 1, 2**31), "-2147483648 x -1"),
    "BMP": (bmp(30000, 20000), "20000 x 30000"),
    "BMP, top row first": (bmp(30000, -20000), "20000 x 30000"),
    "BMP of the lowest number": (bmp(2**31 - 1, -(2**31)), "2147483648 x 2147483647"),
    "GIF, screen": (gif((60000, 50000), (4, 4)), "50000 x 60000"),
    "GIF, frame": (gif((4, 4), (60000, 50000)), "50000 x 60000"),
    "GIF, later frame": (gif((4, 4), (4, 4), (60000, 50000)), "50000 x 60000"),
    "lossy WebP": (webp(vp8(16383, 16000)), "16000 x 16383"),
    "lossless WebP": (webp(vp8l(16384, 16000)), "16000 x 16384"),
    "extended WebP": (webp(vp8x(1 << 24, 1 << 7), vp8l(4, 4)), "128 x 16777216"),
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("taken", [{}, {"side": 8}, {"crop": 8}, {"channels": 1, "side": 8}])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path, name, taken):
    contents, size = HUGE[name]
    (tmp_path / "picture").write_bytes(contents)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        read(tmp_path / "picture", **taken)
    assert reason_of(caught.value) == f"{size} pixels are more than `max_pixels=89478485`"


@pytest.mark.parametrize("name", [name for name in KINDS if name != "GIF"])
def test_the_limit_is_exact_for_every_kind_and_none_is_without(tmp_path, name):
    array, kind, mode = KINDS[name]
    path = save(tmp_path / "picture", array, kind, mode)
    for channels in (1, 3):
        for limit in (45 * 70, None, 10**30):
            np.testing.assert_array_equal(read(path, channels, max_pixels=limit), read(path, channels))
        with pytest.raises(tf.errors.InvalidArgumentError, match="more than `max_pixels=3149`"):
            read(path, channels, max_pixels=45 * 70 - 1)


def test_all_frames_of_a_gif_count_since_all_are_decoded(tmp_path):
    frames = [Image.fromarray(np.roll(COLOURS, 9 * index, axis=1)) for index in range(9)]
    frames[0].save(tmp_path / "picture.gif", save_all=True, append_images=frames[1:])
    size, pixels = gif_size((tmp_path / "picture.gif").read_bytes())
    assert size.tolist() == [45, 70]
    with Image.open(tmp_path / "picture.gif") as opened:
        assert opened.n_frames == 9
    assert 4 * 45 * 70 < pixels <= 9 * 45 * 70
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        read(tmp_path / "picture.gif", max_pixels=45 * 70)
    assert reason_of(caught.value) == f"{pixels} pixels in all frames are more than 4 times `max_pixels=3150`"
    whole = read(tmp_path / "picture.gif", max_pixels=None)
    np.testing.assert_array_equal(read(tmp_path / "picture.gif", max_pixels=3 * 45 * 70), whole)
    assert gif_size(gif((9, 8), (3, 20)))[0].tolist() == [20, 9]
    assert gif_size(gif((9, 8), (3, 20), (70, 2))[:40])[0].tolist() == [20, 9]  # cut short
    assert gif_size(b"GIF8")[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"\xff\x0a" + bytes(40), "not a JPEG, PNG"),  # JPEG XL, which TensorFlow decodes
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "not a JPEG, PNG"),
        (png(8, 8, before=b"\0\0\0\0prVt" + struct.pack(">I", zlib.crc32(b"prVt"))), "not a JPEG, PNG"),
        (webp((b"ALPH", bytes(8)), vp8(8, 8)), "with a size in its header"),
        (b"RIFF\0\0\0\0WEBP" + vp8l(16384, 16384)[1], "with a size in its header"),  # without a chunk around it
        (png(2**32 - 1, 2**32 - 1), "Invalid PNG"),  # whose number of pixels overflows 64 bits
        (b"text", "not a JPEG, PNG"),
    ],
)
@pytest.mark.parametrize("max_pixels", [None, 1000])
def test_a_header_without_a_size_where_it_belongs_is_refused(tmp_path, contents, reason, max_pixels):
    (tmp_path / "picture").write_bytes(contents)
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        read(tmp_path / "picture", max_pixels=max_pixels)


def test_a_frame_of_another_size_than_its_webp_is_refused(tmp_path):
    (tmp_path / "picture").write_bytes(webp(vp8x(8, 8), vp8l(16384, 16384)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Failed to decode WebP header"):
        read(tmp_path / "picture")


# === Pixels in bands ===


def test_every_colour_of_every_opacity_is_laid_on_white_to_the_nearest():
    colour, opacity = np.mgrid[:256, :256].astype(np.uint8)
    mixed = _on_white(tf.constant(np.stack([colour, opacity], -1))).numpy()[..., 0]
    exact = 255 * 255 - opacity.astype(int) * (255 - colour.astype(int))  # in 255ths
    np.testing.assert_array_equal(mixed, (exact + 127) // 255)


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 3), ("LA", 3), ("RGBA", 1), ("RGB", 1)])
def test_bands_of_a_picture_are_converted_as_the_whole(tmp_path, monkeypatch, mode, channels):
    path = save(tmp_path / "picture", np.concatenate([COLOURS, OPACITY], -1), "PNG", mode)
    whole = read(path, channels)
    for band in (1000, 45 * 70, 1):
        monkeypatch.setattr(decoding, "BAND", band)
        reader = picture_reader.__wrapped__(channels)
        np.testing.assert_array_equal(reader(tf.constant(str(path)), NO_SEED), whole)


@pytest.mark.slow
def test_a_picture_with_alpha_takes_a_few_times_its_own_memory(tmp_path):
    """A hundred million bytes, once it is decoded; as float32 it would take nine times as many."""
    program = """
import resource
import tensorflow as tf
from PIL import Image
from stacked_autoencoder.data.decoding import picture_reader

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # as Linux counts

def read(side):
    Image.new("RGBA", (side, side), (10, 20, 30, 40)).save("picture.png")
    return picture_reader(3, (64, 64))(tf.constant("picture.png"), tf.zeros(2, tf.int64)).numpy()

read(64)
before = peak()
assert (read(5000) == (217, 218, 220)).all()
print(peak() - before)
"""
    assert int(run_elsewhere(program, tmp_path)) < 5 * 100_000_000
