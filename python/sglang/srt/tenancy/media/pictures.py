"""Read the head of a picture before it is unpacked: half a megabyte may hold half a gigabyte."""

from __future__ import annotations

import io

from PIL import Image

# Of these the head says the size that unpacking finds. Not so icons, which hold pictures of another
# size; and not PostScript, which is a program that unpacking runs.
FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "AVIF"),
    "HEIF",  # of a plugin
)


def count_pixels(content: bytes) -> int | None:
    """Return how many pixels a picture has, or None for what is none of a known format."""
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        with Image.open(io.BytesIO(content), formats=known) as picture:
            return picture.width * picture.height
    except Image.DecompressionBombError:
        return 2 * (Image.MAX_IMAGE_PIXELS or 0)  # it has more, and upstream refuses it, too
    except Exception:  # noqa: BLE001 - each format has its own for a broken head
        return None
