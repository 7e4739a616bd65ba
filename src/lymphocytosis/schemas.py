"""What each table of the catalog must look like; checked whenever one is saved or loaded."""

from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors


def _are_integers(values: "pd.Series[Any]") -> "pd.Series[bool]":
    """Which values are integers or empty; none if all are stored as decimals or as text."""
    if pd.api.types.is_integer_dtype(values.dtype):
        return pd.Series(True, index=values.index)
    whole = pd.to_numeric(values, errors="coerce") % 1 == 0
    return ~whole if whole.all() else whole | values.isna()


# Another check reports empty values.
_integer = pa.Check(_are_integers, error="an integer", ignore_na=False)
_finite = pa.Check(np.isfinite, error="a finite number")
_share = pa.Check.in_range(0, 1)
_id = pa.Column(str, pa.Check.str_length(min_value=1))
# Any integer type, since a CSV has none; never coerced, which would round a fraction.
_split = pa.Column(None, [_integer, pa.Check.ge(1)])
_decision = pa.Column(None, [_integer, _share])


def _table(
    columns: dict[str, pa.Column], unique: list[str], checks: list[pa.Check] | None = None
) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(columns, unique=unique, strict=True, checks=checks)


patients = _table(
    {
        "patient_id": _id,
        "person": _id,
        "subset": pa.Column(str, pa.Check.isin(["train", "test"])),
        "label": pa.Column("Int8", [_integer, _share], nullable=True),
        "age_years": pa.Column("int16", [_integer, pa.Check.in_range(0, 120)]),
        "sex": pa.Column(str, pa.Check.isin(["F", "M"]), nullable=True),
        "lymphocyte_count": pa.Column(float, pa.Check.in_range(0.001, 100_000)),
        "cell_count": pa.Column("int32", [_integer, pa.Check.ge(1)]),
    },
    unique=["patient_id"],
)

_taken = pa.Check(
    lambda table: table["row"].isna() == (table["status"] == "left_out"),
    error="a row in the store if and only if the picture is not left out",
)
_row_of_one = pa.Check(
    lambda table: table["row"].isna() | ~table["row"].duplicated(),
    error="a row of the store for one cell only",
)
_cell_columns = {
    "patient_id": _id,
    "image_id": _id,
    "path": _id,
    "sha256": pa.Column(str, pa.Check.str_matches(r"^([0-9a-f]{64})?$")),
    "row": pa.Column("Int64", [_integer, pa.Check.ge(0)], nullable=True),
    "status": pa.Column(str, pa.Check.isin(["taken", "converted", "left_out"])),
}

cells = _table(_cell_columns, unique=["patient_id", "image_id"], checks=[_taken, _row_of_one])

# In the image store, beside the pixels.
records = _table(
    {
        **_cell_columns,
        "subset": pa.Column(str, pa.Check.isin(["train", "test"])),
        "reason": pa.Column(str),
    },
    unique=["path"],
    checks=[_taken, _row_of_one],
)

splits = _table(
    {
        "split": _split,
        "patient_id": _id,
        "role": pa.Column(str, pa.Check.isin(["train", "validation"])),
    },
    unique=["split", "patient_id"],
)

pretrain_history = _table(
    {
        "epoch": pa.Column(int, [_integer, pa.Check.ge(1)]),
        "loss": pa.Column(float, [pa.Check.ge(0), _finite]),
    },
    unique=["epoch"],
)

classifier_history = _table(
    {
        "epoch": pa.Column(int, [_integer, pa.Check.ge(1)]),
        "loss": pa.Column(float, [pa.Check.ge(0), _finite]),
        "train_balanced_accuracy": pa.Column(float, _share),
        "validation_balanced_accuracy": pa.Column(float, _share),
        "learning_rate": pa.Column(float, [pa.Check.gt(0), _finite], nullable=True),
        "kept": pa.Column(bool),
        "split": _split,
    },
    unique=["split", "epoch"],
)

predictions = _table(
    {
        "patient_id": _id,
        "split": _split,
        "view": pa.Column(str, pa.Check.isin(["original", "horizontal", "vertical"])),
        "probability": pa.Column(float, _share),
    },
    unique=["patient_id", "split", "view"],
)

