"""Measures of pictures, against plain loops and on pictures whose measures are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphocytosis.imaging.measures import MEASURES, measure_pictures
from lymphocytosis.simulation.cells import CellTraits, StainTraits, draw_cell

SIDE = 96  # on pictures up to this side, no pixel is skipped but for detail
CELL = CellTraits(0.2, 0.65, 0.05, 0.1, 1.0, 0.5)
STAIN = StainTraits((252, 228, 205), 1.0, 0.0, 60, 0.5, 0.01)


def density(value):
    return -np.log((value + 0.5) / 255.5)


def threshold(values):
    """Otsu's, by trying every level."""
    best, found = -1.0, 0
    for level in range(256):
        dark, light = values[values <= level], values[values > level]
        if dark.size and light.size:
            between = dark.size * light.size * (dark.mean() - light.mean()) ** 2
            if between > best * (1 + 1e-12):
                best, found = between, level
    return found


def plainly(picture):
    """The measures of one picture by their definition."""
    values = picture.astype(float)
    green = values[..., 1]
    dark = green <= threshold(green)
    background = [sorted(values[..., c].ravel())[-(-95 * green.size // 100) - 1] for c in range(3)]
    found = {
        "brightness": np.mean(background),
        "background_red": background[0] - background[1],
        "background_blue": background[2] - background[1],
    }
    for name, where in (("nucleus", dark), ("around", ~dark)):
        of = [(density(values[..., c][where]) - density(background[c])).mean() for c in range(3)]
        found |= {f"{name}_stain": of[1], f"{name}_red": of[0] - of[1]}
        found[f"{name}_blue"] = of[2] - of[1]
    found["saturation"] = (values.max(axis=2) - values.min(axis=2)).mean()
    found["nucleus_share"] = dark.mean()
    found["contrast"] = np.log2(green.std())
    step = max(1, len(green) // 33)
    for what, name, lags in (
        (green, "detail", (1, 2, 4, 8)),
        (values[..., 0] - values[..., 2], "colour_detail", (2, 8)),
    ):
        for lag in lags:
            seconds = []
            for i in range(0, len(green), step):
                for line in (what[i], what[:, i]):
                    for j in range(lag, len(line) - lag):
                        seconds.append(abs(line[j - lag] - 2 * line[j] + line[j + lag]))
            found[f"{name}_{lag}"] = np.log2(np.mean(seconds)) - found["contrast"]
    return [found[name] for name in MEASURES]


def measured(picture):
    return dict(zip(MEASURES, measure_pictures(picture[None])[0].tolist(), strict=True))


def cell(seed=0, stain=STAIN, traits=CELL, size=SIDE):
    return draw_cell(np.random.default_rng(seed), traits, stain, size)


class TestMeasurePictures:
    @pytest.mark.parametrize("side", [33, 64, 96])
    def test_is_its_definition(self, side):
        noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
        for picture in (noise, cell(size=side)):
            np.testing.assert_allclose(
                measure_pictures(picture[None])[0], plainly(picture), 1e-4, 1e-4
            )

    def test_a_picture_is_measured_by_itself_to_the_bit(self):
        pictures = np.stack([cell(seed, size=130) for seed in range(5)])
        together = measure_pictures(pictures)
        for i in range(5):
            assert measure_pictures(pictures[i : i + 1]).tobytes() == together[i].tobytes()
        # Another place in memory, and other strides.
        turned = np.asfortranarray(pictures)[::-1]
        assert measure_pictures(turned).tobytes() == together[::-1].tobytes()

    @settings(max_examples=20)
    @given(st.integers(0, 255), st.integers(33, 300))
    def test_is_finite_for_one_colour(self, level, side):
        measures = measure_pictures(np.full((1, side, side, 3), level, np.uint8))
        assert np.isfinite(measures).all()

    def test_of_no_picture_is_empty(self):
        measures = measure_pictures(np.empty((0, 40, 40, 3), np.uint8))
        assert (measures.shape, measures.dtype) == ((0, len(MEASURES)), np.float32)


class TestWhatTheySee:
    def test_colours_of_the_slide(self):
        plain = measured(cell())
        red, green, blue = STAIN.background
        assert plain["brightness"] == pytest.approx((red + green + blue) / 3, abs=4)
        assert plain["background_red"] == pytest.approx(red - green, abs=6)
        assert plain["background_blue"] == pytest.approx(blue - green, abs=6)

    def test_the_strength_of_the_stain(self):
        strong = StainTraits(STAIN.background, 1.3, 0.0, 60, 0.5, 0.01)
        ratio = measured(cell(stain=strong))["nucleus_stain"] / measured(cell())["nucleus_stain"]
        assert ratio == pytest.approx(1.3, abs=0.12)

    def test_the_size_of_the_nucleus(self):
        few = StainTraits(STAIN.background, 1.0, 0.0, 0, 0.5, 0.01)
        large = CellTraits(0.3, 0.9, 0.02, 0.0, 0.5, 0.5)
        share = measured(cell(stain=few, traits=large))["nucleus_share"]
        assert share == pytest.approx(np.pi * 0.3**2, rel=0.15)

    def test_blur(self):
        picture = cell(size=192)
        smooth = np.mean(
            [np.roll(picture.astype(float), k, axis) for k in (-1, 0, 1) for axis in (0, 1)], axis=0
        ).astype(np.uint8)
        assert measured(smooth)["detail_1"] < measured(picture)["detail_1"] - 0.5
        assert measured(smooth)["detail_8"] == pytest.approx(measured(picture)["detail_8"], abs=0.1)
