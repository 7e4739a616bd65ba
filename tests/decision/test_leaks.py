import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from lymphocytosis.decision.leaks import ERROR_RATE, judge_shuffles, judge_traces


def traces_of(rng, n):
    """What a cohort of two hospitals with two cameras may look like; no label is at hand."""
    jpeg = (rng.random(n) < 0.3).astype(float)
    return {
        "bag size": {"cell_count": rng.integers(8, 24, n).astype(float)},
        "date format": {"date_format": (rng.random(n) < 0.15).astype(float)},
        "row order": {"row_order": rng.permutation(n).astype(float)},
        "picture format": {"jpeg": jpeg, "png": 1 - jpeg},
        "picture size": {"picture_pixels": rng.choice([224.0**2, 360.0**2], n)},
        "converted pictures": {"converted_share": rng.beta(1, 5, n)},
    }


def shuffled(rng, label, folds=10, repeats=3, leak=0.0):
    """Predictions by one strong feature, which each fold's shuffle makes point either way."""
    feature = 2 * label + rng.normal(size=len(label))
    tables = []
    for repeat in range(repeats):
        fold = rng.permutation(np.arange(len(label)) % folds)
        turned = rng.choice([-1, 1], folds)[fold]
        logit = turned * feature + leak * (2 * label - 1)
        for method in ("large, shuffled labels", "small, shuffled labels"):
            probability = 1 / (1 + np.exp(-logit - 0.2 * rng.normal(size=len(label))))
            tables.append(
                pd.DataFrame(
                    {
                        "method": method, "repeat": repeat, "fold": fold, "label": label,
                        "probability": probability,
                    }
                )
            )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def judge_one(label, values, name="bag size"):
    return judge_traces(np.asarray(label), {name: {name: np.asarray(values, dtype=float)}}, 0).iloc[
        0
    ]


class TestErrorRate:
    def test_of_200_cohorts_without_a_leak_at_most_one_in_20_has_an_alarm(self):
        """All controls, figures and both tests together; classes and sizes as in real cohorts."""
        alarms = 0
        for seed in range(200):
            rng = np.random.default_rng(seed)
            label = rng.permutation(np.arange(rng.integers(12, 40)) % 3 > 0).astype(int)
            table = judge_traces(label, traces_of(rng, len(label)), seed)
            if seed % 10 == 0:  # slower, and the same for all
                table = pd.concat([table, judge_shuffles(shuffled(rng, label, 5, 2), seed)])
            alarms += (table["p"] <= ERROR_RATE).any()
        assert 0 < alarms <= 10


