import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from lymphocytosis.decision.choice import SYSTEMS
from lymphocytosis.decision.stacking import join_in_folds
from lymphocytosis.schemas import chosen_predictions
from tests.decision.test_choice import FOLDS, LABEL, PATIENTS, a_run

RNG = np.random.default_rng(5)
KNOWN = pd.DataFrame(
    {
        "patient_id": PATIENTS,
        "label": LABEL.to_numpy(),
        "age_years": RNG.integers(20, 90, 24),
        "lymphocyte_count": RNG.uniform(4, 60, 24),
    }
)
KEYS = ["size", "system", "repeat", "fold", "role", "patient_id", "split", "view"]
RECIPES = [("weak", "large"), ("weak", "small"), ("strong", "large"), ("strong", "small")]


@pytest.fixture(scope="module")
def runs():
    return {"weak": a_run(0, 0.2), "strong": a_run(1, 0.6)}


@pytest.fixture(scope="module")
def joined(runs):
    return join_in_folds(runs, KNOWN).set_index(KEYS)["probability"]


def logit_of(table, **chosen):
    for name, value in chosen.items():
        table = table[table[name] == value]
    return np.log(table["probability"] / (1 - table["probability"]))


def test_the_average_is_that_of_the_recipes_logits(runs, joined):
    for system in SYSTEMS:
        key = {"repeat": 2, "fold": 3, "role": "inner", "patient_id": "P02", "split": 1}
        key |= {"system": system, "view": "vertical"}
        logits = [logit_of(runs[run], size=size, **key).item() for run, size in RECIPES]
        found = joined["averaged", system, 2, 3, "inner", "P02", 1, "vertical"]
        assert found == pytest.approx(1 / (1 + np.exp(-np.mean(logits))))


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_stack_is_a_regression_on_the_inner_patients(runs, joined, system):
    repeat, fold = 1, 2

    def features(role, patient, **prediction):
        key = {"repeat": repeat, "fold": fold, "role": role, "patient_id": patient, **prediction}
        values = [
            logit_of(runs[run], size=size, system="pictures", **key).mean() for run, size in RECIPES
        ]
        if system == "pictures + clinical":
            row = KNOWN[KNOWN["patient_id"] == patient].iloc[0]
            values += [row["age_years"], np.log(row["lymphocyte_count"])]
        return values

    inner = [p for p, out in zip(PATIENTS, fold == FOLDS, strict=True) if not out]
    learnt = np.array([features("inner", patient) for patient in inner])
    mean, spread = learnt.mean(axis=0), learnt.std(axis=0)
    model = LogisticRegression(class_weight="balanced")
    model.fit((learnt - mean) / spread, LABEL[inner].to_numpy())
    (patient, *_) = set(PATIENTS) - set(inner)
    asked = np.array(features("held_out", patient, split=2, view="original"))
    expected = model.predict_proba([(asked - mean) / spread])[0, 1]
    found = joined["stacked", system, repeat, fold, "held_out", patient, 2, "original"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_held_out_patients_have_no_influence_on_others(runs, joined):
    changed = {
        name: table.assign(
            probability=table["probability"].where(table["role"] == "inner", 1 - 1e-9)
        )
        for name, table in runs.items()
    }
    again = join_in_folds(changed, KNOWN).set_index(KEYS)["probability"]
    inner = joined.index[joined.index.get_level_values("role") == "inner"]
    pd.testing.assert_series_equal(again.loc[inner], joined.loc[inner])


def test_runs_may_have_other_splits_and_views(runs):
    fewer = runs["weak"][(runs["weak"]["split"] == 1) & (runs["weak"]["view"] == "original")]
    table = join_in_folds({**runs, "weak": fewer}, KNOWN)
    assert len(table) == 2 * 2 * len(PATIENTS) * 2 * 4 * 4  # sizes, systems, ..., predictions
    chosen_predictions.validate(table)
