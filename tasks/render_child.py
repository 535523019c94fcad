"""One picture of one document, made in a process of its own: the document on standard input, a JPEG on standard output.

Run as a script and isolated (``python -I``), by :mod:`tasks.previews`; nothing of ours is imported. It has no environment, and takes
limits upon itself before the first byte is read: however much a document asks of it, it ends, and nothing else does.

It is no jail: it runs as the worker's own user. A document that takes over the drawing library could read what that user may read,
the worker's environment with its credentials among it, and open connections. Only the sender's keys, of another user, are out of reach.
"""

from __future__ import annotations

import math
import resource
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MEMORY_BYTES = 1024 * 1024 * 1024
CPU_SECONDS = 20
WRITTEN_BYTES = 256 * 1024
"""Of a picture, too: a larger one is cut, and then it is none."""
FILES = 64
MOST_PIXELS = 50_000_000
"""Of an image before it is made small: some 200 MB unpacked."""
WIDEST, HIGHEST = 640, 900


def main(media_type: str) -> None:
    limit()
    picture = page() if media_type == "application/pdf" else image()
    picture.convert("RGB").save(sys.stdout.buffer, "JPEG", quality=70)
    sys.stdout.buffer.flush()


def limit() -> None:
    """No more memory, time and files than this, no core of a document's content, and no other process (root may have those)."""
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, WRITTEN_BYTES),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def page() -> Image.Image:
    """The first page of a PDF."""
    import pypdfium2

    document = pypdfium2.PdfDocument(sys.stdin.buffer.read())
    first = document[0]
    width, height = first.get_size()
    if not (math.isfinite(width) and math.isfinite(height) and width >= 1 and height >= 1):
        sys.exit("the page has no size")
    bitmap = first.render(scale=min(WIDEST / width, HIGHEST / height), may_draw_forms=False)
    made: Image.Image = bitmap.to_pil()
    return made


def image() -> Image.Image:
    """An image made small. Its head says how large it is; nothing is unpacked before that was looked at."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # ours is lower than Pillow's, and is no warning
    opened = Image.open(sys.stdin.buffer, formats=("PNG", "JPEG", "GIF", "TIFF"))
    if opened.width * opened.height > MOST_PIXELS:
        sys.exit("the image is too large")
    opened.draft("RGB", (WIDEST, HIGHEST))
    opened.thumbnail((WIDEST, HIGHEST), reducing_gap=None)  # Pillow's shortcut knows no grey of sixteen bits
    return ImageOps.exif_transpose(in_eight_bits(opened))


def in_eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of more than eight bits made darker, as whatever is above 255 would be shown white; of any range, by what is in it."""
    if picture.mode != "F" and not picture.mode.startswith("I"):
        return picture
    grey = picture.convert("F")
    low, high = (0, 65535) if picture.mode.startswith("I;16") else grey.getextrema()
    scale = 255 / (high - low or 1)  # type: ignore[operator]
    return grey.point(lambda value: value * scale - low * scale).convert("L")  # type: ignore[operator]


if __name__ == "__main__":
    main(sys.argv[1])
