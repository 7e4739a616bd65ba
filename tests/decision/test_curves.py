import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve, roc_curve

from lymphocytosis.decision.curves import (
    FALSE_POSITIVE_RATES,
    RECALLS,
    calibration_bins,
    calibration_line,
    net_benefit,
    precisions,
    sensitivities,
)


def ones(p):
    return np.ones((1, p))


class TestRocAndPrecision:
    @pytest.mark.parametrize("seed", range(5))
    def test_they_go_through_scikit_learns_points(self, seed):
        rng = np.random.default_rng(seed)
        label = np.append([0, 1], rng.integers(0, 2, 40))
        probability = rng.integers(0, 8, 42) / 7
        counts = rng.integers(0, 3, 42)
        counts[:2] = 1
        given = probability[None], label, counts[None].astype(float)
        (roc,), (precision,) = sensitivities(*given), precisions(*given)
        repeated = np.repeat(label, counts), np.repeat(probability, counts)
        false_positive, true_positive, _ = roc_curve(*repeated, drop_intermediate=False)
        assert FALSE_POSITIVE_RATES[0] == roc[0] == 0
        np.testing.assert_allclose(roc[1:], np.interp(RECALLS, false_positive, true_positive))
        of_sklearn, recall, _ = precision_recall_curve(*repeated)
        for at, found in zip(RECALLS[1:], precision[1:], strict=True):
            # The highest threshold that reaches this recall.
            best = recall[recall >= at - 1e-9].min()
            assert found in [
                pytest.approx(p) for p, r in zip(of_sklearn, recall, strict=True) if r == best
            ]

    def test_a_perfect_order_has_precision_1_throughout(self):
        label = np.array([0, 0, 1, 1])
        assert (precisions(np.array([[0.1, 0.2, 0.3, 0.4]]), label, ones(4)) == 1).all()

    @pytest.mark.parametrize("curve", [sensitivities, precisions])
    def test_repeats_are_averaged(self, curve):
        rng = np.random.default_rng(0)
        label, probability = np.arange(30) % 2, rng.uniform(size=(2, 30))
        apart = [curve(one[None], label, ones(30)) for one in probability]
        np.testing.assert_allclose(curve(probability, label, ones(30)), np.mean(apart, axis=0))


class TestCalibration:
    def test_bins_hold_observed_shares_and_their_wilson_intervals(self):
        rng = np.random.default_rng(0)
        probability = rng.permutation(50) / 50
        label = (rng.uniform(size=50) < probability).astype(int)
        bins = calibration_bins(probability[None], label, bins=5, confidence=0.9)
        for number, (predicted, observed, low, high, patients) in enumerate(
            zip(*bins, strict=True)
        ):
            inside = (probability >= number / 5) & (probability < (number + 1) / 5)
            assert (predicted, observed, patients) == (
                pytest.approx(probability[inside].mean()), label[inside].mean(), 10,
            )  # fmt: skip
            interval = binomtest(label[inside].sum(), 10).proportion_ci(0.9, "wilson")
            assert (low, high) == pytest.approx(interval)

    def test_repeats_are_averaged_and_make_no_interval_narrower(self):
        rng = np.random.default_rng(0)
        probability, label = rng.uniform(size=(1, 50)), np.arange(50) % 2
        once, twice = (
            calibration_bins(np.repeat(probability, n, axis=0), label, 5, 0.95) for n in (1, 2)
        )
        for one, two in zip(once, twice, strict=True):
            np.testing.assert_allclose(one, two)

    def test_the_line_is_an_unpenalised_regression_on_the_log_odds(self):
        rng = np.random.default_rng(1)
        logit = rng.normal(size=(2, 300))
        label = (rng.uniform(size=300) < 1 / (1 + np.exp(-0.5 - 2 * logit[0]))).astype(int)
        found = calibration_line(1 / (1 + np.exp(-logit)), label)
        model = LogisticRegression(C=np.inf, tol=1e-9).fit(
            logit.ravel()[:, None], np.tile(label, 2)
        )
        assert found == pytest.approx((model.intercept_[0], model.coef_[0, 0]), abs=1e-4)

    @pytest.mark.parametrize("probability", [[0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1], [0.5] * 4])
    def test_classes_that_are_parted_or_not_ordered_at_all_have_no_line(self, probability):
        assert np.isnan(calibration_line(np.array([probability]), np.array([0, 0, 1, 1]))).all()


class TestNetBenefit:
    def test_it_weighs_needless_referrals_by_the_odds_of_the_threshold(self):
        label = np.array([1, 1, 0, 0, 0])
        probability = np.array([[0.9, 0.3, 0.6, 0.1, 0.1], [0.9, 0.3, 0.1, 0.1, 0.1]])
        # At 0.5: 1 of 5 found, needlessly referred 1 of 5 in the first repeat, at a cost of 1.
        # At 0.2: 2 of 5, likewise, at a cost of a quarter.
        found = net_benefit(probability, label, np.array([0.5, 0.2]))
        np.testing.assert_allclose(found, [(0 + 0.2) / 2, (0.35 + 0.4) / 2])

    def test_referring_all_is_worth_nothing_where_the_threshold_is_the_share_of_tumoral(self):
        label = np.array([1, 1, 1, 0])
        found = net_benefit(ones(4), label, np.array([0.0, 0.75]))
        np.testing.assert_allclose(found, [0.75, 0], atol=1e-12)
