"""The choose pipeline on a tiny simulated cohort, through Kedro as a user runs it."""

import shutil
from pathlib import Path

import click
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

PROJECT = Path(__file__).parents[2]
TINY = {
    "simulation": {
        "train_reactive": 9, "train_tumoral": 12, "test": 1, "min_cells": 2, "max_cells": 4,
        "picture_size": 64,
    },
    "image": {"source_size": 64, "crop": 48, "size": 40},
    "encoder": {"small_dim": 8},
    "pretext": {"epochs": 1},
    "mil": {"classifier": "logistic", "components": 8},
    "splits": {"validation_share": 0.25, "count": 2},
    "evaluation": {"folds": 3, "repeats": 1, "resamples": 100},
}  # fmt: skip

# What the choice needs of an evaluation.
COMPARED = ["control_predictions", "control_tests", "classifier_predictions"]


def run(folder, names, workspace, runs_dir=None, to_outputs=None, **changes):
    places = {
        "cohort_dir": str(folder / "cohort"),
        "workspace": str(folder / "runs" / workspace),
        "runs_dir": str(runs_dir or folder / "runs"),
    }
    bootstrap_project(PROJECT)
    parameters = places | {k: v | changes.get(k, {}) for k, v in TINY.items()}
    with KedroSession.create(PROJECT, env="demo", runtime_params=parameters) as session:
        session.run(pipeline_names=names, to_outputs=to_outputs)
        return session.load_context().catalog


def predictions_of(folder, workspace):
    (path,) = (folder / "runs" / workspace).glob("07*/classifier_predictions.parquet/*/*.parquet")
    return path


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choose")
    steps = ["ingest", "ssl_pretrain", "embed", "evaluate"]
    run(folder, ["simulate", *steps], "narrow", to_outputs=COMPARED)
    run(folder, steps, "wide", image={"crop": 64}, to_outputs=COMPARED)
    return folder, run(folder, ["choose"], "narrow")


@pytest.fixture
def copied(evaluated, tmp_path):
    shutil.copytree(evaluated[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


class TestOutputs:
    def test_each_fold_has_one_choice_among_all_runs_and_sizes(self, evaluated):
        choices = evaluated[1].load("choices")
        assert len(choices) == 2 * 3 * 2 * 2
        assert (choices.groupby(["system", "fold"])["chosen"].sum() == 1).all()

    def test_held_out_probabilities_are_the_chosen_runs(self, evaluated):
        folder, catalog = evaluated
        nested, choices = catalog.load("choice_predictions"), catalog.load("choices")
        for choice in choices[choices["chosen"]].to_dict("records"):
            raw = pd.read_parquet(predictions_of(folder, choice["run"]))
            rows = raw[
                (raw["size"] == choice["size"])
                & (raw["system"] == choice["system"])
                & (raw["fold"] == choice["fold"])
                & (raw["role"] == "held_out")
            ]
            expected = rows.groupby("patient_id")["probability"].mean()
            found = nested[
                (nested["method"] == f"chosen, {choice['system']}")
                & (nested["fold"] == choice["fold"])
            ].set_index("patient_id")["probability"]
            pd.testing.assert_series_equal(found.sort_index(), expected.sort_index())

    def test_summary_compares_with_clinical_values_and_counts_the_choices(self, evaluated):
        summary = evaluated[1].load("choice_summary")
        assert "| chosen, pictures + clinical | AVG |" in summary
        assert "| pictures | wide | large |" in summary
        methods = set(evaluated[1].load("choice_evaluation")["method"])
        assert {"clinical, logistic regression", "chosen, pictures"} <= methods
        for how in ("averaged", "stacked"):
            assert {f"{how}, pictures", f"{how}, pictures + clinical"} <= methods


class TestRefusals:
    def test_one_run_is_nothing_to_choose_among(self, copied):
        shutil.rmtree(copied / "runs/wide")
        with pytest.raises(click.ClickException, match=r"runs_dir holds 1 workspace"):
            run(copied, ["choose"], "narrow")

    def test_no_runs_at_all(self, copied):
        with pytest.raises(click.ClickException, match=r"nowhere holds no evaluation.*runs_dir"):
            run(copied, ["choose"], "narrow", runs_dir=copied / "nowhere")

    def test_other_folds_name_the_run(self, copied):
        seed = {"seed": 5}
        run(copied, ["evaluate"], "wide", None, COMPARED, image={"crop": 64}, evaluation=seed)
        with pytest.raises(
            click.ClickException, match=r"The run wide was evaluated on other folds"
        ):
            run(copied, ["choose"], "narrow")

    def test_a_damaged_table_by_its_file(self, copied):
        predictions_of(copied, "wide").write_bytes(b"PAR1 and nothing else")
        with pytest.raises(click.ClickException, match=r"wide.*can't be read as Parquet"):
            run(copied, ["choose"], "narrow")

    def test_an_edited_table_by_run_and_row(self, copied):
        path = predictions_of(copied, "wide")
        table = pd.read_parquet(path)
        table.loc[3, "probability"] = 1.5
        table.to_parquet(path)
        with pytest.raises(click.ClickException, match=r"of the run wide.*\n.*row 4, column prob"):
            run(copied, ["choose"], "narrow")
