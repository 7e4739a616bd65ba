"""The folder data/: Kedro's layers, of which git keeps the frame and none of the contents."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
LAYERS = sorted(path.name for path in (PROJECT / "data").glob("0*"))


def test_each_layer_of_the_catalog_has_its_folder_and_its_line_in_the_readme():
    catalog = yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text())
    places = [entry["filepath"] for entry in catalog.values() if "filepath" in entry]
    used = {place.split("/")[1] for place in places if place.startswith("${_workspace}/")}
    assert sorted(used | {"01_raw"}) == LAYERS
    readme = (PROJECT / "data/README.md").read_text()
    assert [line.split("`")[1] for line in readme.splitlines() if line.startswith("| `")] == [
        f"{layer}/" for layer in LAYERS
    ]


@pytest.mark.skipif(
    not (PROJECT / ".git").exists() or not shutil.which("git"), reason="not a clone"
)
def test_git_takes_nothing_of_a_cohort_or_a_run():
    runs = [f"{folder}{layer}/x/y.csv" for folder in ("", "demo/") for layer in LAYERS]
    made = ["01_raw/cohort/.gitkeep", "08_reporting/x.csv", ".unfinished/x", ".run.lock", "a.csv"]
    paths = [f"data/{path}" for path in [*runs, *made]]
    asked = ["git", "check-ignore", "--no-index", *paths]
    ignored = subprocess.run(asked, cwd=PROJECT, capture_output=True, text=True).stdout.split()
    assert ignored == paths
    kept = subprocess.run(["git", "ls-files", "data"], cwd=PROJECT, capture_output=True, text=True)
    assert kept.stdout.split() == [
        *(f"data/{layer}/.gitkeep" for layer in LAYERS),
        "data/README.md",
    ]
