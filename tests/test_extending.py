"""Every change that docs/extending.md shows is made in a copy of the project, which then runs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs/extending.md").read_text()
CHANGE = re.compile(
    r"^(?:New file `(?P<new>[^`]+)`|In `(?P<path>[^`]+)`, (?P<place>before|after|instead of) "
    r"`(?P<anchor>[^\n]+)`)\n\n```\w+\n(?P<added>.*?)```$",
    re.MULTILINE | re.DOTALL,
)
SECTIONS = {
    part.partition("\n")[0]: list(CHANGE.finditer(part)) for part in PAGE.split("\n## ")[1:]
}

TINY = {
    "simulation": {
        "train_reactive": 5, "train_tumoral": 7, "test": 4, "min_cells": 2, "max_cells": 3,
        "picture_size": 64, "test_labels": "shown",
    },
    "image": {"source_size": 64, "crop": 48, "size": 40},
    "encoder": {"name": "test_efficientnet", "weights": "institute", "small_dim": 8},
    # So slow that the weights stay what they were.
    "pretext": {"name": "denoise", "epochs": 1, "early_epoch": 1, "learning_rate": 1e-9},
    "mil": {
        "embedding_width": 8, "hidden_widths": [8, 4], "epochs": 2, "batch_size": 8,
        "aggregator": "root_mean_square",
    },
    "splits": {"validation_share": 0.25, "count": 2},
}  # fmt: skip

RUN = """
import json, sys
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
import torch
project, parameters = sys.argv[1], json.loads(sys.argv[2])
bootstrap_project(project)
with KedroSession.create(project, env="demo", runtime_params=parameters) as session:
    session.run(
        pipeline_names=["simulate", "__default__", "count_cells"],
        to_outputs=["submission_small_max", "results", "cell_counts"],
    )
from lymphocytosis.mil.aggregators import AGGREGATORS
instances, bag = torch.randn(7, 3), torch.tensor([0, 0, 0, 1, 1, 1, 1])
pooled = AGGREGATORS["root_mean_square"](3)(instances, bag, 2)
expected = torch.stack([instances[bag == b].pow(2).mean(0).sqrt() for b in (0, 1)])
torch.testing.assert_close(pooled, expected, rtol=1e-3, atol=1e-3)
"""


def make(change, project):
    """Make one change of the page in a project."""
    if change["new"]:
        path = project / change["new"]
        path.parent.mkdir(exist_ok=True)
        path.write_text(change["added"])
        return
    path, anchor, added = project / change["path"], change["anchor"] + "\n", change["added"]
    text = path.read_text()
    assert text.count("\n" + anchor) == 1, f"{change['path']} has no single line {anchor!r}"
    form = {"before": added + anchor, "after": anchor + added, "instead of": added}
    path.write_text(text.replace("\n" + anchor, "\n" + form[change["place"]]))


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """The outputs of a run of the extended copy."""
    folder = tmp_path_factory.mktemp("extended")
    project = folder / "project"
    for part in ("src", "conf"):
        shutil.copytree(
            PROJECT / part, project / part, ignore=shutil.ignore_patterns("*.egg-info", "local")
        )
    shutil.copy(PROJECT / "pyproject.toml", project)
    for changes in SECTIONS.values():
        for change in changes:
            make(change, project)
    given = timm.create_model("test_efficientnet", pretrained=False, num_classes=0)
    save_file(given.state_dict(), folder / "test_efficientnet.safetensors")
    places = {"cohort_dir": str(folder / "cohort"), "workspace": str(folder / "out")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, project, json.dumps(TINY | places)],
        env={"PYTHONPATH": str(project / "src"), "INSTITUTE_WEIGHTS": str(folder)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "out", given


def newest(folder, name):
    (path,) = folder.glob(f"0*/{name}/*/{name}")
    return path


@pytest.mark.parametrize("title", SECTIONS)
def test_it_takes_fewer_than_twenty_lines_in_at_most_two_files(title):
    changes = SECTIONS[title]
    lines = [line for change in changes for line in change["added"].splitlines() if line.strip()]
    assert 0 < len(lines) < 20
    assert len({change["new"] or change["path"] for change in changes}) <= 2


def test_five_things_are_shown():
    assert list(SECTIONS) == [
        "An aggregator", "A decision rule", "A pipeline", "A pretext task",
        "A source of encoder weights",
    ]  # fmt: skip


def test_the_rule_decides_is_scored_and_is_submitted(extended):
    outputs, _ = extended
    statistics = pd.read_parquet(newest(outputs, "small_statistics.parquet"))
    expected = statistics.set_index("patient_id")["max"].ge(0.5).astype(int).to_dict()
    submission = pd.read_csv(newest(outputs, "submission_small_max.csv"))
    assert submission.set_index("ID")["Predicted"].to_dict() == expected
    assert {"small MAX", "large MAX"} < set(pd.read_csv(newest(outputs, "results.csv"))["method"])


def test_the_task_trains_an_encoder_that_begins_with_the_institutes_weights(extended):
    outputs, given = extended
    trained = torch.load(newest(outputs, "autoencoder.pt"), weights_only=True)
    assert trained["parameters"]["pretext"]["name"] == "denoise"
    first = next(iter(given.parameters()))
    (found,) = (
        value for name, value in trained["state_dict"].items() if name.endswith("conv_stem.weight")
    )
    torch.testing.assert_close(found, first.detach(), rtol=0, atol=1e-6)


def test_the_pipeline_counts(extended):
    outputs, _ = extended
    patients = pd.read_parquet(newest(outputs, "patients.parquet"))
    counts = pd.read_csv(newest(outputs, "cell_counts.csv"))
    assert counts["patients"].sum() == len(patients) == 16
    assert counts["cells"].sum() == patients["cell_count"].sum()
