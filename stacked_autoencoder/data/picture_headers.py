"""Reads from headers of picture files what TensorFlow does not: the size of a GIF, and the EXIF orientation."""

from __future__ import annotations

import re
import struct

import numpy as np

EXIF = re.compile(rb"(?:Exif\0\0|eXIf|EXIF.{4})(II\*\0|MM\0\*)", re.DOTALL)  # the markers of JPEG, PNG and WebP
ORIENTATION = 0x0112
MOST_BLOCKS = 1 << 22  # of a GIF, each of up to 255 bytes, since Python loops over them


def gif_size(contents: bytes) -> tuple[np.ndarray, np.int64]:
    """Reads the size of a GIF, which may be damaged.

    Returns:
        Height and width that contain its logical screen and all frames, and the number of pixels in all frames.
    """
    height = width = pixels = blocks = 0
    try:
        width, height, flags = struct.unpack_from("<HHB", contents, 6)
        position = 13 + _palette_bytes(flags)
        while contents[position] in b"!,":
            if contents[position] == ord(","):
                frame_width, frame_height, flags = struct.unpack_from("<HHB", contents, position + 5)
                width, height = max(width, frame_width), max(height, frame_height)
                pixels += frame_width * frame_height
                position += 9 + _palette_bytes(flags)
            position += 2
            while contents[position]:  # length of the block that follows
                position += contents[position] + 1
                blocks += 1
                if blocks > MOST_BLOCKS:
                    raise ValueError(f"a GIF of more than {MOST_BLOCKS:,} blocks")
            position += 1
    except (IndexError, struct.error):
        pass  # the decoder stops here, too
    return np.array([height, width], np.int64), np.int64(pixels)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags % 8 + 1) if flags >= 128 else 0


def orientation(contents: bytes) -> int:
    """Returns the EXIF orientation (1 to 8, 1 for upright) of a picture file (CIPA DC-008, 4.6.5), 1 without EXIF."""
    match = EXIF.search(contents)
    if match is None:
        return 1
    block = contents[match.start(1) :]
    order = "<" if block[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for entry in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", block, start + 2 + 12 * entry)
            if tag == ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # the block is incomplete
        pass
    return 1
