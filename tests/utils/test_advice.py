"""Follows the advice of messages about values, labels and folders that no other test follows."""

import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, SequenceLevel
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.utils.checks import did_you_mean
from stacked_autoencoder.utils.files import check_writable
from stacked_autoencoder.utils.images import as_shown
from stacked_autoencoder.utils.labels import as_labels
from stacked_autoencoder.utils.value_range import UNKNOWN, UNLIMITED, ValueRange
from tests.conftest import blobs, waves

ANY = (None, None, 3)
IMAGES = blobs(6)
PIXELS = np.rint((IMAGES + 1) * 127.5).astype(np.uint8)
UNIT = UNKNOWN.found((0.0, 1.0))
TEMPERATURES = ValueRange.given((-1000, 3000))


def with_one(value):
    images = IMAGES.copy()
    images[3, 0, 0, 0] = value
    return images


# Images, the value range that refuses them, the message, and pairs of images and a range as the message advises.
VALUES = {
    "uint8 for a range without pixels": (
        PIXELS,
        TEMPERATURES,
        r"`images\.astype\('float32'\)`\. Otherwise scale them to it: `images / 255 \* 4000 \+ -1000`",
        [(PIXELS.astype("float32"), TEMPERATURES), (PIXELS / 255 * 4000 + -1000, TEMPERATURES)],
    ),
    "bytes as floats for the unit range": (
        PIXELS.astype(np.float32),
        UNIT,
        r"`images / 255`, or pass them as uint8 \(`images\.astype\('uint8'\)`\)",
        [(PIXELS / 255, UNIT), (PIXELS.astype("uint8"), UNIT)],
    ),
    "other values": (
        1000 * IMAGES,
        UNKNOWN,
        r"`value_range=\(low, high\)`, the lowest and highest possible value, or with `check_range=False`",
        [(1000 * IMAGES, ValueRange.given((-1000, 1000))), (1000 * IMAGES, UNLIMITED)],
    ),
    "signed for the unit range": (
        IMAGES,
        UNIT,
        r"`\(images \+ 1\) / 2` if they lie in \[-1, 1\]",
        [((IMAGES + 1) / 2, UNIT)],
    ),
    "integers of unknown range": (
        (PIXELS.astype(np.int16) - 128) * 9,
        UNKNOWN,
        r"`value_range=\(-\d+, \d+\)`",
        [((PIXELS.astype(np.int16) - 128) * 9, ValueRange.given((-1152, 1143)))],
    ),
    "outside of the given range": (
        IMAGES * 5000,
        TEMPERATURES,
        r"`images\.clip\(-1000, 3000\)`",
        [((IMAGES * 5000).clip(-1000, 3000), TEMPERATURES)],
    ),
    "infinite among missing values": (
        with_one(np.inf),
        ValueRange(missing="ignore"),
        r"`np\.where\(np\.isinf\(images\), np\.nan, images\)` marks infinite values as missing",
        [(np.where(np.isinf(with_one(np.inf)), np.nan, with_one(np.inf)), ValueRange(missing="ignore"))],
    ),
    "NaN": (
        with_one(np.nan),
        UNKNOWN,
        r'an Autoencoder made with `missing="ignore"` leaves NaN out of the loss',
        [(with_one(np.nan), ValueRange(missing="ignore"))],
    ),
}


@pytest.mark.parametrize("kind", VALUES)
def test_the_advice_about_values_works(kind):
    images, values, message, followed = VALUES[kind]
    with pytest.raises(ValueError, match=message):
        as_source(images, ANY, values=values)
    for images, values in followed:
        source = as_source(images, ANY, values=values)
        assert sum(map(len, source.in_order(4))) == 6


def test_the_advice_about_missing_steps_works():
    series = waves(8, steps=12)
    series[:, 9:] = np.nan
    with pytest.raises(ValueError, match=r"`np\.nan_to_num\(images, nan=-9\.0\)` and `SequenceLevel\(…, mask_value=-9"):
        as_source(series, **Stack((12, 2)).source_options)
    sae = Autoencoder(shape=(12, 2), levels=[SequenceLevel(4, mask_value=-9.0)])
    assert np.isfinite(sae.encode(np.nan_to_num(series, nan=-9.0))).all()


def test_the_advice_about_small_images_works():
    small = blobs(4, side=6)
    with pytest.raises(
        ValueError, match=r"divides height and width by 8\. Use fewer levels, a smaller `n_scalings` or"
    ):
        as_source(small, ANY, factor=8)
    for images, factor in ((small, 4), (blobs(4, side=8), 8)):
        assert sum(map(len, as_source(images, ANY, factor=factor).in_order(4))) == 4


def test_the_advice_about_the_range_of_a_trained_stack_works():
    sae = Autoencoder(size=4, n_out=4, n_scalings=1)
    sae.train(IMAGES, epochs=0, verbose=0)
    with pytest.raises(
        ValueError, match=r"Make another Autoencoder with this `value_range`; only \(-1, 1\) and \(0, 1\)"
    ):
        sae.value_range = (-1000, 3000)
    sae.value_range = (-1, 1)
    assert Autoencoder(size=4, n_out=4, n_scalings=1, value_range=(-1000, 3000)).value_range == (-1000, 3000)


# Labels, their message, and labels as the message advises.
LABELS = {
    "names that are numbers": ({1: [1, 2]}, r"for example \{'age': ages\}", {"age": [1, 2]}),
    "different names": ([{"a": 1}, {"b": 1}], r"the same names for all images", [{"a": 1}, {"a": 1}]),
    "different lengths": ([[1], [1, 2]], r"must all have one shape\. Convert them", [[1, 0], [1, 2]]),
    "texts and numbers": (["1", 1], r"all of one kind and shape\. Convert them", ["1", str(1)]),
    "objects": (np.array([{1}, {2}]), r"Convert them", np.array([{1}, {2}]).astype(str)),
    "times": (
        np.array(["2020-01-01"] * 2, "datetime64[D]"),
        r"`\.astype\(str\)` makes texts",
        np.array(["2020-01-01"] * 2, "datetime64[D]").astype(str),
    ),
    "one label": (3, r"one label per image", [3, 3]),
    "too few": ([1], r"one label per image", [1, 2]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_the_advice_about_labels_works(kind):
    labels, message, followed = LABELS[kind]
    with pytest.raises(ValueError, match=message):
        as_labels(labels, 2)
    values = as_labels(followed, 2)
    assert all(len(each) == 2 for each in (values.values() if isinstance(values, dict) else [values]))


def test_the_advice_about_folders_works(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"`path` can't be written: it is a file\. Choose another folder"):
        check_writable(tmp_path / "file", "path")
    check_writable(tmp_path / "folder", "path")


def test_the_advice_about_names_and_drawn_images_works():
    assert did_you_mean("trainig", ["training", "validation"]) == "did you mean 'training'? "
    with pytest.raises(ValueError, match=r"`images` must be \(N, H, W, 1 or 3\) to be drawn"):
        as_shown(IMAGES[..., :2], (-1, 1))
    assert as_shown(IMAGES[..., :1], (-1, 1)).shape == as_shown(IMAGES, (-1, 1)).shape == (6, 16, 16, 3)


@pytest.mark.parametrize(("wrong", "right"), [((1, 0), (0, 1)), (65535, (0, 65535)), ((0, np.inf), (0, 1e6))])
def test_the_advice_about_value_ranges_works(wrong, right):
    with pytest.raises(ValueError, match=r"two finite numbers \(low, high\), low < high.*such as \(0, 65535\)"):
        ValueRange.given(wrong)
    assert ValueRange.given(right).ends == right
