import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from sklearn.metrics import brier_score_loss, log_loss

from lymphocytosis import schemas
from lymphocytosis.decision.referral import (
    advise,
    arrays,
    calibrate,
    fit_calibration,
    fit_referral,
)
from lymphocytosis.decision.referral_evidence import judge_referral, measure_referral

WANTED, ERROR_RATE = 0.9, 0.2


def made_up(n=60, repeats=2, scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3 > 0
    person = np.arange(n) // 2 * 2  # neighbours are one person
    tables = []
    for repeat in range(1, repeats + 1):
        logit = scale * (2 * label - 1 + rng.normal(0, 1.2, n))
        tables.append(
            pd.DataFrame(
                {
                    "patient_id": [f"P{k:02d}" for k in range(n)],
                    "person": [f"P{k:02d}" for k in person],
                    "repeat": repeat,
                    "fold": (person + repeat) % 5 + 1,
                    "label": label.astype("int8"),
                    "probability": 1 / (1 + np.exp(-logit)),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def out_of_fold():
    return made_up()


@pytest.fixture(scope="module")
def judged(out_of_fold):
    return judge_referral(out_of_fold, WANTED, ERROR_RATE)


@pytest.fixture(scope="module")
def table(judged):
    return measure_referral(judged.assign(method="large, pictures"), 200, 0.9, 0)


class TestJudged:
    def test_each_patient_is_judged_by_what_other_persons_fitted(self, out_of_fold, judged):
        (of_fold,) = (rows for key, rows in judged.groupby(["repeat", "fold"]) if key == (2, 3))
        others = out_of_fold[~out_of_fold["person"].isin(of_fold["person"])]
        fitted = fit_referral(others, WANTED, ERROR_RATE, "evaluation")
        for row in of_fold.to_dict("records"):
            advice = advise(fitted, row["probability"])
            assert (row["kept"], row["advice"]) == (fitted.calibration, advice.advice)
            assert row["referral"] == (advice.referral == "refer")
            held = {(0, 1): "refer", (1, 0): "do not refer", (1, 1): "both", (0, 0): "none"}
            assert held[row["holds_reactive"], row["holds_tumoral"]] == advice.set
            for name in ("platt", "beta"):
                coefficients = fit_calibration(name, *arrays(others))
                expected = calibrate(name, coefficients, np.array([row["probability"]]))
                assert row[name] == pytest.approx(expected[0], abs=1e-6)

    def test_a_persons_own_labels_change_nothing_in_its_advice(self, out_of_fold, judged):
        own = out_of_fold["person"] == "P06"
        turned = out_of_fold.assign(
            label=out_of_fold["label"].where(~own, 1 - out_of_fold["label"])
        )
        again = judge_referral(turned, WANTED, ERROR_RATE)
        pd.testing.assert_frame_equal(
            again[again["person"] == "P06"].drop(columns="label"),
            judged[judged["person"] == "P06"].drop(columns="label"),
        )

    def test_the_order_of_rows_does_not_matter(self, out_of_fold, judged):
        mixed = out_of_fold.sample(frac=1, random_state=1)
        pd.testing.assert_frame_equal(judge_referral(mixed, WANTED, ERROR_RATE), judged)

    def test_every_row_is_judged_and_fits_its_schema(self, out_of_fold, judged):
        assert len(judged) == len(out_of_fold)
        schemas.referral_predictions.validate(judged.assign(method="large, pictures"))


class TestFigures:
    def value(self, table, metric, calibration=None):
        of = table["calibration"].isna() if calibration is None else table["calibration"]
        of = of if calibration is None else of == calibration
        return table[of & (table["metric"] == metric)].iloc[0]

    @pytest.mark.parametrize(
        ("metric", "of", "right"),
        [
            ("coverage_reactive", "label == 0", "holds_reactive == 1"),
            ("coverage_tumoral", "label == 1", "holds_tumoral == 1"),
            ("sensitivity", "label == 1", "referral == 1"),
            ("specificity", "label == 0", "referral == 0"),
            ("undecided", "label >= 0", "advice == 'look again'"),
            ("decided_sensitivity", "label == 1 and advice != 'look again'", "advice == 'refer'"),
            (
                "decided_specificity",
                "label == 0 and advice != 'look again'",
                "advice == 'do not refer'",
            ),
        ],
    )
    def test_shares_and_their_exact_intervals(self, judged, table, metric, of, right):
        counted = judged.query(of)
        share = len(counted.query(right)) / len(counted)
        found = self.value(table, metric)
        assert found["value"] == pytest.approx(share)
        n = round(len(counted) / 2)  # repeats
        k = round(share * n)
        low = beta.ppf(0.05, k, n - k + 1) if k else 0
        high = beta.ppf(0.95, k + 1, n - k) if k < n else 1
        assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
        assert found["patients"] == n

    def test_balanced_accuracy_of_those_decided(self, table):
        found = self.value(table, "decided_balanced_accuracy")
        parts = [self.value(table, f"decided_{n}")["value"] for n in ("sensitivity", "specificity")]
        assert found["value"] == pytest.approx(np.mean(parts))
        assert found["low"] < found["value"] <= found["high"]

    @pytest.mark.parametrize(("name", "column"), [("none", "probability"), ("beta", "beta")])
    def test_calibrations_are_scored_as_scikit_learn_does(self, judged, table, name, column):
        for metric, score in (("log_loss", log_loss), ("brier", brier_score_loss)):
            found = self.value(table, metric, name)
            assert found["value"] == pytest.approx(score(judged["label"], judged[column]))
            assert found["low"] < found["value"] < found["high"]

    def test_how_often_each_calibration_was_kept(self, judged, table):
        folds = judged.groupby(["repeat", "fold"])["kept"].first()
        for name in ("none", "platt", "beta"):
            assert self.value(table, "kept", name)["value"] == (folds == name).mean()

    def test_with_nobody_decided_there_is_no_figure_of_those_decided(self, judged):
        undecided = judged.assign(advice="look again", method="large, pictures")
        table = measure_referral(undecided, 100, 0.95, 0)
        found = table[table["metric"].str.startswith("decided_")]
        assert found[["value", "low", "high"]].isna().all(axis=None)
        assert (found["patients"] == 0).all()
        schemas.referral_evaluation.validate(table)

    def test_it_fits_its_schema(self, table):
        schemas.referral_evaluation.validate(table)
