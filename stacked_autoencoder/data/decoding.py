"""Reads a picture file as `(H, W, C)` with TensorFlow operations, so that `tf.data` decodes many in parallel.

Pictures are uint8, or float32 for a stack with a `value_range` of more than 8 bits. Only TIFF and NumPy files are read
by Python.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Literal, get_args

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.array_files import NUMPY_SUFFIXES, TIFF_SUFFIXES, read_array, split_page
from stacked_autoencoder.data.picture_headers import gif_size, orientation
from stacked_autoencoder.utils.value_range import SIGNED, SLACK, UNIT, UNKNOWN, ValueRange

Size = tuple[int, int]  # height and width
Fit = Literal["crop", "pad", "stretch"]
FITS: tuple[str, ...] = get_args(Fit)
SUFFIXES = (*(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp"), *TIFF_SUFFIXES, *NUMPY_SUFFIXES)
ARRAY_SUFFIXES = "|".join(re.escape(suffix) for suffix in (*TIFF_SUFFIXES, *NUMPY_SUFFIXES))
NEEDS_RANGE = "which an Autoencoder with `value_range=(low, high)` reads, such as (0, 65535) for 16 bits"
NAN_ADVICE = 'NaN values, which need `missing="ignore"`'
TOO_SMALL = "smaller than `crop="  # beginning of the reason
DCT_METHOD = "INTEGER_ACCURATE"  # as in Pillow and browsers; the default differs by up to 8 of 255
REDUCTIONS = (1, 2, 4, 8)  # factors by which a JPEG can be decoded smaller, in a fraction of the time
HEAD = 1 << 17  # bytes: an EXIF block is before the pixels of a JPEG and takes at most half as many
DEPTH_OF_PNG = 24  # position of the byte with the bits per channel
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"  # width and height follow
MAX_PIXELS = 89_478_485  # Pillow warns of a decompression bomb when a picture has more
FRAME_FACTOR = 4  # TensorFlow decodes all frames of a GIF, one byte per pixel; one picture with alpha takes four
BAND = 1 << 20  # pixels converted at once
# First bytes of GIF, BMP and three kinds of WebP; a dot stands for any byte.
STARTS = (b"GIF8", b"BM", b"RIFF....WEBPVP8 ", b"RIFF....WEBPVP8L", b"RIFF....WEBPVP8X")
SIZE_FIELDS = (
    (22, 4),
    (18, 4),
    (28, 2),
    (26, 2),
    (21, 4),
    (27, 3),
    (24, 3),
)  # position and length of the numbers in headers


# Not inlined, since the nodes of inlined functions take time even where they are not used.
not_inlined = partial(tf.function, autograph=False, experimental_attributes={"_noinline": True})


@lru_cache(maxsize=8)  # tracing takes as long as reading a thousand small pictures
def picture_reader(
    channels: int,
    size: Size | None = None,
    crop: int | None = None,
    max_pixels: int | None = MAX_PIXELS,
    fit: Fit = "crop",
    values: ValueRange = UNKNOWN,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes a graph that reads one picture: upright according to its EXIF orientation, the first frame of an animation.

    Args:
        channels: 1 for grey, 3 for colour: colour is converted to grey by luma (ITU-R BT.601), and an alpha channel is
            blended onto white (a single transparent colour of a GIF or PNG is ignored). For any other number, pictures
            must have exactly that number of channels.
        size: height and width to resize to.
        crop: side of a square to cut out at a random position.
        max_pixels: maximum height times width of a picture, `None` for no limit. It is compared with the size in the
            header, so a larger picture is never decoded.
        fit: how a picture is resized: `"crop"` takes the largest central part with the proportions of `size`, `"pad"`
            adds black bars, `"stretch"` changes the proportions.
        values: value range of the stack: pictures are float32 if `reads_deep`, else uint8.

    Returns:
        A function of the path of a JPEG, PNG, GIF, BMP, WebP, TIFF or NumPy file and a seed `(2,)` for the position of
        the crop, which returns the picture. It raises `tf.errors.OpError` for a file that is not a picture or is
        damaged, for a picture smaller than `crop` or with more than `max_pixels` pixels, for a WebP animation, and for
        values that the value range of the stack cannot hold.
    """
    limit = None if max_pixels is None else min(max_pixels, tf.int64.max)
    shrunk = None if size is None else (size, fit)

    def from_jpeg(contents: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if channels == 3:
            image = _from_jpeg(contents, 3, shrunk, crop, seed, limit)
        else:
            image = _with_channels(_from_jpeg(contents, 0, shrunk, crop, seed, limit), channels)
        return _in_range(image, values)

    @not_inlined
    def from_other(contents: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        def shallow() -> tf.Tensor:
            return _in_range(_with_channels(_from_other(contents, crop, seed, limit, channels), channels), values)

        def deep() -> tf.Tensor:
            return _from_deep_png(contents, crop, seed, limit, channels, values)

        depth = tf.strings.substr(contents, tf.minimum(DEPTH_OF_PNG, tf.strings.length(contents)), 1)
        is_deep = _is_png(contents) & (depth == b"\x10")
        if values.reads_deep:
            return tf.cond(is_deep, deep, shallow)
        with tf.control_dependencies([_check(~is_deep, f"16 bits per channel, {NEEDS_RANGE}")]):
            contents = tf.identity(contents)
        return shallow()

    @not_inlined
    def from_array_file(path: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        dtype = tf.float32 if values.reads_deep else tf.uint8
        load = partial(_array_in_range, channels=channels, max_pixels=max_pixels, values=values)
        image = tf.ensure_shape(tf.numpy_function(load, [path], dtype, stateful=False), (None, None, channels))
        return image if crop is None else random_square(image, crop, seed)

    def from_picture(path: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        contents = tf.io.read_file(path)
        is_jpeg = tf.strings.substr(contents, 0, 2) == b"\xff\xd8"
        head = tf.strings.substr(contents, 0, tf.where(is_jpeg, HEAD, tf.strings.length(contents)))
        has_exif = tf.strings.regex_full_match(head, r"\C*(?:Exif|eXIf|EXIF)\C*")
        image = tf.cond(is_jpeg, lambda: from_jpeg(contents, seed), lambda: from_other(contents, seed))
        image = tf.ensure_shape(image, (None, None, channels))
        return tf.cond(has_exif, lambda: _upright(image, head), lambda: image)

    @tf.function(autograph=False)
    def read(path: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        is_array = tf.strings.regex_full_match(path, rf"\C*(?i:{ARRAY_SUFFIXES})(#[0-9]+)?")
        image = tf.cond(is_array, lambda: from_array_file(path, seed), lambda: from_picture(path, seed))
        if values.reads_deep and values.is_checked:
            image = _within(image, values)
        return image if size is None else _fitted(image, size, fit, values.low if values.reads_deep else 0)

    return read.get_concrete_function(tf.TensorSpec((), tf.string), tf.TensorSpec((2,), tf.int64))


def _from_jpeg(
    contents: tf.Tensor,
    channels: int,
    shrunk: tuple[Size, Fit] | None,
    crop: int | None,
    seed: tf.Tensor,
    limit: int | None,
) -> tf.Tensor:
    """Decodes only the part of the picture that is needed. `channels=0` keeps its channels."""
    shape = tf.io.extract_jpeg_shape(contents)
    with tf.control_dependencies(_size_checks(shape[:2], limit)):
        contents = tf.identity(contents)

    def decode(reduction: int = 1) -> tf.Tensor:
        return tf.io.decode_jpeg(contents, channels, reduction, dct_method=DCT_METHOD)

    if crop is not None:
        window = tf.concat([_crop_position(shape, crop, seed), [crop, crop]], 0)
        return tf.io.decode_and_crop_jpeg(contents, window, channels, dct_method=DCT_METHOD)
    if shrunk is None:
        return decode()
    # The decoded picture has at least twice the wanted size, so the quality depends on the resizing filter. The
    # orientation may swap height and width, so the sides are compared with the longer one that is wanted.
    size, fit = shrunk
    decisive = tf.reduce_max(shape[:2]) if fit == "pad" else tf.reduce_min(shape[:2])
    fitting = tf.reduce_sum(tf.cast(decisive >= 2 * max(size) * tf.constant(REDUCTIONS[1:]), tf.int32))
    return tf.switch_case(fitting, [partial(decode, reduction) for reduction in REDUCTIONS])


def _from_other(contents: tf.Tensor, crop: int | None, seed: tf.Tensor, limit: int | None, channels: int) -> tf.Tensor:
    is_png = _is_png(contents)
    image = tf.cond(is_png, lambda: _from_png(contents, limit), lambda: _from_rare(contents, limit))
    if crop is not None:
        image = random_square(image, crop, seed)
    if channels not in (1, 3):
        return image
    return tf.cond(tf.shape(image)[-1] % 2 == 0, lambda: _by_pixel(_on_white, image), lambda: image)


def _is_png(contents: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(contents, 0, len(PNG_START)) == PNG_START


def _png_checks(contents: tf.Tensor, limit: int | None) -> list[tf.Operation]:
    size = tf.io.decode_raw(tf.strings.substr(contents, len(PNG_START), 8), tf.int32, little_endian=False)
    return _size_checks(size[::-1], limit)


def _from_png(contents: tf.Tensor, limit: int | None) -> tf.Tensor:
    return _decoded(contents, _png_checks(contents, limit))


def _from_deep_png(
    contents: tf.Tensor, crop: int | None, seed: tf.Tensor, limit: int | None, channels: int, values: ValueRange
) -> tf.Tensor:
    """Decodes a PNG of 16 bits per channel to float32 in the value range of the stack."""
    with tf.control_dependencies(_png_checks(contents, limit)):
        image = tf.cast(tf.io.decode_png(contents, dtype=tf.uint16), tf.float32)
    if crop is not None:
        image = random_square(image, crop, seed)
    if channels in (1, 3):
        white = 65535.0
        image = tf.cond(
            tf.shape(image)[-1] % 2 == 0,
            lambda: white + (image[..., :-1] - white) * (image[..., -1:] / white),
            lambda: image,
        )
    image = _with_channels(image, channels)
    return image * ((values.high - values.low) / 65535) + values.low if values.ends in (UNIT, SIGNED) else image


def _in_range(image: tf.Tensor, values: ValueRange) -> tf.Tensor:
    """Converts a uint8 picture to float32 if the value range of the stack has more than 8 bits."""
    if not values.reads_deep:
        return image
    reason = f"8 bits per channel, which do not stand for `value_range=({values.low:g}, {values.high:g})`"
    with tf.control_dependencies([_check(tf.constant(values.takes_pixels), reason)]):
        return values.to_user(tf.identity(image))


def _within(image: tf.Tensor, values: ValueRange) -> tf.Tensor:
    """Raises an error for values outside of the value range of the stack, and for NaN unless values may be missing."""
    slack = SLACK * (values.high - values.low) / 2
    is_within = (image >= values.low - slack) & (image <= values.high + slack)
    is_nan = tf.math.is_nan(image)
    ends = tf.reduce_min(image), tf.reduce_max(image)
    reason = f"lie outside of `value_range=({values.low:g}, {values.high:g})`"
    checks = [_check(tf.reduce_all(is_within | is_nan), "values from", ends[0], "to", ends[1], reason)]
    if values.missing != "ignore":
        checks.append(_check(~tf.reduce_any(is_nan), NAN_ADVICE))
    with tf.control_dependencies(checks):
        return tf.identity(image)


def _array_in_range(path: bytes, channels: int, max_pixels: int | None, values: ValueRange) -> np.ndarray:
    """Reads a TIFF or NumPy file as uint8, or as float32 if the value range of the stack has more than 8 bits."""
    file, page = split_page(os.fsdecode(path))
    array = read_array(file, channels, max_pixels, page)
    if not values.reads_deep:
        if array.dtype != np.uint8:
            raise ValueError(f"{array.dtype} values, {NEEDS_RANGE}")
        return array
    if array.dtype == np.uint8:
        if not values.takes_pixels:
            raise ValueError(f"uint8 values, which do not stand for `value_range=({values.low:g}, {values.high:g})`")
        return values.to_user(array).numpy()
    if array.dtype == np.uint16 and values.ends in (UNIT, SIGNED):
        return (array * ((values.high - values.low) / 65535) + values.low).astype(np.float32)
    return array.astype(np.float32)


def _from_rare(contents: tf.Tensor, limit: int | None) -> tf.Tensor:
    """Decodes a GIF, BMP or WebP."""

    @not_inlined
    def decode(contents: tf.Tensor) -> tf.Tensor:
        head = tf.cast(
            tf.io.decode_raw(contents, tf.uint8, fixed_length=30), tf.int64
        )  # a shorter file is padded with zeros
        # Few large operations, since each one delays the start of every pass over a folder.
        starts = np.stack([np.frombuffer(start.ljust(16, b"."), np.uint8) for start in STARTS]).astype(np.int64)
        is_kind = tf.reduce_all((head[:16] == starts) | (starts == ord(".")), 1)
        is_gif, is_bitmap, _, _, is_extended = tf.unstack(is_kind)
        weights = np.zeros((len(SIZE_FIELDS), 30), np.int64)
        for row, (start, count) in zip(weights, SIZE_FIELDS, strict=True):
            row[start : start + count] = [1 << 8 * byte for byte in range(count)]
        numbers = tf.reduce_sum(weights * head, 1)
        sizes = [
            tf.zeros(2, tf.int64),  # a GIF is checked below
            numbers[:2],
            numbers[2:4] % (1 << 14),
            tf.stack([numbers[4] // (1 << 14), numbers[4]]) % (1 << 14) + 1,
            numbers[5:] + 1,  # libwebp checks that a still picture has this size
        ]
        height, width = tf.unstack(tf.reduce_sum(tf.where(is_kind[:, None], sizes, 0), 0))
        height = tf.where(
            height < 1 << 31, height, (1 << 32) - height
        )  # negative if the first row of a BMP is its top row
        # TensorFlow 2.21 writes beyond the end of a buffer when it decodes an opaque animation.
        is_still = ~is_extended | ((head[20] % 4 == 0) & (head[20] < 64))  # flags: only ICC profile, alpha, EXIF, XMP
        checks = [
            # TensorFlow also decodes JPEG XL, but its header has no size at a fixed position.
            _check(tf.reduce_any(is_kind), "not a JPEG, PNG, WebP, BMP or GIF with a size in its header"),
            _check(is_still, "an animated WebP"),
            *_size_checks(tf.stack([height, width]), limit),
        ]
        if limit is not None:
            checks.append(tf.cond(is_gif, lambda: _gif_fits(contents, limit), lambda: True))
        image = _decoded(contents, checks)
        has_palette = is_bitmap & (tf.shape(image)[-1] == 1)
        image = tf.cond(has_palette, lambda: _by_palette(image, contents), lambda: image)
        # The fourth channel of a bitmap is padding, usually zero.
        return image[..., : tf.where(is_bitmap, 3, 4)]

    return decode(contents)


def _gif_fits(contents: tf.Tensor, limit: int) -> tf.Tensor:
    size, pixels = tf.numpy_function(gif_size, [contents], (tf.int64, tf.int64), stateful=False)
    reason = f"pixels in all frames are more than {FRAME_FACTOR} times `max_pixels={limit}`"
    checks = [*_size_checks(size, limit), _check(pixels // FRAME_FACTOR <= limit, pixels, reason)]
    with tf.control_dependencies(checks):
        return tf.constant(True)


def _decoded(contents: tf.Tensor, checks: list[tf.Operation]) -> tf.Tensor:
    with tf.control_dependencies(checks):
        return tf.io.decode_image(contents, expand_animations=False)


def _check(condition: tf.Tensor, *reason: tf.Tensor | str) -> tf.Operation:
    return tf.raw_ops.Assert(condition=condition, data=reason)


def _size_checks(size: tf.Tensor, limit: int | None) -> list[tf.Operation]:
    """Checks for at most `limit` pixels. Height and width have 32 bits each, so their product cannot overflow int64."""
    if limit is None:
        return []
    pixels = tf.reduce_prod(tf.abs(tf.cast(size, tf.int64)))
    return [_check(pixels <= limit, size, f"pixels are more than `max_pixels={limit}`")]


# === Conversion of pixels ===


def _by_pixel(convert: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor) -> tf.Tensor:
    """Converts each pixel of a picture `(H, W, C)`, a limited number at once to save memory."""

    @not_inlined
    def by_band(image: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(image)
        pixels = tf.reshape(image, (-1, shape[-1]))
        count = tf.shape(pixels)[0]

        def one(start: tf.Tensor, done: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return start + BAND, done.write(start // BAND, convert(pixels[start : start + BAND]))

        done = tf.TensorArray(tf.uint8, (count - 1) // BAND + 1, infer_shape=False)
        _, done = tf.while_loop(lambda start, _: start < count, one, (0, done), parallel_iterations=1)
        return tf.reshape(done.concat(), tf.concat([shape[:2], [-1]], 0))

    return tf.cond(tf.size(image) > 4 * BAND, lambda: by_band(image), lambda: convert(image))


def _by_palette(indices: tf.Tensor, contents: tf.Tensor) -> tf.Tensor:
    """Looks up the colours of a bitmap of 8 bits per pixel, of which TensorFlow returns the indices."""

    def number(position: int) -> tf.Tensor:
        return tf.io.decode_raw(tf.strings.substr(contents, position, 4), tf.int32)[0]

    start, stop = 14 + number(14), number(10)  # after the header, up to the pixels
    palette = tf.io.decode_raw(tf.strings.substr(contents, start, stop - start), tf.uint8)
    return tf.gather(tf.reshape(palette, (-1, 4))[:, 2::-1], tf.cast(indices[..., 0], tf.int32))


def _on_white(pixels: tf.Tensor) -> tf.Tensor:
    """Blends pixels with an alpha channel, `(…, 2 or 4)`, onto white: `(…, 1 or 3)`."""
    pixels = tf.cast(pixels, tf.float32)
    mixed = 255.0 + (pixels[..., :-1] - 255.0) * (pixels[..., -1:] / 255.0)
    return tf.cast(tf.round(mixed), tf.uint8)


def _grey(pixels: tf.Tensor) -> tf.Tensor:
    return tf.image.rgb_to_grayscale(pixels[..., :3])


def _with_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Converts a picture to grey or colour, or checks that it has the given number of channels."""
    is_grey = tf.shape(image)[-1] == 1
    if channels not in (1, 3):
        count = tf.shape(image)[-1]
        with tf.control_dependencies(
            [_check(count == channels, count, f"channels, and the model was made for {channels}")]
        ):
            return tf.ensure_shape(image, (None, None, channels))
    if channels == 3:
        image = tf.cond(is_grey, lambda: tf.repeat(image, 3, axis=-1), lambda: image[..., :3])
    else:
        grey = _grey if image.dtype.is_floating else partial(_by_pixel, _grey)
        image = tf.cond(is_grey, lambda: image, lambda: grey(image))
    return tf.ensure_shape(image, (None, None, channels))


def random_square(image: tf.Tensor, crop: int, seed: tf.Tensor) -> tf.Tensor:
    """Cuts a square with sides of `crop` pixels out of an image, at a position that depends on the seed."""
    top, left = tf.unstack(_crop_position(tf.shape(image), crop, seed))
    return image[top : top + crop, left : left + crop]


def _crop_position(shape: tf.Tensor, crop: int, seed: tf.Tensor) -> tf.Tensor:
    """Returns a random position, top and left, of a square in an image of this shape."""
    room = shape[:2] - crop
    is_larger = _check(tf.reduce_min(room) >= 0, f"{TOO_SMALL}{crop}`:", shape[:2], "pixels")
    with tf.control_dependencies([is_larger]):
        return tf.cast(tf.random.stateless_uniform([2], seed) * tf.cast(room + 1, tf.float32), tf.int32)


def _fitted(image: tf.Tensor, size: Size, fit: Fit, black: float) -> tf.Tensor:
    """Resizes a picture to `(*size, channels)`."""
    if fit == "crop":
        return _resized(_middle(image, size), size)
    if fit == "stretch":
        # One side can become longer and the other shorter, which needs two different filters.
        shape = tf.minimum(tf.shape(image)[:2], size)
        return _resized(_resized(image, shape), size)
    inner = _scaled_to(tf.shape(image)[:2], size)
    room = tf.constant(size) - inner
    before = room // 2
    sides = [*tf.unstack(tf.stack([before, room - before], 1)), [0, 0]]
    padded = tf.pad(_resized(image, inner), sides, constant_values=tf.cast(black, image.dtype))
    return tf.ensure_shape(padded, (*size, image.shape[-1]))


def _resized(image: tf.Tensor, size: Size | tf.Tensor) -> tf.Tensor:
    """Resizes by the mean of the area that each new pixel covers, or bicubic if a side becomes longer."""
    larger = tf.reduce_any(tf.shape(image)[:2] < size)
    method = partial(tf.image.resize, image, size)
    resized = tf.cond(larger, lambda: method("bicubic"), lambda: method("area"))
    return tf.saturate_cast(tf.round(resized), tf.uint8) if image.dtype == tf.uint8 else resized


def _middle(image: tf.Tensor, size: Size) -> tf.Tensor:
    """Returns the largest central part with the proportions of `size`."""
    shape = tf.shape(image)[:2]
    part = _scaled_to(size, shape)
    top, left = tf.unstack((shape - part) // 2)
    return image[top : top + part[0], left : left + part[1]]


def _scaled_to(size: Size | tf.Tensor, room: Size | tf.Tensor) -> tf.Tensor:
    """Returns the largest size `(2,)` with the proportions of `size` that fits into `room`, at least one pixel."""
    size, room = tf.cast(size, tf.int64), tf.cast(room, tf.int64)  # products of two sides can need more than 32 bits
    scaled = (size * room[::-1] + size[::-1] // 2) // size[::-1]
    return tf.cast(tf.clip_by_value(scaled, 1, room), tf.int32)


@not_inlined
def _upright(image: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Turns an image according to its EXIF orientation, which Python reads from the head of the file."""
    number = tf.numpy_function(orientation, [head], tf.int64, stateful=False)
    upright = tf.cond(number >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    down, right = (tf.where(tf.reduce_any(number == mirrored), -1, 1) for mirrored in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return tf.ensure_shape(upright[::down, ::right], (None, None, image.shape[-1]))