class TestTraces:
    def test_the_p_of_one_trace_is_that_of_mann_and_whitneys_exact_test(self):
        rng = np.random.default_rng(1)
        label = np.arange(30) % 2
        values = rng.normal(size=30) + 0.5 * label
        exact = mannwhitneyu(values[label == 1], values[label == 0], method="exact").pvalue
        # One half of the error rate is this test's, so p is doubled.
        assert judge_one(label, values)["p"] == pytest.approx(2 * exact, rel=0.2)

    @pytest.mark.parametrize("turn", [1, -1])
    def test_a_dozen_patients_sorted_by_class_are_found(self, turn):
        label = np.repeat([0, 1], 6)
        rng = np.random.default_rng(0)
        traces = traces_of(rng, 12) | {"row order": {"row_order": turn * np.arange(12.0)}}
        table = judge_traces(label, traces, 0).set_index("control")
        assert table.loc["row order", "p"] < 0.02
        assert (table["p"].drop("row order") > ERROR_RATE).all()

    def test_blocks_of_rows_and_alternating_rows_are_found(self):
        for label in (np.repeat([0, 1, 0, 1, 0, 1], 6), np.arange(36) % 2):
            found = judge_one(label, np.arange(36), "row order")
            assert found["p"] < 0.01
            assert "neighbouring rows" in found["found"]

    def test_a_table_sorted_by_class_is_told_by_its_auc_or_its_neighbours(self):
        label = np.repeat([0, 1], 30)
        assert judge_one(label, 3 * np.arange(60) + 5)["found"] == "AUC 1.000"

    def test_one_format_that_only_one_class_has_is_found_and_named(self):
        label = np.arange(40) % 2
        png = np.where(label == 1, np.arange(40) % 3 > 0, 0).astype(float)
        tiff = np.where(png == 0, np.arange(40) % 5 == 0, 0).astype(float)
        columns = {"jpeg": 1 - png - tiff, "png": png, "tiff": tiff}
        (found,) = judge_traces(label, {"picture format": columns}, 0).to_dict("records")
        assert found["p"] < 0.01
        assert found["found"] == f"AUC {roc_auc_score(label, png):.3f} (png)"

    def test_with_five_patients_nothing_can_be_told(self):
        found = judge_one([0, 0, 1, 1, 1], range(5), "row order")
        # Of ten orders of the labels two are sorted.
        assert found["p"] == found["least_p"] == pytest.approx(2 * 0.2, abs=0.05)

    def test_what_one_patient_alone_has_can_not_be_told(self):
        found = judge_one(np.arange(40) % 2, np.arange(40) == 3)
        assert found["least_p"] == 1

    def test_what_is_the_same_for_all_says_so(self):
        found = judge_one(np.arange(40) % 2, np.full(40, 7))
        assert (found["p"], found["found"]) == (1, "the same for all patients")

    def test_more_controls_make_none_more_certain(self):
        label = np.arange(30) % 2
        values = np.random.default_rng(3).normal(size=30) + 0.8 * label
        more = traces_of(np.random.default_rng(4), 30) | {"bag size": {"cell_count": values}}
        together = judge_traces(label, more, 0).set_index("control")
        assert together.loc["bag size", "p"] > judge_one(label, values)["p"]

    def test_the_same_seed_gives_the_same_table(self):
        label, traces = np.arange(30) % 2, traces_of(np.random.default_rng(0), 30)
        first, again, other = (judge_traces(label, traces, seed) for seed in (1, 1, 2))
        pd.testing.assert_frame_equal(first, again)
        assert not first.equals(other)


class TestShuffles:
    label = np.arange(60) % 2

    def test_a_leak_is_found_in_both_sizes(self):
        table = judge_shuffles(shuffled(np.random.default_rng(0), self.label, leak=4), 0)
        assert (table["p"] < 0.01).all()
        assert list(table["control"]) == ["large, shuffled labels", "small, shuffled labels"]

    def test_the_figure_is_the_mean_area_within_folds(self):
        predictions = shuffled(np.random.default_rng(1), self.label)
        large = predictions[predictions["method"].str.startswith("large")]
        areas = [
            roc_auc_score(fold["label"], fold["probability"])
            for _, fold in large.groupby(["repeat", "fold"])
        ]
        found = judge_shuffles(predictions, 0)["found"].iloc[0]
        assert found == f"AUC {np.mean(areas):.3f} within folds"

    def test_lucky_shuffles_of_a_strong_feature_are_no_leak(self):
        """Most folds' shuffles point the right way, and their areas are near 1."""
        rng = np.random.default_rng(2)
        predictions = shuffled(rng, self.label, folds=6, repeats=1)
        lucky = predictions["fold"].isin(range(4))
        predictions["probability"] = np.where(
            lucky, 0.2 + 0.6 * predictions["label"], 0.8 - 0.6 * predictions["label"]
        )
        table = judge_shuffles(predictions, 0)
        assert table["found"].iloc[0] == "AUC 0.667 within folds"
        assert (table["p"] > 0.3).all()

    def test_with_few_folds_nothing_can_be_told(self):
        few = shuffled(np.random.default_rng(0), self.label, folds=3, repeats=1, leak=9)
        # Three folds lie above one half once in eight draws.
        assert judge_shuffles(few, 0)["least_p"].tolist() == pytest.approx([0.25] * 2, abs=0.05)

    def test_a_fold_of_one_class_does_not_count(self):
        predictions = shuffled(np.random.default_rng(0), self.label)
        extra = predictions[predictions["label"] == 1].head(3).assign(fold=99)
        pd.testing.assert_frame_equal(
            judge_shuffles(pd.concat([predictions, extra]), 0), judge_shuffles(predictions, 0)
        )

    def test_without_shuffled_labels_there_is_nothing_to_judge(self):
        predictions = shuffled(np.random.default_rng(0), self.label).assign(method="pictures")
        assert judge_shuffles(predictions, 0).empty
