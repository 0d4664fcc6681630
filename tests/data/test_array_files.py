"""Pictures of more than 8 bits, of any number of bands, in TIFF, NumPy and PNG files."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image

from stacked_autoencoder import Autoencoder, ImageFolder
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.data.array_files import read_array
from stacked_autoencoder.utils.value_range import UNKNOWN, ValueRange

RNG = np.random.default_rng(0)
RAMP = np.linspace(0, 65535, 32 * 32).reshape(32, 32).round().astype(np.uint16)
COLOUR = RNG.integers(0, 256, (12, 10, 3), np.uint8)


def write(path, array, **options):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".png":
        path.write_bytes(tf.io.encode_png(array if array.ndim == 3 else array[..., None]).numpy())
    else:
        tifffile.imwrite(path, array, **options)


def seen(folder, channels=1, value_range=None, **options):
    """The pictures of a folder as users would see them, in order."""
    values = UNKNOWN if value_range is None else ValueRange.given(value_range)
    source = as_source(ImageFolder(folder, **options), (None, None, channels), values=values)
    return [image for batch in source.in_order(4, scale=False) for image in batch]


def sixteen_bits(folder, suffix, high):
    pictures = [np.roll(RAMP, shift, 0) // (65536 // (high + 1)) for shift in range(8)]
    for index, picture in enumerate(pictures):
        write(folder / f"{index}{suffix}", picture)
    return pictures


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("high", [65535, 4095])
def test_sixteen_bits_are_read_as_they_are(suffix, high, tmp_path):
    pictures = sixteen_bits(tmp_path / "ct", suffix, high)
    for image, picture in zip(seen(tmp_path / "ct", value_range=(0, high)), pictures, strict=True):
        np.testing.assert_array_equal(image[..., 0], picture)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_kept_from_the_file_to_what_is_decoded(suffix, tmp_path):
    pictures = sixteen_bits(tmp_path / "ct", suffix, 65535)
    full = Autoencoder(shape=(32, 32, 1), size=4, n_out=16, value_range=(0, 65535))  # as many values as a patch of 4x4
    full.train(tmp_path / "ct", epochs=0, verbose=0)
    restored = full.decode(full.encode(tmp_path / "ct"))
    assert np.abs(restored[..., 0] - pictures).max() <= 1


def test_pictures_of_sixteen_bits_are_not_made_eight_silently(tmp_path):
    for index in range(8):
        write(tmp_path / "ct" / f"{index}.png", RAMP // 16)
    with pytest.raises(ValueError, match=r"16 bits per channel, which an Autoencoder with `value_range=\(low, high\)`"):
        Autoencoder(shape=(32, 32, 1), size=4, n_out=4).train(tmp_path / "ct", epochs=0, verbose=0)
    Autoencoder(shape=(32, 32, 1), size=4, n_out=4, value_range=(0, 4095)).train(tmp_path / "ct", epochs=0, verbose=0)


def test_one_picture_of_sixteen_bits_among_many_is_skipped_with_a_warning(tmp_path):
    for index in range(40):
        write(tmp_path / "pictures" / f"{index:02d}.png", COLOUR)
    write(tmp_path / "pictures" / "deep.png", RAMP[:12, :10])
    with pytest.warns(UserWarning, match=r"deep\.png \(16 bits per channel"):
        assert len(seen(tmp_path / "pictures", 3)) == 40


@pytest.mark.parametrize("ends", [(0, 65535), (0, 1), (-1, 1)])
def test_pictures_of_eight_and_sixteen_bits_have_one_scale(ends, tmp_path):
    eight = COLOUR[..., :1]
    write(tmp_path / "p" / "a.png", eight)
    write(tmp_path / "p" / "b.png", eight.astype(np.uint16) * 257)
    write(tmp_path / "p" / "c.tif", eight[..., 0].astype(np.uint16) * 257)
    write(tmp_path / "p" / "d.tif", eight[..., 0])
    Image.fromarray(np.full((12, 10), 51, np.uint8)).save(tmp_path / "p" / "e.jpg")
    *same, jpeg = seen(tmp_path / "p", 1, ends)
    for image in same:
        np.testing.assert_allclose(image, ends[0] + eight / 255 * (ends[1] - ends[0]), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(jpeg, ends[0] + 0.2 * (ends[1] - ends[0]), rtol=1e-6)


KINDS = {
    "uint8": {},
    "tiled": {"tile": (16, 16)},
    "strips": {"rowsperstrip": 3},
    "lzw": {"compression": "lzw"},
    "deflate": {"compression": "zlib"},
    "planar": {"planarconfig": "separate", "photometric": "rgb"},
    "big": {"bigtiff": True},
    "big endian": {"byteorder": ">"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_tiff(kind, tmp_path):
    array = COLOUR.transpose(2, 0, 1) if kind == "planar" else COLOUR
    options = KINDS[kind] if kind == "planar" else KINDS[kind] | {"photometric": "rgb"}
    write(tmp_path / "p" / "a.TIFF", array, **options)
    (image,) = seen(tmp_path / "p", 3)
    np.testing.assert_array_equal(image, COLOUR)
    assert image.dtype == np.uint8


def test_colours_of_tiff_are_what_other_programs_show(tmp_path):
    picture = Image.fromarray(COLOUR)
    alpha = Image.fromarray(np.dstack([COLOUR, np.full((12, 10), 128, np.uint8)]))
    picture.quantize(200).save(tmp_path / "palette.tif")
    alpha.save(tmp_path / "alpha.tif")
    picture.convert("1").save(tmp_path / "bits.tif")
    tifffile.imwrite(tmp_path / "white.tif", 255 - COLOUR[..., 0], photometric="miniswhite")
    tifffile.imwrite(tmp_path / "turned.tif", COLOUR, photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    np.testing.assert_allclose(
        read_array(tmp_path / "palette.tif", 3, None), picture.quantize(200).convert("RGB"), atol=1
    )
    on_white = 255 + (COLOUR - 255.0) * (128 / 255)
    np.testing.assert_allclose(read_array(tmp_path / "alpha.tif", 3, None), on_white, atol=1)
    np.testing.assert_array_equal(
        read_array(tmp_path / "bits.tif", 1, None)[..., 0], np.asarray(picture.convert("1")) * 255
    )
    np.testing.assert_array_equal(read_array(tmp_path / "white.tif", 1, None)[..., 0], COLOUR[..., 0])
    np.testing.assert_array_equal(read_array(tmp_path / "turned.tif", 3, None), np.rot90(COLOUR, -1))
    np.testing.assert_allclose(
        read_array(tmp_path / "turned.tif", 1, None)[..., 0], np.rot90(picture.convert("L"), -1), atol=1
    )


@pytest.mark.parametrize(("channels", "suffix"), [(2, ".npy"), (4, ".tif"), (5, ".npy"), (13, ".tif")])
def test_any_number_of_bands(channels, suffix, tmp_path):
    bands = RNG.uniform(0, 1, (6, 16, 16, channels)).astype(np.float32)
    for index, picture in enumerate(bands):
        array = picture.transpose(2, 0, 1) if suffix == ".tif" else picture  # pages
        write(tmp_path / "p" / f"{index}{suffix}", array, **({"photometric": "minisblack"} if suffix == ".tif" else {}))
    np.testing.assert_array_equal(seen(tmp_path / "p", channels, (0, 1)), bands)
    if channels == 13:
        sae = Autoencoder(shape=(16, 16, channels), size=4, n_out=4, value_range=(0, 1))
        sae.train(tmp_path / "p", epochs=0, verbose=0)
        np.testing.assert_allclose(sae.encode(tmp_path / "p"), sae.encode(bands), atol=1e-5)
    with pytest.raises(ValueError, match=f"it has {channels} channels, the model was made for 3"):
        seen(tmp_path / "p", 3, (0, 1))


def test_an_alpha_channel_is_one_of_four_where_the_stack_takes_four(tmp_path):
    picture = RNG.integers(0, 256, (8, 8, 4), np.uint8)
    write(tmp_path / "p" / "a.png", picture)
    np.testing.assert_array_equal(seen(tmp_path / "p", 4), [picture])
    with pytest.raises(ValueError, match=r"4 channels, and the model was made for 5"):
        seen(tmp_path / "p", 5)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_deep_pictures_are_resized_and_cropped_as_others_are(fit, tmp_path):
    picture = RNG.integers(0, 256, (20, 12, 1)).repeat(2, 0).repeat(2, 1).astype(np.uint8)
    write(tmp_path / "eight" / "a.png", picture)
    write(tmp_path / "deep" / "a.tif", picture[..., 0].astype(np.uint16) * 257)
    for options in ({"size": (10, 10), "fit": fit}, {"crop": 8}):
        (eight,), (deep,) = seen(tmp_path / "eight", **options), seen(tmp_path / "deep", 1, (0, 65535), **options)
        np.testing.assert_allclose(deep / 257, eight, atol=0.51)


WRONG = {
    "values beyond the range": (
        lambda p: write(p / "a.tif", RAMP),
        (0, 4095),
        r"values from 0 to 65535 lie outside of",
    ),
    "NaN": (
        lambda p: write(p / "a.npy", np.full((8, 8), np.nan, np.float32)),
        (0, 1),
        'NaN values, which need `missing="ignore"`',
    ),
    "floats without a range": (
        lambda p: write(p / "a.npy", np.zeros((8, 8), np.float32)),
        None,
        "float32 values, which an",
    ),
    "pixels in another range": (lambda p: write(p / "a.png", COLOUR), (-1000, 3000), "8 bits per channel, which do"),
    "bytes in another range": (
        lambda p: write(p / "a.npy", COLOUR[..., :1]),
        (-1000, 3000),
        "uint8 values, which do not",
    ),
    "four axes": (
        lambda p: np.save(p / "a.npy", np.zeros((2, 8, 8, 1), np.uint8)),
        None,
        r"an array \(H, W\) or \(H, W, C\)",
    ),
    "objects": (lambda p: np.save(p / "a.npy", np.array([[{}]]), allow_pickle=True), None, "Python objects"),
    "text": (lambda p: np.save(p / "a.npy", np.array([["a"]])), None, "not numbers"),
    "no TIFF": (
        lambda p: (p / "a.tif").write_bytes(b"II*\0nothing"),
        None,
        r"not a TIFF file|this TIFF file contains no picture",
    ),
    "too large": (
        lambda p: write(p / "a.npy", np.zeros((100, 100), np.uint8)),
        None,
        "pixels are more than `max_pixels=5000`",
    ),
    "too large a TIFF": (
        lambda p: write(p / "a.tif", np.zeros((100, 100), np.uint8)),
        None,
        "more than `max_pixels=5000`",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_can_not_be_pictures_of_the_stack_are_named_with_the_reason(name, tmp_path):
    make, ends, message = WRONG[name]
    make(tmp_path)
    with pytest.raises(ValueError, match=rf"(?s)a\.(tif|npy|png).*{message}"):
        seen(tmp_path, 1, ends, max_pixels=5000)


def test_without_the_extra_the_command_to_install_it_is_named(tmp_path, monkeypatch):
    write(tmp_path / "p" / "a.tif", COLOUR)
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(ValueError, match=r'pip install "stacked_autoencoder\[tiff\]"'):
        seen(tmp_path / "p", 3)


def test_missing_pixels_of_files_are_let_through_where_they_may_be(tmp_path):
    pictures = RNG.uniform(0, 1, (8, 4, 4, 1)).repeat(4, 1).repeat(4, 2).astype(np.float32)
    pictures[:, :3, :5] = np.nan
    for index, picture in enumerate(pictures):
        write(tmp_path / "p" / f"{index}.npy", picture)
    sae = Autoencoder(shape=(16, 16, 1), size=4, n_out=4, value_range=(0, 1), missing="ignore")
    sae.train(tmp_path / "p", epochs=0, verbose=0)
    assert np.isfinite(sae.encode(tmp_path / "p")).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(ImageFolder(Path(tmp_path / "p"))) == 8


def test_pages_of_a_tiff_are_bands_or_pictures(tmp_path):
    pages = RNG.integers(0, 256, (3, 16, 16), np.uint8)
    (tmp_path / "scans").mkdir()
    tifffile.imwrite(tmp_path / "scans" / "b.tif", pages, photometric="minisblack")
    write(tmp_path / "scans" / "a.png", pages[0])
    with pytest.raises(ValueError, match=r"b\.tif \(.*it has 3 channels, the model was made for 1"):
        seen(tmp_path / "scans")
    folder = ImageFolder(tmp_path / "scans", pages="pictures")
    assert folder.names == ["a.png", "b.tif#0", "b.tif#1", "b.tif#2"]
    images = seen(tmp_path / "scans", pages="pictures")
    np.testing.assert_array_equal(np.array(images)[..., 0], [pages[0], *pages])
    sae = Autoencoder(shape=(16, 16, 1), size=4, n_out=4)
    sae.train(folder, epochs=0, verbose=0)
    store = sae.encode_to(tmp_path / "store", folder, verbose=0)
    assert store.names == folder.names
    tifffile.imwrite(tmp_path / "scans" / "b.tif", pages[::-1], photometric="minisblack")
    with pytest.raises(ValueError, match="have changed"):
        sae.encode_to(tmp_path / "store", ImageFolder(tmp_path / "scans", pages="pictures"), verbose=0)
    with pytest.raises(ValueError, match=r"`pages` must be one of 'bands', 'pictures'"):
        ImageFolder(tmp_path / "scans", pages="frames")


def test_pages_keep_the_label_of_their_file_and_stay_in_one_subset(tmp_path):
    for name in ("cats", "dogs"):
        for index in range(4):
            pages = np.zeros((1 + index, 8, 8), np.uint8)
            write(tmp_path / name / f"{index}.tif", pages, photometric="minisblack")
    options = {"labels": True, "pages": "pictures", "validation_split": 0.5}
    parts = [ImageFolder(tmp_path, subset=subset, **options) for subset in ("training", "validation")]
    assert sum(map(len, parts)) == 2 * (1 + 2 + 3 + 4)
    files = [{name.split("#")[0] for name in part.names} for part in parts]
    assert not files[0] & files[1]
    for part in parts:
        np.testing.assert_array_equal(part.labels, [name.startswith("dogs") for name in part.names])
