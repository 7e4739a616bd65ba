import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, rankdata
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, recall_score, roc_auc_score

from lymphocytosis import schemas
from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import (
    calibration_error,
    compare,
    delong,
    draw_weights,
    measure,
    weighted_auc,
)

ENSEMBLE = "large, pictures + clinical"


def cell(table, method, rule, metric):
    rule_matches = table["rule"].isna() if rule is None else table["rule"] == rule
    return table[(table["method"] == method) & rule_matches & (table["metric"] == metric)].iloc[0]


class TestScores:
    @pytest.mark.parametrize(
        ("rule", "column"),
        [("AVG", "decision"), ("SA corrected", "sa_corrected"), ("referral", "referral")],
    )
    @pytest.mark.parametrize(
        ("metric", "score"),
        [
            ("balanced_accuracy", balanced_accuracy_score),
            ("sensitivity", recall_score),
            ("specificity", lambda y, d: recall_score(y, d, pos_label=0)),
        ],
    )
    def test_decisions_are_scored_as_scikit_learn_does(
        self, predictions, table, rule, column, metric, score
    ):
        rows = predictions[predictions["method"] == ENSEMBLE]
        expected = [
            score(part["label"].to_numpy(), part[column].to_numpy(dtype=int))
            for _, part in rows.groupby("repeat")
        ]
        found = cell(table, ENSEMBLE, rule, metric)
        assert found["value"] == pytest.approx(np.mean(expected))
        assert found["spread"] == pytest.approx(np.std(expected, ddof=1))

    @pytest.mark.parametrize(
        ("metric", "score"), [("auc", roc_auc_score), ("brier", brier_score_loss)]
    )
    def test_probabilities_are_scored_as_scikit_learn_does(self, predictions, table, metric, score):
        for method, rows in predictions.groupby("method"):
            expected = [score(p["label"], p["probability"]) for _, p in rows.groupby("repeat")]
            assert cell(table, method, None, metric)["value"] == pytest.approx(np.mean(expected))

    def test_the_order_of_rows_does_not_matter(self, predictions, table):
        mixed = predictions.groupby("method", sort=False).sample(frac=1, random_state=3)
        again = measure(mixed, resamples=300, confidence=0.9, seed=1)
        pd.testing.assert_frame_equal(again, table)

    def test_methods_without_an_ensemble_have_no_sa(self, table):
        assert set(table.loc[table["method"] == CLINICAL, "rule"].dropna()) == {"AVG", "referral"}

    def test_one_repeat_has_no_spread(self, nested):
        table = measure(nested({CLINICAL: 1.0}, repeats=1), 100, 0.95, 0)
        assert table["spread"].isna().all()

    def test_it_fits_its_schema(self, table, predictions):
        schemas.evaluation.validate(table)
        schemas.nested_predictions.validate(predictions[list(schemas.nested_predictions.columns)])


class TestIntervals:
    def test_they_are_those_of_a_plain_bootstrap(self, predictions, table):
        rows = predictions[predictions["method"] == ENSEMBLE]
        first = rows[rows["repeat"] == 1]
        weights = draw_weights(
            first["person"].to_numpy(dtype=object), first["label"].to_numpy(np.int64), 300, 1
        )[1:]
        found = cell(table, ENSEMBLE, "AVG", "balanced_accuracy")
        drawn = []
        for counts in weights.astype(int):
            taken = np.repeat(np.arange(len(first)), counts)
            drawn.append(
                np.mean(
                    [
                        balanced_accuracy_score(
                            part["label"].to_numpy()[taken], part["decision"].to_numpy()[taken]
                        )
                        for _, part in rows.groupby("repeat")
                    ]
                )
            )
        np.testing.assert_allclose([found["low"], found["high"]], np.percentile(drawn, [5, 95]))

    def test_a_method_equal_to_the_baseline_differs_by_exactly_zero(self, predictions):
        twin = predictions[predictions["method"] == CLINICAL].assign(method="twin")
        table = measure(pd.concat([predictions, twin], ignore_index=True), 200, 0.95, 0)
        columns = ["difference", "difference_low", "difference_high"]
        assert (table.loc[table["method"] == "twin", columns] == 0).all(axis=None)

    def test_sa_is_compared_with_the_baselines_average_and_a_referral_with_its_referral(
        self, table
    ):
        for rule, against in (("SA corrected", "AVG"), ("referral", "referral")):
            found = cell(table, ENSEMBLE, rule, "balanced_accuracy")
            base = cell(table, CLINICAL, against, "balanced_accuracy")
            assert found["difference"] == pytest.approx(found["value"] - base["value"])

    def test_same_seed_same_table_and_another_seed_another(self, predictions, table):
        pd.testing.assert_frame_equal(measure(predictions, 300, 0.9, 1), table)
        assert not measure(predictions, 300, 0.9, 2)["low"].equals(table["low"])


class TestResamples:
    persons = np.array(["a", "b", "b", "c", "d", "e"], dtype=object)
    label = np.array([0, 0, 1, 1, 1, 0])

    def test_patients_of_one_person_are_drawn_together(self):
        counts = draw_weights(self.persons, self.label, 50, 0)[1:]
        np.testing.assert_array_equal(counts[:, 1], counts[:, 2])

    def test_each_class_keeps_its_number_of_persons(self):
        counts = draw_weights(self.persons, self.label, 50, 0)[1:]
        # Person b counts as reactive, as its first patient does.
        assert (counts[:, [0, 1, 5]].sum(axis=1) == 3).all()
        assert (counts[:, [3, 4]].sum(axis=1) == 2).all()


