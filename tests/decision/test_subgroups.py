import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from lymphocytosis import schemas
from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.subgroups import ALL, measure_subgroups

PATIENTS = 60
REPEATS = 3
BOTH = "large, pictures + clinical"


@pytest.fixture(scope="module")
def patients():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "patient_id": [f"P{i:02}" for i in range(PATIENTS)],
            "age_years": rng.integers(20, 95, PATIENTS).astype("int16"),
            "sex": rng.choice(["F", "M", None], PATIENTS),
            "lymphocyte_count": np.exp(rng.normal(2.5, 1, PATIENTS)),
            "label": np.arange(PATIENTS) % 2,
        }
    )


@pytest.fixture(scope="module")
def predictions(patients):
    rng = np.random.default_rng(1)
    tables = []
    for method in (CLINICAL, "clinical, gradient boosting", BOTH, "bag size"):
        for repeat in range(1, REPEATS + 1):
            noise = rng.normal(0, 1, PATIENTS)
            probability = 1 / (1 + np.exp(-(2 * patients["label"] - 1 + noise)))
            table = patients[["patient_id", "label"]].assign(
                method=method, repeat=repeat, person=patients["patient_id"],
                probability=probability, decision=(probability >= 0.5).astype("int8"),
            )  # fmt: skip
            tables.append(table.sample(frac=1, random_state=repeat))
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def measured(predictions, patients):
    return measure_subgroups(predictions, patients, 200, 0.95, 0)


def of(measured, trait, group, metric):
    rows = measured.query("method == @BOTH and trait == @trait and group == @group")
    return rows.set_index("metric").loc[metric]


def test_the_table_fits_its_schema_and_has_the_methods_that_matter(measured):
    schemas.subgroups.validate(measured)
    assert set(measured["method"]) == {CLINICAL, BOTH}


@pytest.mark.parametrize(
    ("trait", "group", "inside"),
    [
        ("", ALL, lambda p: p["age_years"] >= 0),
        ("age in years", "below 50", lambda p: p["age_years"] < 50),
        ("age in years", "50 to below 70", lambda p: p["age_years"].between(50, 69)),
        ("age in years", "70 or more", lambda p: p["age_years"] >= 70),
        ("10^9 lymphocytes per litre", "below 10", lambda p: p["lymphocyte_count"] < 10),
        ("10^9 lymphocytes per litre", "30 or more", lambda p: p["lymphocyte_count"] >= 30),
        ("sex", "F", lambda p: p["sex"] == "F"),
    ],
)
def test_scores_are_those_of_the_groups_patients(
    measured, predictions, patients, trait, group, inside
):
    ids = patients.loc[inside(patients), "patient_id"]
    rows = predictions[(predictions["method"] == BOTH) & predictions["patient_id"].isin(ids)]
    repeats = [of_repeat for _, of_repeat in rows.groupby("repeat")]
    accuracy = np.mean([balanced_accuracy_score(r["label"], r["decision"]) for r in repeats])
    auc = np.mean([roc_auc_score(r["label"], r["probability"]) for r in repeats])
    assert of(measured, trait, group, "balanced_accuracy")["value"] == pytest.approx(accuracy)
    assert of(measured, trait, group, "auc")["value"] == pytest.approx(auc)
    n = patients.loc[inside(patients), "label"].value_counts()
    row = of(measured, trait, group, "auc")
    assert (row["reactive"], row["tumoral"], row["repeats"]) == (n[0], n[1], REPEATS)


@pytest.mark.parametrize("share", [0.9, 0.95])
def test_sensitivity_at_a_specificity_is_that_of_a_plain_search(measured, predictions, share):
    found = []
    for _, rows in predictions[predictions["method"] == BOTH].groupby("repeat"):
        reactive, tumoral = (rows.loc[rows["label"] == v, "probability"] for v in (0, 1))
        thresholds = [*rows["probability"], 2.0]
        found.append(
            max((tumoral >= t).mean() for t in thresholds if (reactive < t).mean() >= share)
        )
    row = of(measured, "", ALL, f"sensitivity_at_{round(100 * share)}")
    assert row["value"] == pytest.approx(np.mean(found))
    assert row["low"] <= row["value"] <= row["high"]


def test_repeats_make_no_interval_narrower(measured):
    row = of(measured, "", ALL, "sensitivity")
    n, found = 30, round(row["value"] * 30)
    exact = beta.ppf([0.025, 0.975], [found, found + 1], [n - found + 1, n - found])
    np.testing.assert_allclose([row["low"], row["high"]], exact)


def test_a_group_of_one_class_or_of_nobody_has_no_score(predictions, patients):
    old = patients.assign(age_years=np.where(patients["label"] == 1, 80, 60).astype("int16"))
    measured = measure_subgroups(predictions, old, 50, 0.95, 0)
    schemas.subgroups.validate(measured)
    assert pd.isna(of(measured, "age in years", "70 or more", "auc")["value"])
    assert of(measured, "age in years", "70 or more", "sensitivity")["value"] > 0
    assert pd.isna(of(measured, "age in years", "below 50", "sensitivity")["value"])
    assert of(measured, "age in years", "below 50", "sensitivity")["tumoral"] == 0


def test_differences_are_from_clinical_values_on_the_same_patients(measured):
    for metric in ("balanced_accuracy", "auc"):
        own, baseline = (
            measured[(measured["method"] == method) & (measured["metric"] == metric)].set_index(
                ["trait", "group"]
            )
            for method in (BOTH, CLINICAL)
        )
        np.testing.assert_allclose(own["difference"], own["value"] - baseline["value"], atol=0.02)
        assert baseline["difference"].isna().all()
        assert (own["difference_low"] <= own["difference"]).all()
        assert (own["difference"] <= own["difference_high"]).all()
    assert measured.loc[measured["metric"] == "sensitivity", "difference"].isna().all()


def test_a_method_that_says_the_same_as_clinical_values_gains_nothing(predictions, patients):
    same = predictions[predictions["method"] == CLINICAL]
    both = pd.concat([same, same.assign(method=BOTH)], ignore_index=True)
    gained = measure_subgroups(both, patients, 50, 0.95, 0).query("method == @BOTH")
    known = gained.loc[gained["metric"] == "auc", ["difference", "difference_low"]].dropna()
    assert len(known)
    assert (known == 0).all(axis=None)