cell_contributions = _table(
    {
        "patient_id": _id,
        "image_id": _id,
        "split": _split,
        "view": pa.Column(str, pa.Check.isin(["original", "horizontal", "vertical"])),
        "contribution": pa.Column(float, _finite),
    },
    unique=["patient_id", "image_id", "split", "view"],
)

statistics = _table(
    {
        "patient_id": _id,
        "mean": pa.Column(float, _share),
        "std": pa.Column(float, pa.Check.in_range(0, 0.5)),
        "max": pa.Column(float, _share),
        "min": pa.Column(float, _share),
    },
    unique=["patient_id"],
)

evaluation_folds = _table(
    {"repeat": _split, "fold": _split, "patient_id": _id}, unique=["repeat", "patient_id"]
)

control_predictions = _table(
    {
        "method": _id,
        "repeat": _split,
        "fold": _split,
        "patient_id": _id,
        "probability": pa.Column(float, _share),
        "threshold": pa.Column(float, _share),
    },
    unique=["method", "repeat", "patient_id"],
)

control_tests = _table(
    {
        "control": _id,
        "found": _id,
        "p": pa.Column(float, _share),
        "least_p": pa.Column(float, _share),
    },
    unique=["control"],
)

_single_predictions = {
    "system": _id,
    "repeat": _split,
    "fold": _split,
    "role": pa.Column(str, pa.Check.isin(["held_out", "inner"])),
    "patient_id": _id,
    "split": _split,
    "view": pa.Column(str, pa.Check.isin(["original", "horizontal", "vertical"])),
    "probability": pa.Column(float, _share),
}
_single = ["system", "repeat", "fold", "role", "patient_id", "split", "view"]
_size = pa.Column(str, pa.Check.isin(["large", "small"]))

classifier_predictions = _table({"size": _size, **_single_predictions}, unique=["size", *_single])

chosen_predictions = _table(
    {
        "size": pa.Column(str, pa.Check.isin(["chosen", "averaged", "stacked"])),
        **_single_predictions,
    },
    unique=["size", *_single],
)

choices = _table(
    {
        "system": _id,
        "repeat": _split,
        "fold": _split,
        "run": _id,
        "size": _size,
        "auc": pa.Column(float, _share),
        "brier": pa.Column(float, _share),
        "chosen": pa.Column(bool),
    },
    unique=["system", "repeat", "fold", "run", "size"],
)

nested_predictions = _table(
    {
        "method": _id,
        "repeat": _split,
        "fold": _split,
        "patient_id": _id,
        "probability": pa.Column(float, _share),
        "threshold": pa.Column(float, _share),
        "sa_corrected": pa.Column("Int8", [_integer, _share], nullable=True),
        "sa_as_printed": pa.Column("Int8", [_integer, _share], nullable=True),
        "person": _id,
        "label": _decision,
        "decision": _decision,
        "referral": _decision,
    },
    unique=["method", "repeat", "patient_id"],
)

_calibration = pa.Check.isin(["none", "platt", "beta"])
referral_predictions = _table(
    {
        "method": _id,
        "patient_id": _id,
        "person": _id,
        "repeat": _split,
        "fold": _split,
        "label": _decision,
        "probability": pa.Column(float, _share),
        "platt": pa.Column(float, _share),
        "beta": pa.Column(float, _share),
        "kept": pa.Column(str, _calibration),
        "referral": _decision,
        "holds_reactive": _decision,
        "holds_tumoral": _decision,
        "advice": pa.Column(str, pa.Check.isin(["refer", "do not refer", "look again"])),
    },
    unique=["method", "repeat", "patient_id"],
)

_figure = pa.Column(float, [pa.Check.ge(0), _finite], nullable=True)
referral_evaluation = _table(
    {
        "method": _id,
        "calibration": pa.Column(str, _calibration, nullable=True),
        "metric": pa.Column(
            str,
            pa.Check.isin(
                [
                    "coverage_reactive",
                    "coverage_tumoral",
                    "sensitivity",
                    "specificity",
                    "undecided",
                    "decided_sensitivity",
                    "decided_specificity",
                    "decided_balanced_accuracy",
                    "log_loss",
                    "brier",
                    "kept",
                ]
            ),
        ),
        "value": _figure,
        "low": _figure,
        "high": _figure,
        "patients": pa.Column(int, [_integer, pa.Check.ge(0)]),
        "repeats": pa.Column(int, [_integer, pa.Check.ge(1)]),
    },
    unique=["method", "calibration", "metric"],
)