class TestWeightedAuc:
    def test_weights_are_repetitions(self):
        rng = np.random.default_rng(0)
        label, probability = rng.integers(0, 2, 30), rng.integers(0, 6, 30) / 5
        weights = rng.integers(0, 4, 30)
        expected = roc_auc_score(np.repeat(label, weights), np.repeat(probability, weights))
        found = weighted_auc(probability[None], label, weights[None].astype(float))
        np.testing.assert_allclose(found, [[expected]])


class TestCalibrationError:
    def test_it_is_the_gap_in_each_bin(self):
        probability = np.array([[0.1] * 4 + [0.9] * 6])
        label = np.array([0] * 4 + [1] * 6)
        found = calibration_error(probability, label, np.ones((1, 10)))
        np.testing.assert_allclose(found, [[0.1]])

    def test_the_true_shares_have_none(self):
        probability = np.repeat([[0.0, 0.5, 1.0, 0.5, 1.0]], 2, axis=1)
        label = np.array([0, 0, 0, 1, 1, 1, 0, 1, 1, 1])
        assert calibration_error(probability, label, np.ones((1, 10)))[0, 0] == 0


SAMPLES = {"resamples": 300, "confidence": 0.9, "seed": 1}


class TestTwoEvaluations:
    def test_a_difference_is_that_of_the_scores(self, nested):
        first, second = nested({ENSEMBLE: 0.5}, seed=1), nested({ENSEMBLE: 3.0}, seed=2)
        table = compare(first, second, **SAMPLES)
        found = cell(table, ENSEMBLE, None, "auc")
        aucs = [
            np.mean([roc_auc_score(p["label"], p["probability"]) for _, p in one.groupby("repeat")])
            for one in (first, second)
        ]
        assert (found["first"], found["second"]) == pytest.approx(aucs)
        assert found["difference"] == pytest.approx(aucs[1] - aucs[0])
        assert 0 < found["difference_low"] < found["difference"] < found["difference_high"]
        assert (found["patients"], found["repeats"]) == (40, 3)

    def test_an_evaluation_does_not_differ_from_itself(self, predictions):
        table = compare(predictions, predictions.sample(frac=1, random_state=0), **SAMPLES)
        columns = ["difference", "difference_low", "difference_high"]
        np.testing.assert_array_equal(table[columns], 0)

    def test_the_pairs_are_those_of_the_differences_from_clinical_values(self, predictions, table):
        """The clinical method under another's name: `measure` has the same differences."""
        one, other = (
            predictions[predictions["method"] == method].assign(method="one")
            for method in (CLINICAL, ENSEMBLE)
        )
        found = cell(compare(one, other, **SAMPLES), "one", "AVG", "balanced_accuracy")
        expected = cell(table, ENSEMBLE, "AVG", "balanced_accuracy")
        for column in ("difference", "difference_low", "difference_high"):
            assert found[column] == pytest.approx(expected[column])

    @pytest.mark.parametrize("column", ["fold", "label"])
    def test_nothing_is_paired_on_other_folds_or_labels(self, predictions, column):
        other = predictions.assign(**{column: 1})
        assert compare(predictions, other, **SAMPLES) is None


class TestDelong:
    """Against the algorithm of Sun and Xu 2014, by mid-ranks."""

    @staticmethod
    def by_ranks(first, second, label):
        m, n = int(label.sum()), int((1 - label).sum())
        tumoral, reactive = [], []
        for scores in (first, second):
            own = [scores[label == value] for value in (1, 0)]
            together = rankdata(np.concatenate(own))
            tumoral.append((together[:m] - rankdata(own[0])) / n)
            reactive.append(1 - (together[m:] - rankdata(own[1])) / m)
        covariance = np.cov(tumoral) / m + np.cov(reactive) / n
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        z = (np.mean(tumoral[0]) - np.mean(tumoral[1])) / variance**0.5
        return 2 * norm.sf(abs(z))

    @pytest.mark.parametrize("seed", range(5))
    def test_p_is_that_of_mid_ranks(self, seed):
        rng = np.random.default_rng(seed)
        label = rng.permutation(np.repeat([0, 1], [20, 30]))
        # Rounded: some patients have equal probabilities.
        first, second = (np.round(rng.random(50) + a * label, 1) for a in (0.5, 0.2))
        found = delong(first[None], second[None], label)
        assert found == pytest.approx(self.by_ranks(first, second, label))

    def test_repeats_are_not_more_patients(self):
        rng = np.random.default_rng(0)
        label = np.repeat([0, 1], 20)
        first, second = rng.random((2, 1, 40)) + label * 0.3
        once = delong(first, second, label)
        again = delong(np.repeat(first, 5, axis=0), np.repeat(second, 5, axis=0), label)
        assert again == pytest.approx(once)

    def test_a_method_does_not_differ_from_itself(self):
        given = np.random.default_rng(0).random((2, 30))
        assert delong(given, 2 * given, np.repeat([0, 1], 15)) == 1
