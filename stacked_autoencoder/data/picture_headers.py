"""What the headers of picture files say that TensorFlow does not read: the size of a GIF, and the EXIF orientation."""

from __future__ import annotations

import re
import struct

import numpy as np

EXIF = re.compile(rb"(?:Exif\0\0|eXIf|EXIF.{4})(II\*\0|MM\0\*)", re.DOTALL)  # as JPEG, PNG and WebP announce it
ORIENTATION = 0x0112
MOST_BLOCKS = 1 << 22  # of a GIF: Python walks over them, and large ones of 255 bytes hold a gigabyte


def gif_size(contents: bytes) -> tuple[np.ndarray, np.int64]:
    """The size of a GIF, as far as a damaged file tells it.

    Returns:
        Height and width that its logical screen and all frames fit in, and the number of pixels in all frames.
    """
    height = width = pixels = blocks = 0
    try:
        width, height, flags = struct.unpack_from("<HHB", contents, 6)
        place = 13 + _palette_bytes(flags)
        while contents[place] in b"!,":
            if contents[place] == ord(","):
                frame_width, frame_height, flags = struct.unpack_from("<HHB", contents, place + 5)
                width, height = max(width, frame_width), max(height, frame_height)
                pixels += frame_width * frame_height
                place += 9 + _palette_bytes(flags)
            place += 2
            while contents[place]:  # a block of so many bytes follows
                place += contents[place] + 1
                blocks += 1
                if blocks > MOST_BLOCKS:
                    raise ValueError(f"a GIF of more than {MOST_BLOCKS:,} blocks")
            place += 1
    except (IndexError, struct.error):
        pass  # the decoder goes no further either
    return np.array([height, width], np.int64), np.int64(pixels)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags % 8 + 1) if flags >= 128 else 0


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
