from pathlib import Path
from types import SimpleNamespace

import click
import pandas as pd
import pandera.errors
import pytest
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.validation.exceptions import DataValidationError
from pandera.pandas import DataFrameSchema

from lymphocytosis import schemas
from lymphocytosis.hooks.project import ProjectHooks

PROJECT = Path(__file__).parents[1]
CATALOG = yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text())


def class_of(entry):
    validator = entry.get("validator", "")
    return validator["class"] if isinstance(validator, dict) else validator


TABLES = {
    name.format(size="large", rule="avg"): class_of(entry).rpartition(".")[2]
    for name, entry in CATALOG.items()
    if not name.startswith("_") and entry["type"].endswith(("ParquetDataset", "CSVDataset"))
    if name not in ("supplied_splits", "supplied_folds")  # the user's own, judged by their nodes
}
HEX = "0" * 64


def good_tables():
    return {
        "patients": pd.DataFrame(
            {
                "patient_id": ["007", "P2", "P3"],
                "person": ["007", "007", "P3"],
                "subset": ["train", "train", "test"],
                "label": pd.array([0, 1, None], dtype="Int8"),
                "age_years": pd.array([0, 71, 120], dtype="int16"),
                "sex": pd.array(["F", "M", None], dtype="str"),
                "lymphocyte_count": [2.28, 5.5, 295.0],
                "cell_count": pd.array([1, 16, 198], dtype="int32"),
            }
        ),
        "cells": pd.DataFrame(
            {
                "patient_id": ["007", "007", "P2"],
                "image_id": ["a.jpg", "b.jpg", "a.jpg"],
                "path": ["trainset/007/a.jpg", "trainset/007/b.jpg", "testset/P2/a.jpg"],
                "sha256": [HEX, "", HEX],
                "row": pd.array([0, None, 1], dtype="Int64"),
                "status": ["taken", "left_out", "converted"],
            }
        ),
        "records": pd.DataFrame(
            {
                "patient_id": ["007", "007", "P2"],
                "image_id": ["a.jpg", "a.jpg", "a.jpg"],
                "path": ["trainset/007/a.jpg", "testset/007/a.jpg", "testset/P2/a.jpg"],
                "sha256": [HEX, "", HEX],
                "row": pd.array([0, None, 1], dtype="Int64"),
                "status": ["taken", "left_out", "converted"],
                "subset": ["train", "test", "test"],
                "reason": ["", "can't be read: not a file", "mode L, not RGB"],
            }
        ),
        "splits": pd.DataFrame(
            {
                "split": [1, 1, 2],
                "patient_id": ["P1", "P2", "P1"],
                "role": ["train", "validation", "train"],
            }
        ),
        "pretrain_history": pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.0]}),
        "classifier_history": pd.DataFrame(
            {
                "epoch": [1, 2],
                "loss": [0.7, 0.6],
                "train_balanced_accuracy": [0.0, 1.0],
                "validation_balanced_accuracy": [0.5, 0.75],
                "learning_rate": [0.1, 0.08],
                "kept": [False, True],
                "split": [1, 1],
            }
        ),
        "cell_contributions": pd.DataFrame(
            {
                "patient_id": ["P1", "P1"],
                "image_id": ["a.jpg", "b.jpg"],
                "split": [1, 1],
                "view": ["original", "original"],
                "contribution": [-3.5, 1.0],
            }
        ),
        "evaluation_folds": pd.DataFrame(
            {"repeat": [1, 1, 2], "fold": [1, 2, 1], "patient_id": ["P1", "P2", "P1"]}
        ),
        "control_predictions": pd.DataFrame(
            {
                "method": ["bag size", "row order"],
                "repeat": [1, 1],
                "fold": [1, 1],
                "patient_id": ["P1", "P1"],
                "probability": [0.0, 1.0],
                "threshold": [0.5, 0.5],
            }
        ),
        "control_tests": pd.DataFrame(
            {"control": ["bag size"], "found": ["AUC 0.5"], "p": [1.0], "least_p": [0.001]}
        ),
        "classifier_predictions": pd.DataFrame(
            {
                "size": ["large", "small"],
                "system": ["pictures", "pictures"],
                "repeat": [1, 1],
                "fold": [1, 1],
                "role": ["held_out", "inner"],
                "patient_id": ["P1", "P1"],
                "split": [1, 1],
                "view": ["original", "original"],
                "probability": [0.0, 1.0],
            }
        ),
        "chosen_predictions": pd.DataFrame(
            {
                "size": ["chosen", "chosen"],
                "system": ["pictures", "pictures"],
                "repeat": [1, 1],
                "fold": [1, 1],
                "role": ["held_out", "inner"],
                "patient_id": ["P1", "P1"],
                "split": [1, 1],
                "view": ["original", "original"],
                "probability": [0.0, 1.0],
            }
        ),
        "choices": pd.DataFrame(
            {
                "system": ["pictures", "pictures"],
                "repeat": [1, 1],
                "fold": [1, 1],
                "run": ["NA", "007"],
                "size": ["large", "small"],
                "auc": [1.0, 0.5],
                "brier": [0.0, 1.0],
                "chosen": [True, False],
            }
        ),
        "nested_predictions": pd.DataFrame(
            {
                "method": ["bag size", "large, pictures"],
                "repeat": [1, 1],
                "fold": [1, 1],
                "patient_id": ["P1", "P1"],
                "probability": [0.0, 1.0],
                "threshold": [0.5, 0.5],
                "sa_corrected": pd.array([None, 1], dtype="Int8"),
                "sa_as_printed": pd.array([None, 0], dtype="Int8"),
                "person": ["P1", "P1"],
                "label": [0, 0],
                "decision": [0, 1],
                "referral": [0, 1],
            }
        ),
        "referral_predictions": pd.DataFrame(
            {
                "method": ["large, pictures", "large, pictures"],
                "patient_id": ["P1", "P2"],
                "person": ["P1", "P1"],
                "repeat": [1, 1],
                "fold": [1, 1],
                "label": [0, 1],
                "probability": [0.0, 1.0],
                "platt": [0.1, 0.9],
                "beta": [0.1, 0.9],
                "kept": ["none", "beta"],
                "referral": [0, 1],
                "holds_reactive": [1, 0],
                "holds_tumoral": [0, 1],
                "advice": ["do not refer", "look again"],
            }
        ),
        "referral_evaluation": pd.DataFrame(
            {
                "method": ["large, pictures", "large, pictures"],
                "calibration": pd.array([None, "none"], dtype="str"),
                "metric": ["undecided", "log_loss"],
                "value": [None, 1.2],
                "low": [None, 1.1],
                "high": [None, 1.3],
                "patients": [0, 110],
                "repeats": [1, 5],
            }
        ),
        "evaluation": pd.DataFrame(
            {
                "method": ["bag size", "bag size"],
                "rule": pd.array(["AVG", None], dtype="str"),
                "metric": ["sensitivity", "auc"],
                "value": [0.0, 1.0],
                "low": [0.0, 0.9],
                "high": [0.1, 1.0],
                "spread": [None, 0.1],
                "difference": [-1.0, None],
                "difference_low": [-1.0, None],
                "difference_high": [1.0, None],
                "difference_p": [None, 0.04],
                "patients": [110, 110],
                "repeats": [1, 5],
            }
        ),
        "subgroups": pd.DataFrame(
            {
                "method": ["clinical, logistic regression"] * 2,
                "trait": ["", "sex"],
                "group": ["all patients", "F"],
                "metric": ["auc", "sensitivity"],
                "value": [0.9, None],
                "low": [0.8, None],
                "high": [1.0, None],
                "difference": [-1.0, None],
                "difference_low": [-1.0, None],
                "difference_high": [1.0, None],
                "reactive": [34, 5],
                "tumoral": [76, 0],
                "repeats": [5, 5],
            }
        ),
        "learning_curves": pd.DataFrame(
            {
                "varied": ["patients", "cells"],
                "number": [99, 1],
                "method": ["pictures", "pictures + clinical"],
                "metric": ["auc", "balanced_accuracy"],
                "value": [0.9, 0.0],
                "low": [0.8, 0.0],
                "high": [1.0, 0.1],
                "patients": [110, 110],
                "repeats": [5, 5],
            }
        ),
        "diagnoses": pd.DataFrame(
            {
                "patient_id": ["NA", "007", "P3"],
                "cell_count": [80, 5, 0],
                "age_years": pd.array([71, None, None], dtype="Int16"),
                "lymphocyte_count": [5.5, None, 12.0],
                "inputs": ["pictures and clinical values", "pictures", "pictures"],
                "probability": [0.9, 0.25, None],
                "probability_pictures": [0.8, 0.25, None],
                "referral": ["refer", "do not refer", None],
                "set": ["refer", "both", None],
                "advice": ["refer", "look again", "look again"],
                "unlike": pd.array([False, True, None], dtype="boolean"),
                "flags": [None, "5 cells; dark", None],
                "reasons": [None, "few cells", "no picture could be taken"],
                "warnings": ["old", None, None],
                **{
                    f"{size}_{name}": values
                    for size in ("large", "small")
                    for name, values in {
                        "mean": [0.9, None, None], "std": [0.5, None, None],
                        "min": [0.0, None, None], "max": [1.0, None, None],
                        "avg": pd.array([1, None, None], dtype="Int8"),
                        "sa": pd.array([0, None, None], dtype="Int8"),
                    }.items()
                },
            }
        ),
        "diagnosis_cells": pd.DataFrame(
            {
                "patient_id": ["P1", "P1", "P2"],
                "image_id": ["a.jpg", "b.jpg", "a.jpg"],
                "status": ["taken", "left_out", "converted"],
                "reason": ["", "can't be read: not a file", "mode L, not RGB"],
                "contribution": [-0.5, None, 2.0],
                "distance": [0.0, None, 2.0],
                "odd": pd.array([False, None, True], dtype="boolean"),
            }
        ),
        "predictions": pd.DataFrame(
            {
                "patient_id": ["P1", "P1", "P1"],
                "split": [1, 1, 2],
                "view": ["original", "vertical", "horizontal"],
                "probability": [0.0, 0.5, 1.0],
            }
        ),
        "statistics": pd.DataFrame(
            {"patient_id": ["P1"], "mean": [0.5], "std": [0.5], "max": [1.0], "min": [0.0]}
        ),
        "decisions": pd.DataFrame({"patient_id": ["P1", "P2"], "decision": [0, 1]}),
        "answers": pd.DataFrame(
            {
                "ID": ["007", "P2"],
                "decision": ["reactive", "tumoral"],
                "probability": [0.2, 0.5],
                "spread": [0.0, 0.1],
                "cells": [1, 16],
                "warnings": ["", "1 of 17 pictures left out"],
            }
        ),
        "submission": pd.DataFrame({"ID": ["NA", "007"], "Predicted": [0, 1]}),
        "results": pd.DataFrame(
            {
                "method": ["AVG"],
                "test_patients": [42],
                "test_balanced_accuracy": [float("nan")], "test_low": [float("nan")],
                "test_high": [float("nan")], "test_reactive": [0], "test_tumoral": [3],
                "out_of_fold_balanced_accuracy": [0.9], "out_of_fold_low": [0.8],
                "out_of_fold_high": [0.95], "out_of_fold_reactive": [34],
                "out_of_fold_tumoral": [76],
                "note": [""],
            }
        ),
    }  # fmt: skip


