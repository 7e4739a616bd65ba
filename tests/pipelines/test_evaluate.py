"""The evaluate pipeline on a tiny simulated cohort, through Kedro as a user runs it."""

from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from lymphocytosis.decision.rules import decide_by_sa, summarise
from lymphocytosis.decision.thresholds import threshold_for_sensitivity
from lymphocytosis.parameters import EvaluationParameters
from lymphocytosis.pipelines.evaluate.nodes import measure_evidence

PROJECT = Path(__file__).parents[2]
TINY = {
    "simulation": {
        "train_reactive": 12, "train_tumoral": 16, "test": 2, "min_cells": 2, "max_cells": 4,
        "picture_size": 64,
    },
    "image": {"source_size": 64, "crop": 48, "size": 40},
    "encoder": {"small_dim": 8},
    "pretext": {"epochs": 1},
    "mil": {"classifier": "logistic", "components": 8},
    "splits": {"validation_share": 0.25, "count": 2},
    "evaluation": {"folds": 3, "repeats": 2, "resamples": 100, "wanted_sensitivity": 0.9},
}  # fmt: skip
BEFORE = ["simulate", "ingest", "ssl_pretrain", "embed"]


def run(folder, names, **changes):
    places = {"cohort_dir": str(folder / "cohort"), "workspace": str(folder / "out")}
    bootstrap_project(PROJECT)
    parameters = places | {k: v | changes.get(k, {}) for k, v in TINY.items()}
    with KedroSession.create(PROJECT, env="demo", runtime_params=parameters) as session:
        session.run(pipeline_names=names)
        return session.load_context().catalog


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    run(folder, BEFORE)
    return folder, run(folder, ["evaluate"])


class TestOutputs:
    def test_every_method_predicts_every_labelled_patient_in_every_repeat(self, finished):
        nested = finished[1].load("nested_predictions")
        assert nested["method"].nunique() == 5 + 2 * 3
        assert (nested.groupby(["method", "repeat"])["patient_id"].nunique() == 28).all()

    def test_the_folds_are_the_same_for_all_methods(self, finished):
        nested = finished[1].load("nested_predictions")
        folds = nested.pivot_table("fold", ["repeat", "patient_id"], "method")
        assert folds.eq(folds.iloc[:, 0], axis=0).all(axis=None)

    def test_decisions_follow_from_the_classifiers_predictions(self, finished):
        _, catalog = finished
        raw, nested = catalog.load("classifier_predictions"), catalog.load("nested_predictions")
        label = catalog.load("patients").set_index("patient_id")["label"]
        chosen = (raw["size"] == "small") & (raw["system"] == "pictures")
        rows = raw[chosen & (raw["repeat"] == 2) & (raw["fold"] == 3)]
        held_out, inner = (
            summarise(rows[rows["role"] == role]).set_index("patient_id", drop=False)
            for role in ("held_out", "inner")
        )
        found = nested[
            (nested["method"] == "small, pictures")
            & (nested["repeat"] == 2)
            & (nested["fold"] == 3)
        ].set_index("patient_id")
        assert not set(held_out.index) & set(inner.index)
        np.testing.assert_allclose(found["probability"], held_out["mean"].loc[found.index])
        threshold = threshold_for_sensitivity(
            label.loc[inner.index].to_numpy(int), inner["mean"].to_numpy(), 0.9
        )
        assert (found["threshold"] == threshold).all()
        sa = decide_by_sa(held_out, "corrected").set_index("patient_id")["decision"]
        assert (found["sa_corrected"] == sa.loc[found.index]).all()

    def test_summary_and_figures_are_there(self, finished):
        folder, catalog = finished
        assert "| clinical, logistic regression | AVG |" in catalog.load("evaluation_summary")
        for name in ("curves", "calibration", "differences"):
            (path,) = (folder / "out/08_reporting").glob(f"evaluation_{name}.png/*/*.png")
            assert path.stat().st_size > 10_000

    def test_what_the_encoder_saw_stands_beside_the_scores(self, finished):
        assert "on the pictures of held-out patients too" in finished[1].load("evaluation_summary")

    def test_again_gives_the_same_predictions(self, finished):
        folder, catalog = finished
        first = catalog.load("classifier_predictions")
        pd.testing.assert_frame_equal(
            run(folder, ["evaluate"]).load("classifier_predictions"), first
        )


class TestChoices:
    def test_pretraining_in_each_fold_is_another_embedding(self, finished):
        folder, catalog = finished
        once = catalog.load("classifier_predictions")
        anew = run(folder, ["evaluate"], evaluation={"pretraining": "each_fold", "repeats": 1})
        summary, predicted = (
            anew.load("evaluation_summary"),
            anew.load("classifier_predictions"),
        )
        assert "never saw a picture of the patients held out" in summary
        keys = ["size", "system", "repeat", "fold", "role", "patient_id", "split", "view"]
        both = predicted.merge(once, on=keys, suffixes=("", "_once"))
        assert len(both) == len(predicted)
        assert not np.allclose(both["probability"], both["probability_once"])

    def test_supplied_folds_are_taken(self, finished):
        folder, catalog = finished
        folds = catalog.load("evaluation_folds")
        mine = folds[folds["repeat"] == 1].assign(fold=lambda t: 4 - t["fold"])
        mine.to_csv(folder / "cohort/folds.csv", index=False)
        taken = run(folder, ["evaluate"], evaluation={"source": "supplied"})
        pd.testing.assert_frame_equal(
            taken.load("evaluation_folds"),
            mine.sort_values(["repeat", "fold", "patient_id"], ignore_index=True),
        )

    def test_too_many_folds_are_refused(self, finished):
        folder, _ = finished
        with pytest.raises(click.ClickException, match=r"evaluation\.folds is 20.*12 reactive"):
            run(folder, ["evaluate"], evaluation={"folds": 20})

    def test_an_encoder_that_each_fold_pretrains_is_checked_before_any_work(self, finished):
        folder, _ = finished
        with pytest.raises(click.ClickException, match=r"nowhere\.pth"):
            run(
                folder,
                ["evaluate"],
                evaluation={"pretraining": "each_fold"},
                encoder={"weights": str(folder / "nowhere.pth")},
            )

    @pytest.mark.parametrize(
        ("weights", "told"),
        [("package", "it saw no picture of these"), ("mine.pth", "is not known here")],
    )
    def test_a_frozen_encoder_is_told_by_where_its_weights_came_from(self, finished, weights, told):
        _, catalog = finished
        frozen = {"parameters": {"pretext": {"name": "frozen"}, "encoder": {"weights": weights}}}
        evaluation = EvaluationParameters(
            source="stratified", folds=3, repeats=2, seed=0, wanted_sensitivity=0.9,
            pretraining="once", resamples=100, confidence=0.95,
        )  # fmt: skip
        _, summary = measure_evidence(catalog.load("nested_predictions"), frozen, evaluation)
        assert told in summary
