"""How Kedro starts, and what it keeps between nodes: nothing imported or copied without need."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import MemoryDataset

PROJECT = Path(__file__).parents[1]
# Runs Kedro's command line to the start of its first node, then tells which libraries it imported.
KEDRO = """
import sys
from kedro.framework.cli import main
from kedro.runner import task

def stop(self):
    raise SystemExit

task.Task.execute = stop
try:
    main()
finally:
    heavy = "torch", "timm", "sklearn", "scipy", "matplotlib", "pandas", "lymphocytosis"
    print("imported:", *(name for name in heavy if name in sys.modules))
"""


@pytest.fixture
def imported():
    """A function that returns what a command of Kedro's imports."""

    def run(*arguments):
        command = [sys.executable, "-c", KEDRO, *arguments]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        last = done.stdout.splitlines()[-1]
        assert last.startswith("imported:"), done.stdout + done.stderr
        return set(last.split()[1:])

    return run


class TestImports:
    def test_listing_pipelines_needs_no_library(self, imported):
        assert imported("registry", "list") == {"lymphocytosis"}

    def test_ingest_starts_without_torch_and_matplotlib(self, imported, write_cohort, tmp_path):
        places = f"cohort_dir={write_cohort({'P1': {}})},workspace={tmp_path}"
        found = imported("run", "--pipelines=ingest", f"--params={places}")
        assert found == {"lymphocytosis", "pandas"}

    def test_the_best_recipe_starts_without_torch(self, imported, write_cohort, tmp_path):
        places = f"cohort_dir={write_cohort({'P1': {}})},workspace={tmp_path}"
        found = imported("run", "--env=best", f"--params={places}")
        assert found == {"lymphocytosis", "pandas"}

    def test_the_demo_starts_without_torch_and_matplotlib(self, imported, tmp_path):
        places = f"cohort_dir={tmp_path}/cohort,workspace={tmp_path}/out"
        found = imported("run", "--env=demo", f"--params={places}")
        assert found == {"lymphocytosis", "pandas"}


def test_what_stays_in_memory_between_nodes_is_handed_on_as_it_is(tmp_path):
    bootstrap_project(PROJECT)
    places = {"cohort_dir": str(tmp_path), "workspace": str(tmp_path)}
    with KedroSession.create(PROJECT, env="base", runtime_params=places) as session:
        catalog = session.load_context().catalog
    entries = {entry for made in pipelines.values() for entry in made.datasets()}
    in_memory = set()
    for entry in entries:
        dataset = catalog.get(entry)
        assert dataset is not None, f"{entry} is not in the catalog, and would be copied"
        if isinstance(dataset, MemoryDataset) and not entry.startswith("param"):
            in_memory.add(entry)
            data = {"array": np.zeros(3)}
            dataset.save(data)
            assert dataset.load() is data, entry
    assert "large_embeddings" in in_memory
