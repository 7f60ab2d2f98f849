"""Small PNG files: a picture of a page with at most 256 colours, reduced in the browser."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

from playwright.sync_api import Page

_REDUCE = (Path(__file__).parent / "palette.js").read_text()
#: https://www.w3.org/TR/png-3/: bits of a pixel, colour type "palette", and three defaults.
_PALETTE_PICTURE = (8, 3, 0, 0, 0)


def reduced(page: Page, picture: bytes) -> bytes:
    """Return a PNG file with a palette. `page` is any page whose policy allows data URLs."""
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    found = page.evaluate(_REDUCE, url)
    width, height = found["width"], found["height"]
    pixels = base64.b64decode(found["pixels"])
    # Each row begins with the number of its filter: none.
    rows = b"".join(b"\0" + pixels[at : at + width] for at in range(0, len(pixels), width))
    palette = b"".join(colour.to_bytes(3, "big") for colour in found["palette"])
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">II5B", width, height, *_PALETTE_PICTURE))
        + _chunk(b"PLTE", palette)
        + _chunk(b"IDAT", zlib.compress(rows, 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))