_difference = pa.Column(float, pa.Check.in_range(-1, 1), nullable=True)
evaluation = _table(
    {
        "method": _id,
        "rule": pa.Column(
            str, pa.Check.isin(["AVG", "SA corrected", "SA as printed", "referral"]), nullable=True
        ),
        "metric": pa.Column(
            str,
            pa.Check.isin(
                [
                    "balanced_accuracy",
                    "sensitivity",
                    "specificity",
                    "auc",
                    "brier",
                    "calibration_error",
                ]
            ),
        ),
        "value": pa.Column(float, _share),
        "low": pa.Column(float, _share),
        "high": pa.Column(float, _share),
        "spread": pa.Column(float, _share, nullable=True),
        "difference": _difference,
        "difference_low": _difference,
        "difference_high": _difference,
        "difference_p": pa.Column(float, _share, nullable=True),
        "patients": pa.Column(int, [_integer, pa.Check.ge(1)]),
        "repeats": pa.Column(int, [_integer, pa.Check.ge(1)]),
    },
    unique=["method", "rule", "metric"],
)

all_evaluations = _table(
    {"run": _id, "version": _id, **evaluation.columns},
    unique=["run", "method", "rule", "metric"],
)

_count = pa.Column(int, [_integer, pa.Check.ge(0)])
subgroups = _table(
    {
        "method": _id,
        "trait": pa.Column(str),
        "group": _id,
        "metric": pa.Column(
            str,
            pa.Check.isin(
                [
                    "balanced_accuracy",
                    "sensitivity",
                    "specificity",
                    "auc",
                    "sensitivity_at_90",
                    "sensitivity_at_95",
                ]
            ),
        ),
        **{name: pa.Column(float, _share, nullable=True) for name in ("value", "low", "high")},
        **{
            name: pa.Column(float, pa.Check.in_range(-1, 1), nullable=True)
            for name in ("difference", "difference_low", "difference_high")
        },
        "reactive": _count,
        "tumoral": _count,
        "repeats": pa.Column(int, [_integer, pa.Check.ge(1)]),
    },
    unique=["method", "trait", "group", "metric"],
)

learning_curves = _table(
    {
        "varied": pa.Column(str, pa.Check.isin(["patients", "cells"])),
        "number": pa.Column(int, [_integer, pa.Check.ge(1)]),
        "method": _id,
        "metric": pa.Column(str, pa.Check.isin(["balanced_accuracy", "auc"])),
        "value": pa.Column(float, _share),
        "low": pa.Column(float, _share),
        "high": pa.Column(float, _share),
        "patients": pa.Column(int, [_integer, pa.Check.ge(1)]),
        "repeats": pa.Column(int, [_integer, pa.Check.ge(1)]),
    },
    unique=["varied", "number", "method", "metric"],
)

decisions = _table({"patient_id": _id, "decision": _decision}, unique=["patient_id"])

answers = _table(
    {
        "ID": _id,
        "decision": pa.Column(str, pa.Check.isin(["reactive", "tumoral"])),
        "probability": pa.Column(float, _share),
        "spread": pa.Column(float, pa.Check.in_range(0, 0.5)),
        "cells": pa.Column(int, [_integer, pa.Check.ge(1)]),
        "warnings": pa.Column(str),
    },
    unique=["ID"],
    checks=[
        pa.Check(
            lambda table: (table["decision"] == "tumoral") == (table["probability"] >= 0.5),
            error="tumoral if and only if the probability is 0.5 or more",
        )
    ],
)

submission = _table({"ID": _id, "Predicted": _decision}, unique=["ID"])

_maybe_share = pa.Column(float, _share, nullable=True)
_text = pa.Column(str, pa.Check.str_length(min_value=1), nullable=True)


def _of_model(model: str, required: bool = True) -> dict[str, pa.Column]:
    columns = {
        **dict.fromkeys(("mean", "min", "max"), (float, [_share])),
        "std": (float, [pa.Check.in_range(0, 0.5)]),
        **dict.fromkeys(("avg", "sa"), (None, [_integer, _share])),
    }
    return {
        f"{model}_{name}": pa.Column(kind, checks, nullable=True, required=required)
        for name, (kind, checks) in columns.items()
    }