GOOD = good_tables()
GOOD["all_evaluations"] = GOOD["evaluation"].copy()
for place, (name, value) in enumerate({"run": "lite2", "version": "2026-11-28"}.items()):
    GOOD["all_evaluations"].insert(place, name, value)

# Table, column, and a value in its first row that must not pass.
BAD_VALUES = [
    ("patients", "patient_id", ""),
    ("patients", "person", ""),
    ("nested_predictions", "label", -1),
    ("nested_predictions", "sa_corrected", 2),
    ("evaluation", "metric", "accuracy"),
    ("evaluation", "rule", "mean"),
    ("evaluation", "difference_low", -1.1),
    ("evaluation", "difference_p", 1.1),
    ("learning_curves", "varied", "repeats"),
    ("learning_curves", "number", 0),
    ("learning_curves", "metric", "brier"),
    ("all_evaluations", "run", ""),
    ("subgroups", "metric", "accuracy"),
    ("subgroups", "difference", -1.1),
    ("subgroups", "value", 1.1),
    ("subgroups", "reactive", -1),
    ("referral_predictions", "patient_id", "P2"),
    ("referral_predictions", "kept", "isotonic"),
    ("referral_predictions", "beta", 1.1),
    ("referral_predictions", "advice", "both"),
    ("referral_predictions", "holds_tumoral", 0.5),
    ("referral_evaluation", "calibration", "isotonic"),
    ("referral_evaluation", "metric", "auc"),
    ("referral_evaluation", "value", -0.1),
    ("referral_evaluation", "high", float("inf")),
    ("referral_evaluation", "patients", -1),
    ("cell_contributions", "contribution", float("nan")),
    ("cell_contributions", "contribution", float("inf")),
    ("evaluation_folds", "fold", 0),
    ("control_predictions", "threshold", -0.1),
    ("control_tests", "p", 1.5),
    ("control_tests", "least_p", float("nan")),
    ("classifier_predictions", "role", "outer"),
    ("classifier_predictions", "size", "middle"),
    ("chosen_predictions", "size", "large"),
    ("chosen_predictions", "probability", float("nan")),
    ("choices", "size", "chosen"),
    ("choices", "auc", 1.1),
    ("choices", "brier", -0.1),
    ("patients", "patient_id", "P2"),
    ("patients", "subset", "validation"),
    ("patients", "label", 2),
    ("patients", "label", -1),
    ("patients", "age_years", -1),
    ("patients", "age_years", 121),
    ("patients", "sex", "f"),
    ("patients", "lymphocyte_count", 0.0),
    ("patients", "lymphocyte_count", float("nan")),
    ("patients", "lymphocyte_count", float("inf")),
    ("patients", "lymphocyte_count", 1e39),
    ("patients", "lymphocyte_count", 1e-46),
    ("patients", "cell_count", 0),
    ("cells", "patient_id", ""),
    ("cells", "image_id", "b.jpg"),
    ("cells", "sha256", "abc"),
    ("cells", "sha256", HEX + "0"),
    ("cells", "sha256", "G" * 64),
    ("cells", "row", -1),
    ("cells", "status", "lost"),
    ("records", "subset", "validation"),
    ("records", "path", "testset/007/a.jpg"),
    ("records", "sha256", "abc"),
    ("splits", "split", 0),
    ("splits", "split", 2),
    ("splits", "patient_id", "P2"),
    ("splits", "role", "test"),
    ("pretrain_history", "epoch", 0),
    ("pretrain_history", "epoch", 2),
    ("pretrain_history", "loss", -0.1),
    ("pretrain_history", "loss", float("nan")),
    ("classifier_history", "epoch", 2),
    ("classifier_history", "loss", float("nan")),
    ("classifier_history", "train_balanced_accuracy", 1.1),
    ("classifier_history", "validation_balanced_accuracy", -0.1),
    ("classifier_history", "learning_rate", 0.0),
    ("classifier_history", "split", 0),
    ("predictions", "patient_id", ""),
    ("predictions", "view", "vertical"),
    ("predictions", "view", "diagonal"),
    ("predictions", "probability", 1.001),
    ("predictions", "probability", -0.001),
    ("predictions", "probability", float("nan")),
    ("statistics", "mean", 1.1),
    ("statistics", "std", 0.51),
    ("statistics", "max", float("nan")),
    ("statistics", "min", -0.1),
    ("decisions", "decision", 2),
    ("decisions", "patient_id", "P2"),
    ("answers", "decision", "benign"),
    ("answers", "spread", 0.6),
    ("answers", "cells", 0),
    ("answers", "ID", "P2"),
    ("submission", "Predicted", -1),
    ("submission", "ID", ""),
    ("submission", "ID", "007"),
    ("results", "method", ""),
    ("results", "test_balanced_accuracy", 1.2),
    ("results", "out_of_fold_balanced_accuracy", -0.2),
    ("results", "test_patients", -1),
    # Fractions, which a type alone would round.
    ("patients", "label", 0.5),
    ("patients", "age_years", 71.5),
    ("patients", "cell_count", 1.5),
    ("cells", "row", 0.5),
    ("splits", "split", 1.9),
    ("pretrain_history", "epoch", 1.5),
    ("classifier_history", "split", 1.5),
    ("predictions", "split", 1.5),
    ("evaluation_folds", "fold", 1.5),
    ("nested_predictions", "sa_corrected", 0.6),
    ("nested_predictions", "label", 0.6),
    ("evaluation", "patients", 109.5),
    ("choices", "repeat", 1.5),
    ("decisions", "decision", 0.6),
    ("submission", "Predicted", 0.5),
    ("results", "test_patients", 41.5),
    ("diagnoses", "patient_id", "007"),
    ("diagnoses", "cell_count", -1),
    ("diagnoses", "age_years", 121),
    ("diagnoses", "lymphocyte_count", 0.0),
    ("diagnoses", "inputs", "clinical values"),
    ("diagnoses", "probability", 1.1),
    ("diagnoses", "referral", "tumoral"),
    ("diagnoses", "set", "all"),
    ("diagnoses", "advice", "maybe"),
    ("diagnoses", "large_std", 0.6),
    ("diagnoses", "small_max", -0.1),
    ("diagnoses", "small_sa", 2),
    ("diagnoses", "large_avg", 0.5),
    ("diagnosis_cells", "image_id", "b.jpg"),
    ("diagnosis_cells", "status", "lost"),
    ("diagnosis_cells", "contribution", float("inf")),
    ("diagnosis_cells", "distance", -0.1),
    ("pretrain_history", "loss", float("inf")),
    ("classifier_history", "loss", float("inf")),
    ("classifier_history", "learning_rate", float("inf")),
]


