"""The views of a picture that are embedded (paper, section 2.1.2)."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from lymphocytosis.parameters import View

# Axes of a batch (n, H, W, 3) that each view reverses.
_FLIPPED_AXES: dict[View, tuple[int, ...]] = {
    "original": (),
    "horizontal": (2,),
    "vertical": (1,),
}


def view_of(pixels: npt.NDArray[Any], view: View) -> npt.NDArray[Any]:
    """Show a batch of pictures in one view; exact, no pixel value changes.

    Args:
        pixels: (n, H, W, 3), any dtype.
        view: original; horizontal (left and right are swapped); vertical (top and bottom are).

    Returns:
        (n, H, W, 3), the same dtype; a NumPy view, not a copy.
    """
    backwards = slice(None, None, -1)
    index = [backwards if axis in _FLIPPED_AXES[view] else slice(None) for axis in range(4)]
    return pixels[tuple(index)]


def view_to_compare(views: Sequence[str]) -> str:
    """Choose the view in which patients are compared with training patients.

    Args:
        views: the views that are embedded.

    Returns:
        The original where it is embedded, else the first.
    """
    return "original" if "original" in views else views[0]
