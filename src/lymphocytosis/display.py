"""The progress of long work: at the bottom of a terminal, elsewhere in lines of the log."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from threading import RLock
from typing import TypeVar

from rich import get_console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

# Seconds between two lines of the log: a tenth of the time since the work began, within limits.
_SHORTEST, _LONGEST = 10.0, 300.0
# Seconds before a rate is told: the first batches are slow.
_WARM = 2.0


class Work:
    """A work whose progress is shown."""

    def __init__(self, title: str, total: int, unit: str, note: Callable[[int], str]) -> None:
        """Begin; see `working`."""
        self.title, self.total, self.unit = title, total, unit
        self.begun = time.monotonic()
        self.done = 0
        self._before = 0
        self._note = note

    def advance(self, count: int = 1) -> None:
        """Tell that some more is done.

        Args:
            count: how many of the units.
        """
        with _SCREEN.lock:
            self.done += count
        _SCREEN.tell()

    def resume(self, count: int = 1) -> None:
        """Tell that some was done before this run, so that it does not count for the rate.

        Args:
            count: how many of the units.
        """
        with _SCREEN.lock:
            self.done += count
            self._before += count

    def ready(self) -> None:
        """Tell that preparations have ended, so that their time does not count for the rate."""
        self.begun = time.monotonic()

    @property
    def here(self) -> int:
        """How many units this run did itself."""
        return self.done - self._before

    def heading(self) -> str:
        """Say what is at work."""
        note = self._note(self.done)
        return f"{self.title}: {note}" if note else self.title

    def figures(self, unit: str) -> list[str]:
        """Say how much is done, how fast, and how long the rest will take.

        Args:
            unit: what to call the units in the rate; empty where there is no room.

        Returns:
            One to three texts.
        """
        share = [f"{self.done / max(self.total, 1):.0%}"]
        seconds = time.monotonic() - self.begun
        if not self.here or seconds < _WARM:
            return share
        rate = self.here / seconds
        left = (self.total - self.done) / rate
        return [*share, _rate(rate, unit), f"about {duration(left)} left"]


@contextmanager
def working(
    title: str, total: int, unit: str, note: Callable[[int], str] = lambda _: ""
) -> Iterator[Work]:
    """Show the progress of a work, until the body ends. Works may be nested, and run side by side.

    Nothing is shown of a process of its own within a work, unless it asked for it.

    Args:
        title: what is done, such as "embedding".
        total: how many units there are, those of an earlier run included.
        unit: of what, in plural.
        note: from the units done, what to add to the title: "epoch 3 of 90".

    Yields:
        The work, to be told of what is done.
    """
    begun = time.monotonic()
    work = Work(title, total, unit, note)
    if parent_process() is not None and not _SCREEN.asked:
        yield work
        return
    _SCREEN.add(work)
    try:
        yield work
    finally:
        _SCREEN.remove(work)
    if (seconds := time.monotonic() - begun) >= _SHORTEST:
        logger.info("%s: %s %s in %s", title, f"{work.here:,}", unit, duration(seconds))


def followed(items: Iterable[Item], title: str, total: int, unit: str) -> Iterator[Item]:
    """Show the progress through some items.

    Args:
        items: each is a unit.
        title: as in `working`, like the next two.
        total: likewise.
        unit: likewise.

    Yields:
        The items.
    """
    with working(title, total, unit) as work:
        for item in items:
            yield item
            work.advance()


def numbered(name: str, count: int, each: int = 1) -> Callable[[int], str]:
    """Number the part at work, as the note of a work.

    Args:
        name: of a part, such as "epoch".
        count: of the parts.
        each: units in a part.

    Returns:
        From the units done, such as "epoch 3 of 90".
    """
    return lambda done: f"{name} {min(done // each + 1, count)} of {count}"


def show_here() -> None:
    """Show the works of this process, though it is another one's child."""
    _SCREEN.asked = True


def stop() -> None:
    """Show nothing any more: works of a run that failed live as long as its traceback."""
    _SCREEN.clear()


def duration(seconds: float) -> str:
    """Say a time in the one or two units that a reader wants.

    Args:
        seconds: 0 or more.

    Returns:
        Such as 40 s, 4 min, 2 h 10 min.
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _rate(per_second: float, unit: str) -> str:
    per, seconds = next(
        (each for each in (("s", 1), ("min", 60)) if per_second * each[1] >= 1), ("h", 3600)
    )
    rate = per_second * seconds
    return f"{rate:,.{0 if rate >= 10 else 1}f} {unit}".rstrip() + f"/{per}"


class _Screen:
    """The one place where the works of this process are shown."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.asked = False
        self._works: list[Work] = []
        self._live: Live | None = None
        self._next = 0.0

    def add(self, work: Work) -> None:
        with self.lock:
            self._works.append(work)
            if len(self._works) > 1:
                return
            self._next = work.begun + _SHORTEST
            console = get_console()
            # rich takes FORCE_COLOR for a terminal, and wants widgets in a notebook.
            if console.is_interactive and not console.is_jupyter and console.file.isatty():
                self._live = Live(
                    console=console,
                    get_renderable=self._table,
                    refresh_per_second=2,
                    transient=True,
                )
                self._live.start()
                console.show_cursor()  # a killed run could not bring it back

    def remove(self, *works: Work) -> None:
        with self.lock:
            self._works = [work for work in self._works if work not in works]
            live = self._live
            if self._works or live is None:
                return
            self._live = None
        # Its thread ends first, and that thread may wait for the lock.
        live.stop()

    def clear(self) -> None:
        self.remove(*self._works)

    def tell(self) -> None:
        """Write a line to the log, if it is time for one and no terminal shows the same."""
        now = time.monotonic()
        if now < self._next or self._live is not None:
            return
        with self.lock:
            if now < self._next or not self._works:
                return
            pause = (now - self._works[0].begun) / 10
            self._next = now + min(max(pause, _SHORTEST), _LONGEST)
            told = [", ".join([work.heading(), *work.figures(work.unit)]) for work in self._works]
        logger.info("; ".join(told))

    def _table(self) -> Table:
        width = get_console().width // 10
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(width=width)
        table.add_column(no_wrap=True, justify="right")
        for work in list(self._works):
            bar = ProgressBar(total=max(work.total, 1), completed=work.done, width=width)
            table.add_row(Text(work.heading()), bar, Text("  ".join(work.figures(""))))
        return table


_SCREEN = _Screen()
