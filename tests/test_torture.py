"""A short form of `make torture`: real runs, really killed."""

import subprocess
import sys
from pathlib import Path

TORTURE = Path(__file__).with_name("torture.py")


def test_killed_runs_end_with_the_very_files_of_an_undisturbed_one():
    # Three kills take some seconds; `make torture` kills a hundred runs, of `evaluate` too.
    done = subprocess.run(
        [
            sys.executable, TORTURE, "--kills=3", "--seed=2", "--test-patients=6",
            "--run=--pipelines=simulate,ingest,ssl_pretrain,embed,classify "
            "--to-outputs=large_classifiers,small_classifiers",
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills survived" in done.stdout
    assert "differences: 0" in done.stdout
