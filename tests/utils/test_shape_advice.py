"""What an error advises is done here, as it stands in the message, and then works."""

import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.inference import codec
from stacked_autoencoder.levels.dense import DenseLevel
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.utils.checks import check_image_shape, check_size, described
from tests.conftest import blobs, waves

ANY_GREY, ANY_COLOUR, FIXED = (None, None, 1), (None, None, 3), (12, 16, 1)
GREY, COLOUR = blobs(6, channels=1), blobs(6)
PIXELS = np.rint((COLOUR + 1) * 127.5).astype(np.uint8)
SERIES = waves(8, steps=24, features=2)
ROWS = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)


def taken(images, shape, missing="error"):
    """The source that a stack for such a shape makes of what it is given."""
    return as_source(images, **Stack(shape, missing=missing).source_options)


def follow(code, images):
    """What a piece of advice makes of what was given."""
    return eval(code, {"np": np, "tf": tf, "pd": pd, "images": images, "image": images, "dataset": images})


def with_value(array, value):
    array = array.copy()
    array[(3, *(0,) * (array.ndim - 1))] = value
    return array


# What is given, the shape that the model was made for, the advice, the number of images that it makes.
SHAPES = {
    "grey images without channels": (GREY[..., 0], ANY_GREY, "images[..., None]", 6),
    "grey images without channels, fixed": (GREY[:, :12, :, 0], FIXED, "images[..., None]", 6),
    "grey images into colour": (GREY[..., 0], ANY_COLOUR, "np.repeat(images[..., None], 3, axis=-1)", 6),
    "one image": (COLOUR[0], ANY_COLOUR, "image[None]", 1),
    "one image, fixed": (GREY[0, :12], FIXED, "image[None]", 1),
    "one grey image without channels": (GREY[0, :12, :, 0], FIXED, "image[None, ..., None]", 1),
    "flattened images": (GREY[:, :12].reshape(6, -1), FIXED, "images.reshape(len(images), 12, 16, 1)", 6),
    "frames of films": (GREY.reshape(2, 3, 16, 16, 1), ANY_GREY, "images.reshape(-1, *images.shape[-3:])", 6),
    "channel axis of one": (GREY, ANY_COLOUR, "np.repeat(images, 3, axis=-1)", 6),
    "with opacity": (blobs(6, channels=4), ANY_COLOUR, "images[..., :3]", 6),
    "colour into grey": (COLOUR, ANY_GREY, "tf.image.rgb_to_grayscale(images)", 6),
    "colour into grey, uint8": (PIXELS, ANY_GREY, "tf.image.rgb_to_grayscale(images)", 6),
    "channels first": (COLOUR.transpose(0, 3, 1, 2), ANY_COLOUR, "np.moveaxis(images, 1, -1)", 6),
    "one sequence": (SERIES[0], (24, 2), "image[None]", 1),
    "series of one feature": (SERIES[..., 0], (24, 1), "images[..., None]", 8),
    "one series of one feature": (SERIES[0, :, 0], (24, 1), "image[None, ..., None]", 1),
    "axes swapped": (SERIES.swapaxes(1, 2), (24, 2), "images.swapaxes(1, 2)", 8),
    "flattened sequences": (SERIES.reshape(8, -1), (24, 2), "images.reshape(len(images), 24, 2)", 8),
    "one long sequence": (
        SERIES.reshape(-1, 2),
        (24, 2),
        "np.lib.stride_tricks.sliding_window_view(images, 24, axis=0).swapaxes(1, 2)",
        8 * 24 - 23,
    ),
    "one long series": (
        SERIES[..., 0].reshape(-1),
        (24, 1),
        "np.lib.stride_tricks.sliding_window_view(images, 24)[..., None]",
        8 * 24 - 23,
    ),
    "one vector": (ROWS[0], (5,), "image[None]", 1),
    "numbers": (ROWS[:, 0], (1,), "images[..., None]", 10),
    "images as vectors": (GREY, (256,), "images.reshape(len(images), 256)", 6),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_advice_for_a_shape_works(name):
    images, shape, code, count = SHAPES[name]
    with pytest.raises(ValueError, match=re.escape(f"`{code}`") + r".*Received: (image \d+ of )?shape=\("):
        taken(images, shape)
    source = taken(follow(code, images), shape)
    assert len(source) == count
    assert source.shape[-1] == shape[-1]


OTHER_STACKS = {
    "vectors": (ROWS[:, :4], (5,), (4,)),
    "sequences": (SERIES[:, :9], (24, 2), (9, 2)),
    "channels": (blobs(2, channels=2), ANY_COLOUR, (None, None, 2)),
    "size": (GREY, FIXED, (None, None, 1)),
}


@pytest.mark.parametrize("name", OTHER_STACKS)
def test_the_shape_that_a_message_names_takes_the_images(name):
    images, shape, other = OTHER_STACKS[name]
    with pytest.raises(ValueError, match=re.escape(f"`shape={other}`")):
        taken(images, shape)
    assert len(taken(images, other)) == len(images)


@pytest.mark.parametrize("shape", [ANY_COLOUR, (24, 2), (5,)])
def test_a_shape_of_no_known_mistake_gets_the_right_one_alone(shape):
    message = r"must have the shape \(N, .*\)\. Received: shape=\(7, 1, 1, 1, 7\)"
    with pytest.raises(ValueError, match=message):
        check_image_shape((7, 1, 1, 1, 7), shape, batched=True)
    with pytest.raises(ValueError, match=r"must have the shape .*Received: shape=\(\)"):
        taken(np.float32(1), shape)


ELEMENTS = {
    "channels last": ([COLOUR[0], COLOUR[1].transpose(2, 0, 1)], ANY_COLOUR, "np.moveaxis(image, 0, -1)"),
    "grey among colour": ([COLOUR[0], GREY[0]], ANY_COLOUR, "np.repeat(image, 3, axis=-1)"),
}


@pytest.mark.parametrize("name", ELEMENTS)
def test_the_advice_for_one_image_of_a_list_works(name):
    images, shape, code = ELEMENTS[name]
    with pytest.raises(ValueError, match=re.escape(f"`{code}`") + ".*each of them.*Received: image 1 of shape="):
        taken(images, shape)
    assert len(taken([images[0], follow(code, images[1])], shape)) == 2


# What is given, the shape that the model was made for, the advice, and the number of images that it makes.
VALUES = {
    "list without channels": (list(GREY[..., 0]), ANY_GREY, "[image[..., None] for image in images]", 6),
    "list of batches": ([COLOUR[:2], COLOUR[2:]], ANY_COLOUR, "np.concatenate(images)", 6),
    "list of numbers": ([1.0, 2.0, 3.0], (3,), "[images]", 1),
    "dict": ({"x": ROWS, "y": 1}, (5,), "images['x']", 10),
    "numbers as text": (ROWS.astype(str), (5,), "images.astype('float32')", 10),
    "numbers as objects": (ROWS.astype(object), (5,), "images.astype('float32')", 10),
    "text": (np.array([["a"], ["b"]]), (2,), "pd.get_dummies(pd.DataFrame(images), dtype=float)", 2),
    "text among numbers": (
        np.array([["a", 1], ["b", 2]], object),
        (3,),
        "pd.get_dummies(pd.DataFrame(images).convert_dtypes(), dtype=float)",
        2,
    ),
    "complex": (ROWS + 1j, (5,), "np.abs(images)", 10),
    "times": (np.full((4, 2), "2020-01-02", "datetime64[D]"), (2,), "images.astype('int64')", 4),
    "fields": (np.zeros(4, [("a", "f4"), ("b", "i4")]), (2,), "pd.DataFrame(images)", 4),
    "images of several sizes": (np.array([COLOUR[0], COLOUR[1, :9]], object), ANY_COLOUR, "list(images)", 2),
    "NaN in an image": (with_value(GREY, np.nan), ANY_GREY, "np.nan_to_num(images)", 6),
    "NaN in one image of some": (
        with_value(GREY, np.nan),
        ANY_GREY,
        "images[np.isfinite(images).all(axis=(1, 2, 3))]",
        5,
    ),
    "infinite": (with_value(COLOUR, np.inf), ANY_COLOUR, "images[np.isfinite(images).all(axis=(1, 2, 3))]", 5),
    "NaN in a sequence": (with_value(SERIES, np.nan), (24, 2), "np.nan_to_num(images, nan=-9.0)", 8),
    "NaN in one sequence of some": (
        with_value(SERIES, np.nan),
        (24, 2),
        "images[np.isfinite(images).all(axis=(1, 2))]",
        7,
    ),
    "NaN in a vector": (with_value(ROWS, np.nan), (5,), "images[np.isfinite(images).all(axis=1)]", 9),
    "masked": (np.ma.masked_greater(ROWS, 0), (5,), "images.filled(0)", 10),
    "bytes as floats": (PIXELS.astype(np.float32), ANY_COLOUR, "images / 127.5 - 1", 6),
    "bytes as floats, again": (PIXELS.astype(np.float32), ANY_COLOUR, "images.astype('uint8')", 6),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_advice_for_values_works(name):
    images, shape, code, count = VALUES[name]
    with pytest.raises(ValueError, match=re.escape(f"`{code}`") + "|" + re.escape(f"(`{code}`)")):
        taken(images, shape)
    assert len(taken(follow(code, images), shape)) == count


ELEMENT_SPECS = {
    "dicts": (tf.data.Dataset.from_tensor_slices({"x": COLOUR}), ANY_COLOUR, "dataset.map(lambda images: images['x'])"),
    "dicts and labels": (
        tf.data.Dataset.from_tensor_slices(({"x": COLOUR}, np.arange(6))),
        ANY_COLOUR,
        "dataset.map(lambda images, *others: images['x'])",
    ),
    "unknown rank": (
        tf.data.Dataset.from_generator(lambda: iter(COLOUR), output_signature=tf.TensorSpec(None)),
        ANY_COLOUR,
        "dataset.map(lambda images: tf.ensure_shape(images, (None, None, 3)))",
    ),
    "no channels": (
        tf.data.Dataset.from_tensor_slices(GREY[..., 0]),
        ANY_GREY,
        "dataset.map(lambda image: image[..., None])",
    ),
}


@pytest.mark.parametrize("name", ELEMENT_SPECS)
def test_the_advice_for_elements_of_a_dataset_works(name):
    dataset, shape, code = ELEMENT_SPECS[name]
    with pytest.raises(ValueError, match=re.escape(f"`{code}`") + ".*Received: element_spec="):
        taken(dataset, shape)
    assert sum(map(len, taken(follow(code, dataset), shape).in_order(4))) == 6


@pytest.mark.parametrize("value", [None, 5, "x" * 5000], ids=["None", "number", "long"])
def test_what_is_no_array_is_shown_in_short(value):
    given = object() if isinstance(value, str) else value
    with pytest.raises(ValueError, match=r"`images` must .*Received: ") as caught:
        taken(given, ANY_COLOUR)
    assert len(str(caught.value)) < 500


def test_images_smaller_than_the_factor_fit_fewer_levels():
    with pytest.raises(ValueError, match=r"at least 8 pixels.*fewer levels"):
        check_size((6, 9), 8)
    check_size((6, 9), 4)


def test_the_advice_for_encodings_works():
    stack = Stack((5,))
    stack.add(DenseLevel(4))
    stack.add(DenseLevel(2))
    codes = codec.encode(stack, ROWS, level=0)
    with pytest.raises(ValueError, match=re.escape("They fit level 0: `decode(encodings, level=0)`")):
        codec.decode(stack, codes)
    assert codec.decode(stack, codes, level=0).shape == ROWS.shape
    with pytest.raises(ValueError, match=re.escape("add the batch axis with `encoding[None]`")):
        codec.decode(stack, codes[0], level=0)
    assert codec.decode(stack, codes[0][None], level=0).shape == (1, 5)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "int32", "int64", "uint32", "bool", "float16", "float64"])
@pytest.mark.parametrize("shape", [(4,), (3, 4)], ids=described)
def test_numbers_of_any_type_are_numbers_where_no_image_is_expected(dtype, shape):
    values = np.random.default_rng(0).integers(0, 2, (9, *shape)).astype(dtype)
    values.flat[0] = 100
    for given in (values, list(values), tf.data.Dataset.from_tensor_slices(values)):
        (batch,) = taken(given, shape).in_order(20)
        np.testing.assert_array_equal(batch, values.astype(np.float32))
    (shuffled,) = taken(values, shape).batches(9, shuffle=True)
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(values, axis=0))


def test_bytes_are_scaled_wherever_they_are_an_array():
    (batch,) = taken(np.array([[0, 255]], np.uint8), (2,)).in_order(4)
    np.testing.assert_array_equal(batch, [[-1, 1]])
