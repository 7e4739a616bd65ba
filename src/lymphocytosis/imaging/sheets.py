"""Many small pictures in one: a patient's cells on a sheet, for a page."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def draw_sheet(pictures: Sequence[Pixels], side: int, columns: int, quality: int) -> bytes:
    """Draw pictures side by side, row by row.

    Args:
        pictures: at least one, each (S, S, 3) uint8.
        side: of a picture on the sheet, in pixels.
        columns: pictures in a row.
        quality: of the compression, 0 to 100.

    Returns:
        A WebP file, columns x side wide; what the last row leaves free is transparent.
    """
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGBA", (columns * side, rows * side))
    for at, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX)
        sheet.paste(picture, (at % columns * side, at // columns * side))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=quality, method=2)
    return file.getvalue()
