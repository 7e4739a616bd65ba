"""Controls: predictions without pictures, from age and count, and from traces of collection."""

from typing import Any

import numpy as np
import pandas as pd

from lymphocytosis.decision.leaks import ROW_ORDER, judge_traces
from lymphocytosis.decision.thresholds import threshold_for_sensitivity
from lymphocytosis.display import followed

# The baseline that pictures have to beat.
CLINICAL = "clinical, logistic regression"


def predict_controls(
    patients: pd.DataFrame,
    traces: pd.DataFrame,
    folds: pd.DataFrame,
    wanted_sensitivity: float,
    seed: int,
) -> pd.DataFrame:
    """Predict held-out patients from clinical values, and from traces without medical meaning.

    Args:
        patients: patient_id, person, label, age_years, lymphocyte_count, cell_count, and others.
        traces: of the table and of the pictures: patient_id, date_format, row_order,
            picture_pixels, converted_share and a column `format_{name}` for each file format.
        folds: repeat, fold, patient_id: the patients held out in each fold.
        wanted_sensitivity: of the threshold, which is chosen on the training patients.
        seed: of the inner folds.

    Returns:
        method, repeat, fold, patient_id, probability, threshold. A trace that is the same for all
        patients is left out.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    known = _known(patients, traces, folds)
    known = known.assign(log_count=np.log(known["lymphocyte_count"]))
    differing = {
        control: columns
        for control, columns in _traces(known).items()
        if known[columns].nunique().max() > 1
    }
    tables = []
    by_fold = folds.groupby(["repeat", "fold"])["patient_id"]
    told = followed(by_fold, "controls", by_fold.ngroups, "folds")
    for (repeat, fold), held_out in told:
        train, test = known.drop(held_out), known.loc[held_out]
        label = train["label"].to_numpy(dtype=int)
        # Fewer inner folds if a class has few persons, so that none trains on one class only.
        persons = train.groupby(label)["person"].nunique().min()
        inner = StratifiedGroupKFold(min(5, persons), shuffle=True, random_state=seed)
        parts = list(inner.split(label, label, train["person"]))
        for method, (columns, model) in _methods(differing, len(train), seed).items():
            values = train[columns].to_numpy(dtype=float)
            unseen = np.empty(len(label))
            for seen, left_out in parts:
                unseen[left_out] = _predict(model, values[seen], label[seen], values[left_out])
            tables.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "repeat": repeat,
                        "fold": fold,
                        "patient_id": held_out.to_numpy(),
                        "probability": _predict(
                            model, values, label, test[columns].to_numpy(dtype=float)
                        ),
                        "threshold": threshold_for_sensitivity(label, unseen, wanted_sensitivity),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def judge_controls(
    patients: pd.DataFrame, traces: pd.DataFrame, folds: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Test whether bag size and each trace predict the label; see `judge_traces`.

    Args:
        patients: as `predict_controls` takes them.
        traces: likewise.
        folds: patient_id, and others: the patients; only the first of each person is used.
        seed: of the permutations.

    Returns:
        control, found, p, least_p.
    """
    known = _known(patients, traces, folds).drop_duplicates("person")
    values = {
        control: {name.removeprefix("format_"): known[name].to_numpy(dtype=float) for name in names}
        for control, names in _traces(known).items()
    }
    return judge_traces(known["label"].to_numpy(dtype=np.int64), values, seed)


def _known(patients: pd.DataFrame, traces: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    taking_part = patients[patients["patient_id"].isin(folds["patient_id"])]
    return taking_part.merge(traces, "left").set_index("patient_id")


def _traces(known: pd.DataFrame) -> dict[str, list[str]]:
    """The columns of each control that should not predict the label."""
    return {
        "bag size": ["cell_count"],
        "date format": ["date_format"],
        ROW_ORDER: ["row_order"],
        "picture format": [name for name in known.columns if name.startswith("format_")],
        "picture size": ["picture_pixels"],
        "converted pictures": ["converted_share"],
    }


def _predict(model: Any, values: Any, label: Any, asked: Any) -> Any:
    from sklearn.base import clone
    from sklearn.utils.class_weight import compute_sample_weight

    # Both classes have the same weight.
    weights = {"model__sample_weight": compute_sample_weight("balanced", label)}
    return clone(model).fit(values, label, **weights).predict_proba(asked)[:, 1]


def _methods(
    traces: dict[str, list[str]], patients: int, seed: int
) -> dict[str, tuple[list[str], Any]]:
    """The columns and the model of each control."""
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    line = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    # Shallow trees and large leaves suit a hundred patients; with twelve, a leaf of eight would
    # allow no split.
    boosting = GradientBoostingClassifier(
        n_estimators=60,
        max_depth=2,
        min_samples_leaf=max(1, min(8, patients // 8)),
        random_state=seed,
    )
    trees = Pipeline([("model", boosting)])
    clinical = ["log_count", "age_years"]
    methods = {CLINICAL: (clinical, line), "clinical, gradient boosting": (clinical, trees)}
    # Row order may predict in blocks, which a linear model can't fit.
    return methods | {
        control: (columns, trees if control == ROW_ORDER else line)
        for control, columns in traces.items()
    }
