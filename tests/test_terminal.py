import os
import subprocess
import sys
from pathlib import Path

import pytest

from lymphocytosis.terminal import harmless

PROJECT = Path(__file__).parents[1]


class TestHarmless:
    @pytest.mark.parametrize("text", ["", "Ä 7", "a\tb\nc", "[red]x", "😀", "e\u0301", "\\"])
    def test_what_can_be_printed_stays(self, text):
        assert harmless(text) == text

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
            ("a\rb\x00\x7f", r"a\rb\x00\x7f"),
            ("\x9b31m", r"\x9b31m"),
            ("\u202egpj.exe", r"\u202egpj.exe"),
            ("\udcff", r"\udcff"),
        ],
    )
    def test_what_a_terminal_would_obey_is_written_out(self, text, shown):
        assert harmless(text) == shown


class TestTheProjectsLog:
    """As conf/logging.yml sets it up, Kedro's handler shows every name, and obeys none."""

    @pytest.fixture
    def shown(self):
        """A function that returns what the log shows of a message with its argument."""

        def log(name, message, argument, **more):
            script = (
                "import logging; from kedro.framework.project import LOGGING\n"
                "from lymphocytosis.terminal import make_log_harmless\n"
                "make_log_harmless()\n"
                "logging.getLogger('kedro').setLevel('INFO')\n"
                f"logging.getLogger({name!r}).info({message!r}, {argument!r}, **{more!r})"
            )
            done = subprocess.run(
                [sys.executable, "-c", script],
                cwd=PROJECT,
                capture_output=True,
                text=True,
                check=True,
                env=os.environ | {"COLUMNS": "200"},
            )
            return done.stdout + done.stderr

        return log

    @pytest.mark.parametrize("patient", ["P[", "[red]x", "b]1.jpg", "[/]", "[link=http://x]"])
    def test_markup_in_a_name_is_text(self, shown, patient):
        assert f"Patients {patient} share" in shown("lymphocytosis", "Patients %s share", patient)

    def test_a_command_to_the_terminal_is_written_out(self, shown):
        told = shown("lymphocytosis", "Patients %s share", "\x1b[2JP1")
        assert r"Patients \x1b[2JP1 share" in told
        assert "\x1b" not in told

    def test_kedros_own_messages_show_no_markup(self, shown):
        told = shown("kedro", "Loading %s", "patients", extra={"rich_format": ["dark_orange"]})
        assert "Loading patients" in told
        assert "dark_orange" not in told


def test_a_run_with_names_that_are_markup_or_commands_shows_them_as_text(
    write_cohort, picture, tmp_path
):
    names = ["P[", "[red]x", "\x1b[2J"]
    files = {"b]1.jpg": picture()}
    cohort = write_cohort({name: {"files": files, "GENDER": "?"} for name in names})
    places = f"cohort_dir={cohort},workspace={tmp_path},image.source_size=40,image.crop=40"
    command = [Path(sys.executable).with_name("kedro"), "run", "--pipelines=ingest"]
    done = subprocess.run(
        [*command, f"--params={places},image.size=40"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "1000"},
    )
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert r"values are neither F nor M, taken as unknown: \x1b[2J, P[, [red]x" in shown
    assert r"trainset/P[/b]1.jpg, trainset/[red]x/b]1.jpg" in shown
    assert "\x1b" not in shown
    # And where a run is refused.
    done = subprocess.run(
        [*command, f"--params={places},image.size=40,image.source_size=41,image.other_size=refuse"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert r"Error: trainset/\x1b[2J/b]1.jpg: 40x40 pixels, not 41x41" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
