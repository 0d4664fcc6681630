"""A picture file → `(H, W, C)` uint8, as TensorFlow operations: `tf.data` decodes many at once, without Python."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import lru_cache, partial

import tensorflow as tf

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
LIKE_OTHERS = "INTEGER_ACCURATE"  # the transform that Pillow and browsers use; TensorFlow's own is up to 8 of 255 off
REDUCTIONS = (1, 2, 4, 8)  # by which a JPEG can be decoded smaller, in a fraction of the time
HEAD = 1 << 17  # bytes of a JPEG that hold its EXIF block: it comes before the pixels and takes half of that at most
EXIF = re.compile(rb"(?:Exif\0\0|eXIf|EXIF.{4})(II\*\0|MM\0\*)", re.DOTALL)  # as JPEG, PNG and WebP announce it
ORIENTATION = 0x0112
EXTENDED_WEBP = r"RIFF\C{4}WEBPVP8X\C*"
STILL_FLAGS = "".join(f"\\x{flags:02x}" for flags in range(0, 64, 4))  # ICC profile, alpha, EXIF, XMP; not animation
STILL_WEBP = rf"RIFF\C{{4}}WEBPVP8X\C{{4}}[{STILL_FLAGS}]"


@lru_cache(maxsize=8)  # tracing takes as long as reading a thousand small pictures
def picture_reader(
    channels: int, side: int | None = None, crop: int | None = None
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Reads one picture, upright as its EXIF orientation says, the first frame of an animation.

    Args:
        channels: 1 for grey, 3 for colour. Colour becomes grey by luma (ITU-R BT.601), an alpha channel is laid on
            white (a single colour that stands for transparency, in a GIF or PNG, isn't looked for).
        side: takes the largest square in the middle, resized to so many pixels a side.
        crop: takes a square of so many pixels somewhere.

    Returns:
        A graph: path of a JPEG, PNG, GIF, BMP or WebP file, and a seed `(2,)` that decides where the crop is → picture.
        It raises `tf.errors.OpError` for what isn't a picture, a damaged one, one smaller than `crop`, or a WebP
        animation.
    """

    # Inline, its nodes would cost even where they aren't used.
    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def of_any_kind(contents: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        is_jpeg = _is_jpeg(contents)
        decoded = tf.cond(
            is_jpeg, lambda: _from_jpeg(contents, 0, side, crop, seed), lambda: _from_other(contents, crop, seed)
        )
        image = _with_channels(decoded, channels)
        head = tf.strings.substr(contents, 0, tf.where(is_jpeg, HEAD, tf.strings.length(contents)))
        return tf.cond(_has_exif(head), lambda: _upright(image, head), lambda: image)

    @tf.function(autograph=False)
    def read(path: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        contents = tf.io.read_file(path)
        is_plain = _is_jpeg(contents) & ~_has_exif(tf.strings.substr(contents, 0, HEAD)) & (channels == 3)
        image = tf.cond(  # most pictures are such
            is_plain, lambda: _from_jpeg(contents, 3, side, crop, seed), lambda: of_any_kind(contents, seed)
        )
        return image if side is None else _resized(_middle(image), side)

    return read.get_concrete_function(tf.TensorSpec((), tf.string), tf.TensorSpec((2,), tf.int64))


def _is_jpeg(contents: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(contents, 0, 2) == b"\xff\xd8"


def _has_exif(head: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_full_match(head, r"\C*(?:Exif|eXIf|EXIF)\C*")


def _from_jpeg(
    contents: tf.Tensor, channels: int, side: int | None, crop: int | None, seed: tf.Tensor | None
) -> tf.Tensor:
    """Decodes no more of the picture than is needed, with the channels that it has if `channels` is 0."""

    def decode(reduction: int = 1) -> tf.Tensor:
        return tf.io.decode_jpeg(contents, channels, reduction, dct_method=LIKE_OTHERS)

    if crop is not None:
        window = tf.concat([_place(tf.io.extract_jpeg_shape(contents), crop, seed), [crop, crop]], 0)
        return tf.io.decode_and_crop_jpeg(contents, window, channels, dct_method=LIKE_OTHERS)
    if side is None:
        return decode()
    # At least twice the size that is wanted is left, so the filter that resizes still decides what is seen.
    shorter = tf.reduce_min(tf.io.extract_jpeg_shape(contents)[:2])
    fitting = tf.reduce_sum(tf.cast(shorter >= 2 * side * tf.constant(REDUCTIONS[1:]), tf.int32))
    return tf.switch_case(fitting, [partial(decode, reduction) for reduction in REDUCTIONS])


def _from_other(contents: tf.Tensor, crop: int | None, seed: tf.Tensor | None) -> tf.Tensor:
    head = tf.strings.substr(contents, 0, 21)
    is_extended, is_still = (tf.strings.regex_full_match(head, pattern) for pattern in (EXTENDED_WEBP, STILL_WEBP))
    # TensorFlow 2.21 writes beyond its buffer when it decodes an opaque animation.
    still = tf.debugging.Assert(is_still | ~is_extended, ["an animated WebP"])
    with tf.control_dependencies([still]):
        image = tf.io.decode_image(contents, expand_animations=False)
    is_bitmap = tf.strings.substr(contents, 0, 2) == b"BM"  # its fourth channel is padding, most often zero
    has_palette = is_bitmap & (tf.shape(image)[-1] == 1)
    has_alpha = (tf.shape(image)[-1] % 2 == 0) & ~is_bitmap
    image = tf.cond(has_palette, lambda: _by_palette(image, contents), lambda: image)
    image = tf.cond(has_alpha, lambda: _on_white(image), lambda: image)
    if crop is None:
        return image
    top, left = tf.unstack(_place(tf.shape(image), crop, seed))
    return image[top : top + crop, left : left + crop]


def _by_palette(indices: tf.Tensor, contents: tf.Tensor) -> tf.Tensor:
    """Colours of a bitmap of 8 bits per pixel, of which TensorFlow gives the indices."""

    def number(place: int) -> tf.Tensor:
        return tf.io.decode_raw(tf.strings.substr(contents, place, 4), tf.int32)[0]

    start, stop = 14 + number(14), number(10)  # behind the header, up to the pixels
    palette = tf.io.decode_raw(tf.strings.substr(contents, start, stop - start), tf.uint8)
    return tf.gather(tf.reshape(palette, (-1, 4))[:, 2::-1], tf.cast(indices[..., 0], tf.int32))


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """`(H, W, 2 or 4)` → `(H, W, 1 or 3)`: the last channel is the opacity."""
    image = tf.cast(image, tf.float32)
    mixed = 255.0 + (image[..., :-1] - 255.0) * (image[..., -1:] / 255.0)
    return tf.cast(tf.round(mixed), tf.uint8)


def _with_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    is_grey = tf.shape(image)[-1] == 1
    if channels == 3:
        image = tf.cond(is_grey, lambda: tf.repeat(image, 3, axis=-1), lambda: image[..., :3])
    else:
        image = tf.cond(is_grey, lambda: image, lambda: tf.image.rgb_to_grayscale(image[..., :3]))
    return tf.ensure_shape(image, (None, None, channels))


def _place(shape: tf.Tensor, crop: int, seed: tf.Tensor) -> tf.Tensor:
    """Top and left of a square somewhere in an image of this shape."""
    room = shape[:2] - crop
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_min(room) >= 0, ["smaller than `crop`:", shape])]):
        return tf.cast(tf.random.stateless_uniform([2], seed) * tf.cast(room + 1, tf.float32), tf.int32)


def _resized(image: tf.Tensor, side: int) -> tf.Tensor:
    """By the mean of the area that each new pixel covers; to make a picture larger, bicubic."""
    larger = tf.shape(image)[0] < side
    method = partial(tf.image.resize, image, (side, side))
    resized = tf.cond(larger, lambda: method("bicubic"), lambda: method("area"))
    return tf.saturate_cast(tf.round(resized), tf.uint8)


def _middle(image: tf.Tensor) -> tf.Tensor:
    """The largest square in the middle."""
    size = tf.shape(image)[:2]
    side = tf.reduce_min(size)
    top, left = tf.unstack((size - side) // 2)
    return image[top : top + side, left : left + side]


def _upright(image: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Turns an image as the EXIF block in the head of its file says, which Python reads."""
    number = tf.numpy_function(orientation, [head], tf.int64, stateful=False)
    upright = tf.cond(number >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    down, right = (tf.where(tf.reduce_any(number == mirrored), -1, 1) for mirrored in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return tf.ensure_shape(upright[::down, ::right], (None, None, image.shape[-1]))


def orientation(contents: bytes) -> int:
    """The orientation (1 to 8, 1 for upright) in the EXIF block of a picture file (CIPA DC-008, 4.6.5); 1 without."""
    found = EXIF.search(contents)
    if found is None:
        return 1
    block = contents[found.start(1) :]
    order = "<" if block[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for entry in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", block, start + 2 + 12 * entry)
            if tag == ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # the block is cut short: as if there were none
        pass
    return 1