def with_value(name, column, value):
    """A good table with the value in its first row; a fraction among integers makes decimals."""
    table = GOOD[name].copy()
    decimals = isinstance(value, float) and pd.api.types.is_integer_dtype(table[column].dtype)
    values = table[column].astype("float64" if decimals else "object")
    values.iloc[0] = value
    table[column] = values if decimals else values.astype(table[column].dtype)
    return table


def refused(match):
    return pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors), match=match)


def test_every_schema_is_tested_here():
    named = {name for name, value in vars(schemas).items() if isinstance(value, DataFrameSchema)}
    assert named == set(GOOD)


@pytest.mark.parametrize("name", GOOD)
class TestTables:
    def test_a_good_one_passes_with_its_values(self, name):
        passed = getattr(schemas, name).validate(GOOD[name])
        pd.testing.assert_frame_equal(passed, GOOD[name], check_dtype=False)

    def test_a_missing_column_is_refused_by_name(self, name):
        for column in GOOD[name]:
            with refused(column):
                getattr(schemas, name).validate(GOOD[name].drop(columns=column))

    def test_another_column_is_refused_by_name(self, name):
        with refused("surprise"):
            getattr(schemas, name).validate(GOOD[name].assign(surprise=1))

    def test_text_in_place_of_numbers_is_refused_by_name(self, name):
        numeric = [c for c in GOOD[name] if pd.api.types.is_numeric_dtype(GOOD[name][c])]
        assert numeric
        for column in numeric:
            with refused(column):
                getattr(schemas, name).validate(GOOD[name].assign(**{column: "many"}))


