"""Benchmarks that nothing else runs: that they still can, with tiny sizes and without timing."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import cold_start, memory
from lymphocytosis.datasets.image_store import ImageStoreDataset

PROJECT = Path(__file__).parents[1]


@pytest.mark.parametrize("task", ["_embed", "_pretrain"])
def test_memorys_tasks_run(tmp_path, task):
    memory._write_store(tmp_path / "store", 300)
    store = ImageStoreDataset(filepath=str(tmp_path / "store")).load()
    cells = pd.read_parquet(tmp_path / "store/cells.parquet")
    if task == "_embed":
        memory._embed(store, tmp_path / "embeddings.parquet")
        assert len(pd.read_parquet(tmp_path / "embeddings.parquet")) == 300
    else:
        memory._pretrain(store, cells)


def test_a_cold_start_comes_to_the_first_node(tmp_path):
    places = cold_start.places(tmp_path)
    command = [sys.executable, "-c", cold_start.TO_FIRST_NODE, "run", "--pipelines=ingest", places]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
