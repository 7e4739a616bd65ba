"""A short form of `make fuzz`: damaged pictures and tables, through `kedro run`."""

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).with_name("fuzz.py")


def test_damaged_input_ends_in_a_right_result_or_in_a_refusal():
    # `make fuzz` feeds ten thousand pictures and a thousand tables.
    done = subprocess.run(
        [sys.executable, FUZZ, "--pictures=250", "--tables=6", "--seed=1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "faults: 0" in done.stdout
    assert "6 tables" in done.stdout