@pytest.mark.parametrize(("name", "column", "value"), BAD_VALUES)
def test_a_bad_value_is_refused_by_its_column(name, column, value):
    with refused(column):
        getattr(schemas, name).validate(with_value(name, column, value))


@pytest.mark.parametrize("name", ["cells", "records"])
@pytest.mark.parametrize(("column", "value"), [("row", None), ("status", "left_out")])
def test_a_row_in_the_store_and_the_status_go_together(name, column, value):
    table = GOOD[name].copy()
    table.loc[0, column] = value
    with refused("a row in the store if and only if the picture is not left out"):
        getattr(schemas, name).validate(table)


def test_two_cells_never_share_a_row_of_the_store():
    table = GOOD["cells"].copy()
    taken = table.index[table["row"].notna()]
    table.loc[taken, "row"] = 0
    assert len(taken) > 1
    with refused("a row of the store for one cell only"):
        schemas.cells.validate(table)


def test_an_answer_agrees_with_its_probability():
    with refused("tumoral if and only if the probability is 0.5 or more"):
        schemas.answers.validate(GOOD["answers"].assign(decision="reactive"))


class TestDiagnoses:
    def test_models_of_pictures_only_may_be_there(self):
        table = GOOD["diagnoses"].assign(large_pictures_only_mean=[0.5, 0.5, None])
        schemas.diagnoses.validate(table)
        with refused("large_pictures_only_mean"):
            schemas.diagnoses.validate(table.assign(large_pictures_only_mean=1.5))

    def test_a_probability_needs_a_picture(self):
        with refused("a probability if and only if a picture was taken"):
            schemas.diagnoses.validate(GOOD["diagnoses"].assign(cell_count=1))

    def test_a_contribution_needs_one_that_is_taken(self):
        with refused("a contribution if and only if the picture is not left out"):
            schemas.diagnosis_cells.validate(GOOD["diagnosis_cells"].assign(status="taken"))


