import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from lymphocytosis import schemas
from lymphocytosis.decision.controls import CLINICAL, judge_controls, predict_controls


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(0)
    n = 60
    label = np.arange(n) % 2
    ids = [f"P{i:02d}" for i in range(n)]
    patients = pd.DataFrame(
        {
            "patient_id": ids,
            "person": ids,
            "label": pd.array(label, dtype="Int8"),
            "age_years": rng.integers(30, 90, n) + 10 * label,
            "lymphocyte_count": np.exp(rng.normal(2 + label, 0.5)),
            "cell_count": rng.integers(10, 20, n),
        }
    )
    # The rows stand sorted by class: what a table joined from two sources looks like.
    order = np.argsort(label, kind="stable").argsort()
    traces = pd.DataFrame(
        {
            "patient_id": ids,
            "date_format": rng.integers(0, 2, n),
            "row_order": order,
            "format_jpeg": 1.0,
            "picture_pixels": 224.0**2,
            "converted_share": rng.uniform(0, 1, n),
        }
    )
    folds = pd.DataFrame({"repeat": 1, "fold": np.arange(n) // 2 % 5 + 1, "patient_id": ids})
    return patients, traces, folds


@pytest.fixture(scope="module")
def predicted(cohort):
    return predict_controls(*cohort, wanted_sensitivity=0.9, seed=0)


class TestControls:
    def test_every_method_predicts_every_patient_once(self, cohort, predicted):
        schemas.control_predictions.validate(predicted)
        assert (predicted["method"].value_counts() == len(cohort[0])).all()
        assert set(predicted["method"]) == {
            CLINICAL, "clinical, gradient boosting", "bag size", "date format", "row order",
            "converted pictures",
        }  # fmt: skip

    def test_a_trace_that_all_patients_share_is_no_method(self, predicted):
        assert not {"picture format", "picture size"} & set(predicted["method"])

    def test_what_tells_the_label_is_found_and_what_does_not_is_not(self, cohort, predicted):
        label = cohort[0].set_index("patient_id")["label"]
        auc = {
            method: roc_auc_score(label.loc[rows["patient_id"]].astype(int), rows["probability"])
            for method, rows in predicted.groupby("method")
        }
        assert auc["row order"] > 0.95
        assert auc[CLINICAL] > 0.85
        assert auc["date format"] < 0.7
        assert auc["bag size"] < 0.7

    def test_the_baseline_is_a_logistic_regression_on_log_count_and_age(self, cohort, predicted):
        patients, _, folds = cohort
        values = np.column_stack([np.log(patients["lymphocyte_count"]), patients["age_years"]])
        train = (folds["fold"] != 1).to_numpy()
        mean, std = values[train].mean(axis=0), values[train].std(axis=0)
        model = LogisticRegression(class_weight="balanced")
        model.fit((values[train] - mean) / std, patients["label"][train].astype(int))
        expected = model.predict_proba((values[~train] - mean) / std)[:, 1]
        found = predicted[(predicted["method"] == CLINICAL) & (predicted["fold"] == 1)]
        np.testing.assert_allclose(found["probability"], expected)

    def test_held_out_labels_touch_nothing(self, cohort, predicted):
        patients, traces, folds = cohort
        out = folds["fold"] == 1
        swapped = patients.assign(
            label=patients["label"].where(~out.to_numpy(), 1 - patients["label"])
        )
        again = predict_controls(swapped, traces, folds, 0.9, 0)
        of_fold = predicted["fold"] == 1
        pd.testing.assert_frame_equal(again[of_fold], predicted[of_fold])

    def test_three_persons_of_each_class_are_enough_to_learn_from(self, cohort):
        patients, traces, _ = cohort
        ids = list(patients["patient_id"][:8])
        folds = pd.DataFrame({"repeat": 1, "fold": [1, 1, 2, 2, 3, 3, 4, 4], "patient_id": ids})
        few = predict_controls(patients, traces, folds, 0.9, 0)
        assert np.isfinite(few[["probability", "threshold"]].to_numpy()).all()
        assert (few["method"].value_counts() == 8).all()
        # The rows are sorted by class. A leaf of eight patients would be all that there are.
        order = few[few["method"] == "row order"]
        label = patients.set_index("patient_id")["label"].loc[order["patient_id"]].astype(int)
        assert roc_auc_score(label, order["probability"]) > 0.9


class TestJudgedControls:
    def test_of_all_traces_the_order_of_rows_alone_tells_the_label(self, cohort):
        patients, traces, folds = cohort
        table = judge_controls(patients, traces, folds, 0).set_index("control")
        schemas.control_tests.validate(table.reset_index())
        assert list(table.index) == [
            "bag size", "date format", "row order", "picture format", "picture size",
            "converted pictures",
        ]  # fmt: skip
        assert list(table.index[table["p"] <= 0.05]) == ["row order"]
        assert table.loc["picture format", "found"] == "the same for all patients"

    def test_formats_sizes_and_conversions_that_one_class_has_are_found(self, cohort):
        patients, traces, folds = cohort
        of_tumoral = patients["label"].astype(float)
        leaking = traces.assign(
            row_order=np.random.default_rng(0).permutation(len(traces)),
            format_jpeg=1 - of_tumoral,
            format_png=of_tumoral,
            picture_pixels=224.0**2 * (1 + of_tumoral),
            converted_share=of_tumoral,
        )
        table = judge_controls(patients, leaking, folds, 0).set_index("control")
        found = table.index[table["p"] <= 0.01]
        assert list(found) == ["picture format", "picture size", "converted pictures"]

    def test_a_person_counts_once(self, cohort):
        """Thirty patients who are one person are no thirty witnesses."""
        patients, traces, folds = cohort
        same = patients["label"].to_numpy() == 1
        one = patients.assign(person=np.where(same, "P01", patients["person"]))
        table = judge_controls(one, traces, folds, 0).set_index("control")
        assert table.loc["row order", "least_p"] > 0.05

    def test_patients_outside_the_folds_take_no_part(self, cohort):
        patients, traces, folds = cohort
        test = patients.head(1).assign(patient_id="T1", person="T1", label=pd.NA)
        more = pd.concat([patients, test.astype({"label": "Int8"})], ignore_index=True)
        pd.testing.assert_frame_equal(
            judge_controls(more, traces, folds, 0), judge_controls(patients, traces, folds, 0)
        )
