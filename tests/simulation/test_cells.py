"""What is drawn is measured in the picture by colour, without a look into the drawing code."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from lymphocytosis.simulation.cells import CellTraits, StainTraits, draw_cell

SIZE = 112
ROUND = CellTraits(
    nucleus_radius=0.15,
    nucleus_share=0.5,
    irregularity=0.01,
    notch=0.0,
    basophilia=1.0,
    clumping=0.5,
)
EMPTY = StainTraits(
    background=(252, 228, 204), intensity=1.0, hue=0.0, red_cells=0, pallor=0.5, blur=0.008
)

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def draw(
    seed: int = 0, cell: CellTraits = ROUND, stain: StainTraits = EMPTY, size: int = SIZE
) -> Picture:
    return draw_cell(np.random.default_rng(seed), cell, stain, size)


def middle_piece(mask: Mask) -> Mask:
    """The largest connected piece that reaches the picture's middle."""
    pieces, _ = ndimage.label(mask)
    low, high = int(0.4 * len(mask)), int(0.6 * len(mask))
    middle = pieces[low:high, low:high]
    found = np.bincount(middle[middle > 0])
    return np.asarray(ndimage.binary_fill_holes(pieces == found.argmax()))


def nucleus_of(picture: Picture) -> Mask:
    """Purple: green is swallowed, far more than blue."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return middle_piece((green < 95) & (red < 150) & (blue - green > 40))


def body_of(picture: Picture) -> Mask:
    """All that differs from the empty slide."""
    return middle_piece(picture[..., 0] < 225)


def mean_over_draws(measure, cell: CellTraits = ROUND, stain: StainTraits = EMPTY) -> float:
    return float(np.mean([measure(draw(seed, cell, stain)) for seed in range(8)]))


class TestPicture:
    @pytest.mark.parametrize("size", [64, 101, 224])
    def test_is_rgb_of_the_asked_size(self, size: int) -> None:
        picture = draw(size=size)
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8

    def test_same_rng_gives_the_same_picture(self) -> None:
        np.testing.assert_array_equal(draw(seed=4), draw(seed=4))

    def test_other_rng_gives_another_picture(self) -> None:
        assert np.any(draw(seed=4) != draw(seed=5))

    @pytest.mark.parametrize("seed", range(6))
    def test_nucleus_lies_in_the_middle(self, seed: int) -> None:
        row, column = ndimage.center_of_mass(nucleus_of(draw(seed, replace(ROUND, notch=0.2))))
        assert abs(row / SIZE - 0.5) < 0.06
        assert abs(column / SIZE - 0.5) < 0.06

    def test_largest_cell_stays_in_the_picture(self) -> None:
        huge = replace(ROUND, nucleus_radius=0.2, nucleus_share=0.3, irregularity=0.2)
        for seed in range(8):
            body = body_of(draw(seed, huge))
            assert not (body[0].any() or body[-1].any() or body[:, 0].any() or body[:, -1].any())

    def test_looks_alike_at_every_size(self) -> None:
        shares = [nucleus_of(draw(size=size)).mean() for size in (64, 128, 256)]
        assert max(shares) / min(shares) < 1.1


class TestCellTraits:
    @pytest.mark.parametrize("radius", [0.11, 0.15, 0.18])
    def test_nucleus_has_the_asked_area(self, radius: float) -> None:
        area = mean_over_draws(
            lambda picture: nucleus_of(picture).mean(), replace(ROUND, nucleus_radius=radius)
        )
        assert area == pytest.approx(np.pi * radius**2, rel=0.1)

    @pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
    def test_nucleus_fills_the_asked_share_of_the_cell(self, share: float) -> None:
        measured = mean_over_draws(
            lambda picture: nucleus_of(picture).sum() / body_of(picture).sum(),
            replace(ROUND, nucleus_share=share),
        )
        assert measured == pytest.approx(share, abs=0.08)

    def test_irregularity_moves_the_contour(self) -> None:
        def unevenness(picture: Picture) -> float:
            nucleus = nucleus_of(picture)
            rows, columns = np.nonzero(nucleus & ~ndimage.binary_erosion(nucleus))
            radius = np.hypot(rows - rows.mean(), columns - columns.mean())
            return float(radius.std() / radius.mean())

        smooth = mean_over_draws(unevenness, replace(ROUND, irregularity=0.01))
        rough = mean_over_draws(unevenness, replace(ROUND, irregularity=0.10))
        assert rough > 2 * smooth

    def test_notch_cuts_into_the_nucleus(self) -> None:
        def shortest_radius(picture: Picture) -> float:
            nucleus = nucleus_of(picture)
            rows, columns = np.nonzero(nucleus & ~ndimage.binary_erosion(nucleus))
            middle_row, middle_column = ndimage.center_of_mass(nucleus)
            radius = np.hypot(rows - middle_row, columns - middle_column)
            return float(radius.min() / radius.max())

        whole = mean_over_draws(shortest_radius)
        notched = mean_over_draws(shortest_radius, replace(ROUND, notch=0.4))
        assert notched < whole - 0.2

    def test_basophilia_deepens_the_cytoplasm(self) -> None:
        def red_of_cytoplasm(picture: Picture) -> float:
            cytoplasm = ndimage.binary_erosion(body_of(picture), iterations=3)
            cytoplasm &= ~ndimage.binary_dilation(nucleus_of(picture), iterations=3)
            return float(picture[..., 0][cytoplasm].mean())

        pale = mean_over_draws(red_of_cytoplasm, replace(ROUND, basophilia=0.5))
        deep = mean_over_draws(red_of_cytoplasm, replace(ROUND, basophilia=1.5))
        assert deep < pale - 50

    def test_clumping_makes_the_chromatin_darker_and_coarser(self) -> None:
        def coarseness(picture: Picture) -> float:
            inner = ndimage.binary_erosion(nucleus_of(picture), iterations=5)
            smooth = ndimage.uniform_filter(picture[..., 0].astype(float), 5)
            return float(smooth[inner].std())

        def brightness(picture: Picture) -> float:
            return float(picture[nucleus_of(picture)].mean())

        fine, clumped = replace(ROUND, clumping=0.1), replace(ROUND, clumping=0.9)
        assert mean_over_draws(coarseness, clumped) > 1.3 * mean_over_draws(coarseness, fine)
        assert mean_over_draws(brightness, clumped) < mean_over_draws(brightness, fine)


class TestStainTraits:
    def test_empty_slide_has_the_background_colour(self) -> None:
        picture = draw(stain=replace(EMPTY, background=(240, 220, 190)))
        assert np.median(picture[:10], axis=(0, 1)) == pytest.approx((240, 220, 190), abs=6)

    def test_intensity_darkens_the_nucleus(self) -> None:
        pale, strong = (draw(stain=replace(EMPTY, intensity=value)) for value in (0.85, 1.2))
        both = nucleus_of(pale) & nucleus_of(strong)
        assert strong[both].mean() < pale[both].mean() - 10

    def test_hue_turns_from_red_to_blue(self) -> None:
        reddish, bluish = (draw(stain=replace(EMPTY, hue=hue)) for hue in (-0.1, 0.1))
        both = nucleus_of(reddish) & nucleus_of(bluish)
        red, _, blue = (bluish[both].mean(axis=0) - reddish[both].mean(axis=0)).tolist()
        assert red < 0 < blue

    def test_red_cells_are_pinkish_grey_and_keep_off_the_lymphocyte(self) -> None:
        crowded = draw(stain=replace(EMPTY, red_cells=80, pallor=0.0))
        edge = np.ones((SIZE, SIZE), bool)
        edge[20:-20, 20:-20] = False
        covered = edge & (crowded[..., 1] < 190)
        assert covered.sum() > 0.3 * edge.sum()
        red, green, blue = np.median(crowded[covered], axis=0).tolist()
        assert red > blue > green > 110
        # The nucleus is drawn as wide as on an empty slide.
        assert nucleus_of(crowded).mean() == pytest.approx(np.pi * 0.15**2, rel=0.15)

    def test_pallor_brightens_the_middle_of_red_cells(self) -> None:
        full, hollow = (
            draw(stain=replace(EMPTY, red_cells=80, pallor=pallor)) for pallor in (0.0, 0.9)
        )
        brighter = hollow.astype(int).sum(axis=2) - full.astype(int).sum(axis=2) > 60
        assert brighter.mean() > 0.03
        # Cells stay closed: what is brighter never touches the empty slide around them.
        empty = full[..., 1] > 215
        assert not np.any(ndimage.binary_dilation(brighter) & empty)

    def test_blur_widens_edges(self) -> None:
        def steepest(blur: float) -> float:
            green = draw(stain=replace(EMPTY, blur=blur), size=224)[..., 0].astype(float)
            return float(np.abs(np.diff(green, axis=1)).max())

        assert steepest(0.02) < 0.8 * steepest(0.005)