class TestFaults:
    """What a user is told, each fault by row and column."""

    def told(self, name, table):
        with pytest.raises(pandera.errors.SchemaErrors) as caught:
            getattr(schemas, name).validate(table, lazy=True)
        return schemas.faults_of(caught.value)

    def test_a_bad_value(self):
        table = GOOD["predictions"].copy()
        table.loc[2, "probability"] = 1.5
        assert self.told("predictions", table) == [
            "row 3, column probability: is 1.5, expected in_range(0, 1)"
        ]

    def test_an_empty_one(self):
        table = GOOD["predictions"].copy()
        table.loc[1, "probability"] = float("nan")
        assert self.told("predictions", table) == ["row 2, column probability: is empty"]

    def test_text_among_numbers(self):
        table = GOOD["patients"].assign(lymphocyte_count=[2.3, "many", 4.0])
        assert self.told("patients", table) == [
            "row 2, column lymphocyte_count: is 'many', expected dtype('float64')"
        ]

    def test_text_in_a_column_of_a_csv_accuses_its_own_row_alone(self):
        table = GOOD["submission"].assign(Predicted=["0", "maybe"])
        assert self.told("submission", table) == [
            "row 2, column Predicted: is 'maybe', expected an integer"
        ]

    def test_an_empty_cell_in_a_column_of_a_csv_accuses_its_own_row_alone(self):
        table = GOOD["submission"].assign(Predicted=[0, float("nan")])
        assert self.told("submission", table) == ["row 2, column Predicted: is empty"]

    def test_numbers_of_another_type(self):
        table = GOOD["patients"].assign(age_years=[1, 2, 3])
        assert self.told("patients", table) == [
            "column age_years: has the type int64, expected dtype('int16')"
        ]

    @pytest.mark.parametrize(("name", "column"), [("patients", "age_years"), ("splits", "split")])
    def test_a_fraction_among_integers_accuses_its_own_row_alone(self, name, column):
        table = GOOD[name].assign(**{column: [1.0, 1.5, 3.0]})
        assert self.told(name, table) == [f"row 2, column {column}: is 1.5, expected an integer"]

    def test_integers_written_as_decimals_or_text(self):
        for column in ([1.0, 0.0], ["1", "0"]):
            assert self.told("decisions", GOOD["decisions"].assign(decision=column)) == [
                f"row {n}, column decision: is {value!r}, expected an integer"
                for n, value in enumerate(column, start=1)
            ]

    def test_a_value_with_several_faults_once(self):
        table = GOOD["decisions"].assign(decision=[0.0, 2.5])
        assert self.told("decisions", table) == [
            "row 2, column decision: is 2.5, expected an integer"
        ]

    def test_columns(self):
        table = GOOD["decisions"].rename(columns={"decision": "decisions"})
        assert set(self.told("decisions", table)) == {
            "column decision: is missing",
            "column decisions: does not belong here",
        }

    def test_a_duplicate_row(self):
        table = GOOD["splits"].assign(split=1)
        assert self.told("splits", table) == [
            "row 1: split 1, patient_id 'P1' is also in another row",
            "row 3: split 1, patient_id 'P1' is also in another row",
        ]

    def test_a_rule_over_columns_once(self):
        table = GOOD["cells"].assign(status=["left_out", "left_out", "taken"])
        assert self.told("cells", table) == [
            "row 1: expected a row in the store if and only if the picture is not left out"
        ]


