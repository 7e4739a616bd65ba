import io

import numpy as np
from PIL import Image

from lymphocytosis.imaging.sheets import draw_sheet


def test_each_picture_is_in_its_place():
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (120, 120, 120), (20, 20, 20)]
    pictures = [np.full((40, 40, 3), colour, np.uint8) for colour in colours]
    file = draw_sheet(pictures, side=16, columns=3, quality=90)
    sheet = Image.open(io.BytesIO(file))
    assert sheet.format == "WEBP"
    assert sheet.size == (48, 32)
    for at, colour in enumerate(colours):
        seen = sheet.convert("RGB").getpixel((at % 3 * 16 + 8, at // 3 * 16 + 8))
        assert np.abs(np.subtract(seen, colour)).max() < 12
    assert sheet.getpixel((40, 24))[3] == 0
    assert draw_sheet(pictures, side=16, columns=3, quality=90) == file
