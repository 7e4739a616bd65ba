import shlex
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset, Version
from kedro.pipeline import node, pipeline

from lymphocytosis.datasets.whole import CSVDataset, TextDataset
from lymphocytosis.decision.results import tabulate
from lymphocytosis.hooks.summary import summarise

RUN = "2026-05-05T12.00.00.000Z"


@pytest.fixture
def results():
    """A table of results as `tabulate` makes it: one patient of each class, both decided right."""
    patients = pd.DataFrame(
        {"patient_id": ["A", "B"], "subset": "train", "label": pd.array([0, 1], dtype="Int8")}
    )
    decided = {"small AVG": pd.DataFrame({"patient_id": ["A", "B"], "decision": [0, 1]})}
    return tabulate(patients, decided, decided, chosen=True)


@pytest.fixture
def ending(run_params, tmp_path, results):
    """A function that returns what is said at the end of a run that made some entries, as lines."""

    def say(*made, seconds=75, **changes):
        version = Version(RUN, RUN)
        datasets = {
            "results": CSVDataset(filepath=str(tmp_path / "out/results.csv"), version=version),
            "evaluation": MemoryDataset("the scores"),
            "evaluation_summary": TextDataset(
                filepath=str(tmp_path / "out/evaluation_summary.md"), version=version
            ),
        }
        if not Path(datasets["results"]._filepath).exists():
            datasets["results"].save(results)
        catalog = DataCatalog(datasets)
        nodes = [node(lambda: 0, None, entry, name=f"makes_{entry}") for entry in made]
        given = run_params | {"run_id": RUN} | changes
        return summarise(
            given, pipeline(nodes), catalog, str(tmp_path / "out"), seconds
        ).splitlines()

    return say


def test_it_says_the_figures_the_time_and_where_they_are(ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ending("results", "large_avg")
    assert "out of fold: 1 reactive, 1 tumoral" in lines
    assert any(line.startswith("  small AVG                  1.000 (") for line in lines)
    assert "Done in 75 s. To look at:" in lines
    assert f"  out/results.csv/{RUN}/results.csv" in lines
    assert f"All it made: under out, in folders named {RUN}" in lines


def test_lines_but_for_paths_and_commands_fit_80_columns(ending):
    lines = ending("results")
    assert max(len(line) for line in lines if "/" not in line and "kedro" not in line) <= 80


def test_a_place_elsewhere_is_given_in_full(ending, tmp_path):
    assert f"  {tmp_path}/out/results.csv/{RUN}/results.csv" in ending("results")


class TestNext:
    def test_is_what_the_last_made_is_for(self, ending):
        assert [line for line in ending("results") if "kedro run" in line] == [
            "    kedro run --pipelines=evaluate",
            "    kedro run --pipelines=bundle",
        ]
        (line,) = [line for line in ending("embeddings", "patients") if "kedro run" in line]
        assert line == "    kedro run --pipelines=classify,ensemble"

    def test_a_command_has_the_options_of_this_run(self, ending):
        encoder = {"name": "resnet18", "small_dim": 8, "pool": ["mean", "spread"]}
        given = {"workspace": "my run", "encoder": encoder}
        (line,) = [
            line
            for line in ending("embeddings", env="demo", runtime_params=given)
            if "kedro run" in line
        ]
        assert shlex.split(line) == [
            "kedro", "run", "--env=demo", "--pipelines=classify,ensemble",
            "--params=workspace=my run,encoder.name=resnet18,encoder.small_dim=8,"
            "encoder.pool=mean+spread",
        ]  # fmt: skip

    def test_after_ingest_the_best_recipe_is_one_way(self, ending):
        given = {"runtime_params": {"workspace": "mine"}}
        assert "    kedro run --env=best --params=workspace=mine" in ending("patients", **given)
        elsewhere = ending("patients", env="demo", **given)
        assert not any("--env=best" in line for line in elsewhere)

    def test_after_other_work_there_is_none(self, ending):
        assert "Next:" not in ending("contact_sheet")

    def test_after_an_evaluation_alone_the_classifiers_come_first(self, ending, monkeypatch):
        monkeypatch.setattr("lymphocytosis.decision.summary.outline", str)
        lines = ending("evaluation")
        assert "the scores" in lines
        assert "    kedro run --pipelines=classify,ensemble,bundle" in lines
