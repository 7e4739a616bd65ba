"""Joining several recipes inside each outer fold: their average, and a regression on them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lymphocytosis.decision.choice import SYSTEMS

_PATIENT = ["system", "repeat", "fold", "role", "patient_id"]
_PREDICTION = [*_PATIENT, "split", "view"]
# Beyond this a probability says no more; 0 and 1 have no finite logit.
_LEAST = 1e-6


def join_in_folds(runs: Mapping[str, pd.DataFrame], patients: pd.DataFrame) -> pd.DataFrame:
    """Join the predictions of all recipes, each a run and a size of embedding.

    `averaged` is the mean of the recipes' logits. `stacked` is a logistic regression on them. It is
    fitted in each outer fold on inner predictions alone: of a patient each recipe gives the mean
    logit of the splits that validated the patient. With clinical values it takes the logits of the
    pictures' systems, age, and the count's logarithm: late fusion whose weights are learnt.
    Held-out patients have no influence.

    Args:
        runs: the classifier predictions by run: size, system, repeat, fold, role, patient_id,
            split, view, probability; all with the same folds.
        patients: patient_id, label, age_years, lymphocyte_count.

    Returns:
        The same columns; size is `averaged` or `stacked`.

    Source: Wolpert 1992, Stacked generalization.
    """
    tables = [
        table[table["system"].isin(SYSTEMS)].assign(recipe=run + "/" + table["size"].astype(str))
        for run, table in runs.items()
    ]
    every = pd.concat(tables, ignore_index=True)
    every["logit"] = logit(every["probability"].clip(_LEAST, 1 - _LEAST))
    by_recipe = every.pivot_table("logit", _PREDICTION, "recipe", observed=True)
    of_patient = by_recipe.groupby(level=_PATIENT, observed=True).transform("mean")
    # A run with other splits or views lacks some predictions: the patient's mean stands for them.
    by_recipe = by_recipe.fillna(of_patient)
    known = patients.set_index("patient_id")
    values = known[["age_years"]].assign(log_count=np.log(known["lymphocyte_count"]))
    pictures, both = SYSTEMS
    stacked = []
    for _, logits in by_recipe.loc[[pictures]].groupby(level=["repeat", "fold"]):
        ids = logits.index.get_level_values("patient_id")
        with_values = logits.join(values.loc[ids.unique()], on="patient_id")
        for system, features in ((pictures, logits), (both, with_values)):
            probability = _stack(features, known["label"])
            stacked.append(probability.rename(index={pictures: system}, level="system"))
    averaged = pd.Series(expit(by_recipe.mean(axis=1)), name="probability")
    joined = {"averaged": averaged, "stacked": pd.concat(stacked)}
    return pd.concat(
        [table.reset_index().assign(size=size) for size, table in joined.items()],
        ignore_index=True,
    )[list(next(iter(runs.values())).columns)]


def _stack(features: pd.DataFrame, label: "pd.Series[int]") -> "pd.Series[float]":
    """Fit on a fold's inner patients; the probability of every prediction of the fold."""
    inner = features[features.index.get_level_values("role") == "inner"]
    # A patient whom no split of some run validated can't be learned from.
    of_patients = inner.groupby(level="patient_id").mean().dropna()
    regression = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    regression.fit(of_patients.to_numpy(), label.loc[of_patients.index].to_numpy(dtype=int))
    kept = features.dropna()
    probability = regression.predict_proba(kept.to_numpy())[:, 1]
    return pd.Series(probability, index=kept.index, name="probability")
