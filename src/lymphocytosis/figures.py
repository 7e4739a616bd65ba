"""How figures look: one style sheet, and colours that mean the same in all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from textwrap import wrap
from threading import RLock
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("figures.mplstyle")
BLUE, ORANGE, DARK, GREY = "#0072b2", "#e69f00", "#404040", "#8c8c8c"
# Colour and marker of each class, unknown ones last.
CLASSES = {"reactive": (BLUE, "o"), "tumoral": (ORANGE, "^"), "not known": (GREY, ".")}

Given = ParamSpec("Given")
# Matplotlib's settings are those of all threads.
_LOCK = RLock()


@contextmanager
def style() -> Iterator[None]:
    """Hold the project's style: for drawing, and for saving, since ticks are made only then.

    Yields:
        Once. Other threads wait until this one is done; then the settings are as before.
    """
    from matplotlib import rc_context

    with _LOCK, rc_context(fname=STYLE):
        yield


def in_style(draw: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Make a function draw its figure in the project's style.

    Args:
        draw: returns a figure.

    Returns:
        The same function.
    """

    @wraps(draw)
    def styled(*args: Given.args, **kwargs: Given.kwargs) -> Figure:
        with style():
            return draw(*args, **kwargs)

    return styled


def entitle(figure: Figure, title: str, note: str) -> None:
    """Write a figure's title, and below the figure how to read it.

    Args:
        figure: the figure.
        title: what it shows.
        note: of whom, how many, and what lines and bars are; broken into lines here.
    """
    figure.suptitle(title, x=0.01, ha="left")
    letters = int(16 * figure.get_figwidth())
    figure.supxlabel("\n".join(wrap(note, letters)), x=0.01, ha="left")