diagnoses = _table(
    {
        "patient_id": _id,
        "cell_count": pa.Column(None, [_integer, pa.Check.ge(0)]),
        "age_years": pa.Column(None, [_integer, pa.Check.in_range(0, 120)], nullable=True),
        "lymphocyte_count": pa.Column(float, pa.Check.in_range(0.001, 100_000), nullable=True),
        "inputs": pa.Column(str, pa.Check.isin(["pictures and clinical values", "pictures"])),
        "probability": _maybe_share,
        "probability_pictures": _maybe_share,
        "referral": pa.Column(str, pa.Check.isin(["refer", "do not refer"]), nullable=True),
        "set": pa.Column(
            str, pa.Check.isin(["refer", "do not refer", "both", "none"]), nullable=True
        ),
        "advice": pa.Column(str, pa.Check.isin(["refer", "do not refer", "look again"])),
        "unlike": pa.Column("boolean", nullable=True),
        "flags": _text,
        "reasons": _text,
        "warnings": _text,
        **_of_model("large"),
        **_of_model("small"),
        # Not if the others take pictures only.
        **_of_model("large_pictures_only", required=False),
        **_of_model("small_pictures_only", required=False),
    },
    unique=["patient_id"],
    checks=[
        pa.Check(
            lambda table: table["probability"].isna() == (table["cell_count"] == 0),
            error="a probability if and only if a picture was taken",
        )
    ],
)

diagnosis_cells = _table(
    {
        "patient_id": _id,
        "image_id": _id,
        "status": pa.Column(str, pa.Check.isin(["taken", "converted", "left_out"])),
        "reason": pa.Column(str),
        "contribution": pa.Column(float, _finite, nullable=True),
        "distance": pa.Column(float, [pa.Check.ge(0), _finite], nullable=True),
        "odd": pa.Column("boolean", nullable=True),
    },
    unique=["patient_id", "image_id"],
    checks=[
        pa.Check(
            lambda table: table["contribution"].isna() == (table["status"] == "left_out"),
            error="a contribution if and only if the picture is not left out",
        )
    ],
)

_count = pa.Column(int, [_integer, pa.Check.ge(0)])
results = _table(
    {
        "method": _id,
        "test_patients": _count,
        **{
            f"{on}_{name}": column
            for on in ("test", "out_of_fold")
            for name, column in {
                "balanced_accuracy": _maybe_share,
                "low": _maybe_share,
                "high": _maybe_share,
                "reactive": _count,
                "tumoral": _count,
            }.items()
        },
        "note": pa.Column(str),
    },
    unique=["method"],
)


def faults_of(error: SchemaErrors) -> list[str]:
    """Describe what is wrong with a table, by row and column.

    Args:
        error: from validating the whole table.

    Returns:
        A text for each fault; rows are counted from 1, without the header.
    """
    faults: dict[str, None] = {}  # a fault of a whole row is reported once for each column
    accused: set[tuple[str, str]] = set()  # each value is reported once
    twice: dict[str, list[str]] = {}
    for case in error.failure_cases.sort_values("index", kind="stable").to_dict("records"):
        column, check, value = case["column"], case["check"], case["failure_case"]
        where = "" if pd.isna(case["index"]) else f"row {int(case['index']) + 1}"
        if where and case["schema_context"] == "Column":
            if (where, column) in accused:
                continue
            accused |= {(where, column), ("", column)}
        if check == "column_in_dataframe":
            faults[f"column {value}: is missing"] = None
        elif check == "column_in_schema":
            faults[f"column {value}: does not belong here"] = None
        elif check == "multiple_fields_uniqueness":
            twice.setdefault(where, []).append(f"{column} {value!r}")
        elif case["schema_context"] == "DataFrameSchema":
            faults[f"{where}: expected {check}"] = None
        elif check == "not_nullable":
            faults[f"{where}, column {column}: is empty"] = None
        elif where:
            faults[f"{where}, column {column}: is {value!r}, expected {check}"] = None
        elif str(check).startswith("dtype") and ("", column) not in accused:
            faults[f"column {column}: has the type {value}, expected {check}"] = None
        # Anything else is a check that fails on values of this type; the type is reported above.
    for where, keys in twice.items():
        faults[f"{where}: {', '.join(keys)} is also in another row"] = None
    return list(faults)
