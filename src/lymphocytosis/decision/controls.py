"""Controls: what age, count and things that are no medicine tell without any picture."""

from typing import Any

import pandas as pd

from lymphocytosis.decision.thresholds import threshold_for_sensitivity

# The baseline that pictures have to beat.
CLINICAL = "clinical, logistic regression"


def predict_controls(
    patients: pd.DataFrame,
    traces: pd.DataFrame,
    folds: pd.DataFrame,
    wanted_sensitivity: float,
    seed: int,
) -> pd.DataFrame:
    """Predict held-out patients from clinical values, bag size, date format and row order.

    Args:
        patients: patient_id, person, label, age_years, lymphocyte_count, cell_count, and others.
        traces: patient_id, date_format, row_order, as `table_traces` returns them.
        folds: repeat, fold, patient_id: who is held out when.
        wanted_sensitivity: of the threshold that is chosen on the patients trained on.
        seed: of the inner folds.

    Returns:
        method, repeat, fold, patient_id, probability, threshold.
    """
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    known = patients[patients["patient_id"].isin(folds["patient_id"])].merge(traces, "left")
    known = known.assign(log_count=np.log(known["lymphocyte_count"])).set_index("patient_id")
    tables = []
    for (repeat, fold), held_out in folds.groupby(["repeat", "fold"])["patient_id"]:
        train, test = known.drop(held_out), known.loc[held_out]
        label = train["label"].to_numpy(dtype=int)
        # Few persons of a class make fewer inner folds, so that none trains on one class alone.
        persons = train.groupby(label)["person"].nunique().min()
        inner = StratifiedGroupKFold(min(5, persons), shuffle=True, random_state=seed)
        parts = list(inner.split(label, label, train["person"]))
        for method, (columns, model) in _methods(seed).items():
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


def _predict(model: Any, values: Any, label: Any, asked: Any) -> Any:
    from sklearn.base import clone
    from sklearn.utils.class_weight import compute_sample_weight

    # Classes weigh the same.
    weights = {"model__sample_weight": compute_sample_weight("balanced", label)}
    return clone(model).fit(values, label, **weights).predict_proba(asked)[:, 1]


def _methods(seed: int) -> dict[str, tuple[list[str], Any]]:
    """The columns and the model of each control."""
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    line = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    # Shallow trees and large leaves: made for a hundred patients, not for thousands.
    boosting = GradientBoostingClassifier(
        n_estimators=60, max_depth=2, min_samples_leaf=8, random_state=seed
    )
    trees = Pipeline([("model", boosting)])
    return {
        CLINICAL: (["log_count", "age_years"], line),
        "clinical, gradient boosting": (["log_count", "age_years"], trees),
        "bag size": (["cell_count"], line),
        "date format": (["date_format"], line),
        # Blocks of rows of one class are no straight line.
        "row order": (["row_order"], trees),
    }