# Every table of the catalog, edited on the disk: refused by file, row and column.


@pytest.fixture(scope="module")
def new_catalog(tmp_path_factory):
    """A function that returns the project's catalog in a workspace of its own."""

    def make():
        bootstrap_project(PROJECT)
        workspace = str(tmp_path_factory.mktemp("edited"))
        with KedroSession.create(PROJECT, runtime_params={"workspace": workspace}) as session:
            return session.load_context().catalog

    return make


@pytest.fixture(scope="module")
def catalog(new_catalog):
    return new_catalog()


def a_runs_hooks():
    hooks = ProjectHooks()
    hooks.lock = SimpleNamespace(release=lambda: None)
    return hooks


def as_told(catalog, entry):
    """What `kedro run` shows where the entry can't be loaded; None where it can."""
    try:
        catalog.load(entry)
    except Exception as error:
        with pytest.raises(click.ClickException) as shown:
            a_runs_hooks().on_pipeline_error(error, catalog)
        return shown.value.message
    return None


def write(table, path):
    # As a user's script would; an index that came of picking rows is kept.
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)


@pytest.fixture(scope="module", params=TABLES)
def saved(request, catalog):
    """An entry's name, its schema's, and the file of a good table that was saved."""
    entry, schema = request.param, TABLES[request.param]
    catalog.save(entry, GOOD[schema])
    return entry, schema, Path(catalog.get(entry)._get_load_path())


