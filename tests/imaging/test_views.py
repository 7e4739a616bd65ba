import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lymphocytosis.imaging.views import view_of

VIEWS = ("original", "horizontal", "vertical")

batches = hnp.arrays(
    st.sampled_from([np.uint8, np.float32]),
    st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(1, 6), st.just(3)),
    elements=st.integers(0, 255),
)


def mirrored(pixels, view):
    """The view by its definition, pixel by pixel."""
    n, height, width, _ = pixels.shape
    shown = np.empty_like(pixels)
    for k in range(n):
        for i in range(height):
            for j in range(width):
                row = height - 1 - i if view == "vertical" else i
                column = width - 1 - j if view == "horizontal" else j
                shown[k, i, j] = pixels[k, row, column]
    return shown


@pytest.mark.parametrize("view", VIEWS)
class TestViewOf:
    @settings(max_examples=30)
    @given(batches)
    def test_is_its_definition(self, view, pixels):
        shown = view_of(pixels, view)
        np.testing.assert_array_equal(shown, mirrored(pixels, view))
        assert shown.dtype == pixels.dtype

    @settings(max_examples=30)
    @given(batches)
    def test_twice_is_the_picture_itself(self, view, pixels):
        np.testing.assert_array_equal(view_of(view_of(pixels, view), view), pixels)

    def test_every_pixel_is_kept_once_and_in_its_own_picture(self, view):
        numbered = np.arange(2 * 5 * 4 * 3).reshape(2, 5, 4, 3)
        shown = view_of(numbered, view)
        for before, after in zip(numbered, shown, strict=True):
            assert sorted(after.ravel()) == sorted(before.ravel())
            # A pixel's three channels move together, in their order.
            assert (np.diff(after, axis=-1) == 1).all()

    def test_copies_nothing(self, view):
        pixels = np.zeros((2, 5, 4, 3), dtype=np.uint8)
        assert np.shares_memory(view_of(pixels, view), pixels)


def test_the_views_of_a_picture_differ_from_one_another():
    pixels = np.arange(48).reshape(1, 4, 4, 3)
    assert len({view_of(pixels, view).tobytes() for view in VIEWS}) == 3
