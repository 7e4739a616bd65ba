import io
import logging
import os
import pty
import re
import subprocess
import sys
from itertools import pairwise

import pytest

from lymphocytosis import display
from lymphocytosis.display import duration, followed, numbered, stop, working

# Runs in a terminal of its own: says what the log says above the bars, and ends as it is told to.
AT_WORK = """
import logging, sys, time
from kedro.framework.project import LOGGING
from lymphocytosis import display
from lymphocytosis.display import numbered, working
display._WARM = 0
with working("outer", 4, "parts", numbered("part", 4)) as outer:
    outer.advance()
    with working("inner", 100, "pictures") as inner:
        inner.advance(50)
        logging.getLogger("lymphocytosis").info("a line of the log")
        time.sleep(0.6)
        inner.advance(1)
        time.sleep(0.6)
        {end}
print("the end")
"""


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets forward; works begin at 1000."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(display, "time", clock)
    return clock


@pytest.fixture
def told(caplog):
    """The lines that are told: its `messages`."""
    caplog.set_level(logging.INFO)
    return caplog


class TestLines:
    def test_say_how_far_how_fast_and_how_long(self, clock, told):
        with working("evaluate", 30, "folds", lambda done: f"fold {done + 1} of 15, large") as work:
            for _ in range(6):
                clock.now += 15
                work.advance()
        assert (
            told.messages[5]
            == "evaluate: fold 7 of 15, large, 20%, 4.0 folds/min, about 6 min left"
        )

    def test_come_in_growing_intervals(self, clock, told):
        came = []
        with working("work", 10**6, "steps") as work:
            for second in range(1, 20_001):
                clock.now = 1000.0 + second
                work.advance()
                if len(told.messages) > len(came):
                    came.append(second)
        pauses = [after - before for before, after in pairwise(came)]
        assert came[0] == 10
        assert pauses[0] == 10
        assert pauses == sorted(pauses)
        assert pauses[-1] == 300
        assert told.messages[-1] == "work: 20,000 steps in 5 h 33 min"

    def test_of_a_short_work_there_are_none(self, clock, told):
        assert list(followed("abc", "work", 3, "letters")) == ["a", "b", "c"]
        assert told.messages == []

    def test_what_an_earlier_run_did_counts_for_the_share_alone(self, clock, told):
        with working("work", 100, "steps") as work:
            work.resume(50)
            clock.now += 10
            work.advance(10)
        assert told.messages[0] == "work, 60%, 1.0 steps/s, about 40 s left"

    def test_preparations_do_not_count_for_the_rate(self, clock, told):
        with working("work", 100, "steps") as work:
            clock.now += 60
            work.ready()
            clock.now += 5
            work.advance(10)
        assert told.messages == [
            "work, 10%, 2.0 steps/s, about 45 s left",
            "work: 10 steps in 65 s",
        ]

    def test_name_the_work_around(self, clock, told):
        with (
            working("evaluate", 2, "folds", numbered("fold", 2)),
            working("pretraining", 8, "epochs") as inner,
        ):
            clock.now += 10
            inner.advance(4)
        assert told.messages[0] == (
            "evaluate: fold 1 of 2, 0%; pretraining, 50%, 24 epochs/min, about 10 s left"
        )

    def test_a_work_of_nothing_is_no_division(self, clock, told):
        with working("work", 0, "steps") as work:
            clock.now += 20
            work.advance(0)
        assert told.messages[0] == "work, 0%"

    def test_end_with_a_work_that_fails(self, clock, told):
        with pytest.raises(KeyError), working("work", 2, "steps"):
            clock.now += 20
            raise KeyError
        assert told.messages == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5900, "98 min"), (7800, "2 h 10 min")],
)
def test_a_duration_has_the_units_that_a_reader_wants(seconds, text):
    assert duration(seconds) == text


def test_parts_are_numbered_to_the_last():
    assert [numbered("epoch", 2, each=3)(done) for done in (0, 2, 3, 6)] == [
        "epoch 1 of 2", "epoch 1 of 2", "epoch 2 of 2", "epoch 2 of 2",
    ]  # fmt: skip


def in_a_terminal(end, columns):
    """What a terminal is sent, and what it shows at last, as lines."""
    ours, its = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "24", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK.format(end=end)],
        stdout=its,
        stderr=its,
        env={k: v for k, v in os.environ.items() if k != "NO_COLOR"} | size,
    )
    os.close(its)
    sent = b""
    try:
        while part := os.read(ours, 65536):
            sent += part
    except OSError:  # the end, on Linux
        pass
    process.wait()
    return sent.decode()


def drawn(sent):
    """The lines that were drawn at any time, without colours."""
    return re.split(r"[\r\n]+|\x1b\[2K|\x1b\[1A", re.sub(r"\x1b\[[\d;?]*[mhl]", "", sent))


class TestInATerminal:
    @pytest.mark.parametrize("columns", [80, 120])
    def test_bars_are_drawn_below_the_log_and_go(self, columns):
        sent = in_a_terminal("pass", columns)
        lines = drawn(sent)
        assert max(map(len, lines)) <= columns
        assert any(
            re.match(r"outer: part 2 of 4 .* 25%  \S+  about \d s left$", line.rstrip())
            for line in lines
        )
        left = [line for line in lines if line.startswith("inner")]
        assert re.search(r"inner .*51%  \d+/s  about \d s left$", left[-1].rstrip())
        assert any("a line of the log" in line for line in lines)
        # What was drawn last is erased, and the cursor is there.
        assert sent.rstrip().endswith("the end")
        assert sent.rindex("\x1b[2K") > sent.rindex("inner")
        assert sent.rfind("\x1b[?25h") > sent.rfind("\x1b[?25l")

    def test_a_killed_run_leaves_the_cursor(self):
        sent = in_a_terminal("import os; os.kill(os.getpid(), 9)", 80)
        assert sent.index("\x1b[?25h") > sent.index("\x1b[?25l")
        assert sent.count("\x1b[?25h") == sent.count("\x1b[?25l")


def test_a_run_that_failed_shows_nothing_any_more(clock, told):
    items = followed(iter("ab"), "work", 2, "letters")
    next(items)
    stop()
    clock.now += 60
    assert list(items) == ["b"]
    with working("next", 2, "steps") as work:
        clock.now += 10
        work.advance()
    assert told.messages[-2].startswith("next, 50%")


def test_nothing_is_drawn_into_a_file_that_asks_for_colours(monkeypatch):
    file = io.StringIO()
    console = display.get_console()
    monkeypatch.setattr(console, "_force_terminal", True)
    monkeypatch.setattr(console, "file", file)
    with working("work", 2, "steps") as work:
        work.advance()
    assert file.getvalue() == ""