def test_every_table_has_a_schema():
    assert set(TABLES.values()) == set(GOOD) - {"records"}


def test_a_good_one_comes_back(saved, catalog):
    entry, schema, path = saved
    write(GOOD[schema], path)
    pd.testing.assert_frame_equal(catalog.load(entry), GOOD[schema], check_dtype=False)


def test_a_bad_value_is_reported_with_file_row_and_column(saved, catalog):
    entry, schema, path = saved
    bad = [(column, value) for name, column, value in BAD_VALUES if name == schema]
    assert bad
    for column, value in bad:
        write(with_value(schema, column, value), path)
        told = as_told(catalog, entry)
        assert f"The table {entry} ({path}) can't be used: " in told
        assert "row 1" in told
        assert column in told
    write(GOOD[schema], path)
    assert as_told(catalog, entry) is None


def test_a_missing_column_is_reported(saved, catalog):
    entry, schema, path = saved
    for column in GOOD[schema]:
        write(GOOD[schema].drop(columns=column), path)
        assert f"column {column}: is missing" in as_told(catalog, entry)


def test_a_copied_row_is_reported(saved, catalog):
    entry, schema, path = saved
    write(GOOD[schema].iloc[[0, *range(len(GOOD[schema]))]], path)
    told = as_told(catalog, entry)
    assert "row 1: " in told
    assert "row 2: " in told
    assert "is also in another row" in told


@pytest.mark.parametrize("content", [b"", b"PAR1", b'"', b"\xff\xfe\x00", b"a,b\n1\n2,3,4\n"])
def test_a_damaged_file_is_reported(saved, catalog, content):
    entry, _, path = saved
    path.write_bytes(content)
    told = as_told(catalog, entry)
    assert str(path) in told
    assert "Traceback" not in told


def test_a_bad_table_is_not_saved(new_catalog):
    catalog = new_catalog()
    # Parts of the cells are checked by their node: see tests/pipelines/test_ingest.py.
    for entry, schema in TABLES.items() - {("cells", "cells")}:
        twice = GOOD[schema].iloc[[0, 0]].reset_index(drop=True)
        with pytest.raises(DataValidationError) as caught:
            catalog.save(entry, twice)
        told = rf"(?s)The table {entry} was not saved.* row 1: "
        with pytest.raises(click.ClickException, match=told):
            a_runs_hooks().on_pipeline_error(caught.value, catalog)
        assert not catalog.exists(entry)
