"""A short form of `make torture`: real runs, really killed."""

import re
import subprocess
import sys
from pathlib import Path

TORTURE = Path(__file__).with_name("torture.py")


def test_killed_runs_end_with_the_same_files_as_an_undisturbed_one():
    # Three kills take some seconds; `make torture` kills a hundred runs, of `evaluate` too. These
    # come where something is kept: in a pretraining, after a shard, amid a suite of classifiers.
    done = subprocess.run(
        [
            sys.executable, TORTURE, "--test-patients=6",
            "--at=pretraining: epoch 3", r"--at=embeddings/shard-0\.parquet",
            r"--at=large_classifiers/split-\d\.pt",
            "--run=--pipelines=simulate,ingest,ssl_pretrain,embed,classify "
            "--to-outputs=large_classifiers,small_classifiers",
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills survived over 1 finished runs" in done.stdout
    assert "differences: 0 in" in done.stdout
    assert "faults in all: 0" in done.stdout
    assert "saved and yet repeated: 0 epochs, 0 shards, 0 models, 0 folds" in done.stdout
    found = re.search(r"reused by a later run: (\d+) epochs, (\d+) shards, (\d+) mod", done.stdout)
    assert found, done.stdout
    epochs, shards, models = map(int, found.groups())
    # The second run goes on after epoch 2 or 3 of 4, the third and the last find all of them.
    assert epochs in (10, 11)
    assert shards == 2  # of one, by the third and the last
    assert models > 0  # how many were finished at the moment of the kill differs
