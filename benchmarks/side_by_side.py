"""Timing two ways of doing one thing: turn by turn in one process, compared turn by turn."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """One line of the table of ratios.

    Attributes:
        path: what was measured.
        against: what it was measured against, with its version where it is another's.
        goal: what the ratio should be, as the table shows it, such as "at least 0.97".
        ratios: one for each turn; their median is the result.
        note: what the reader should know besides.
    """

    path: str
    against: str
    goal: str
    ratios: list[float]
    note: str = ""

    def line(self) -> str:
        """Return the row in Markdown: median, and the middle half of the turns."""
        ratio = f"**{statistics.median(self.ratios):.2f}**"
        if len(self.ratios) > 1:
            # Inclusive: the turns are all there is, so no quarter lies outside them.
            low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
            ratio += f" ({low:.2f} to {high:.2f})"
        return f"| {self.path} | {self.against} | {ratio} | {self.goal} | {self.note} |"


def time_in_turn(sides: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Time several functions, one after the other, again and again.

    Args:
        sides: functions by name. Each is called once before, so that caches are warm.
        turns: how often each is timed.

    Returns:
        Seconds of every turn, by name.
    """
    for function in sides.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, function in sides.items():
            start = time.perf_counter()
            function()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def divide(above: list[float], below: list[float]) -> list[float]:
    """Divide the times of two sides, turn by turn."""
    return [a / b for a, b in zip(above, below, strict=True)]
