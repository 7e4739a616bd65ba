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
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    known = patients[patients["patient_id"].isin(folds["patient_id"])].merge(traces, "left")
    known = known.assign(log_count=np.log(known["lymphocyte_count"])).set_index("patient_id")
    tables = []
    for (repeat, fold), held_out in folds.groupby(["repeat", "fold"])["patient_id"]:
        train, test = known.drop(held_out), known.loc[held_out]
        label = train["label"].to_numpy(dtype=int)
        for method, (columns, model) in _methods(seed).items():
            values = train[columns].to_numpy(dtype=float)
            inner = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
            parts = list(inner.split(values, label, train["person"]))
            unseen = cross_val_predict(
                clone(model), values, label, cv=parts, method="predict_proba"
            )[:, 1]
            fitted = clone(model).fit(values, label)
            tables.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "repeat": repeat,
                        "fold": fold,
                        "patient_id": held_out.to_numpy(),
                        "probability": fitted.predict_proba(test[columns].to_numpy(dtype=float))[
                            :, 1
                        ],
                        "threshold": threshold_for_sensitivity(label, unseen, wanted_sensitivity),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def _methods(seed: int) -> dict[str, tuple[list[str], Any]]:
    """The columns and the model of each control; classes weigh the same in all of them."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    line = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    # Shallow trees and small leaves: made for a hundred patients, not for thousands.
    trees = HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=4,
        min_samples_leaf=8,
        class_weight="balanced",
        random_state=seed,
    )
    return {
        CLINICAL: (["log_count", "age_years"], line),
        "clinical, gradient boosting": (["log_count", "age_years"], trees),
        "bag size": (["cell_count"], line),
        "date format": (["date_format"], line),
        # Blocks of rows of one class are no straight line.
        "row order": (["row_order"], trees),
    }
