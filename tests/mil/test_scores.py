import numpy as np
import pytest

from lymphocytosis.mil.scores import balanced_accuracy


def test_a_fitted_threshold_balances_sensitivity_and_specificity():
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2
    probability = rng.random(40) * 0.4 + 0.1 * label  # everything under 0.5
    best_gap, expected = 2.0, None
    for cut in sorted(probability, reverse=True):
        sensitivity = (probability >= cut)[label == 1].mean()
        specificity = (probability < cut)[label == 0].mean()
        if abs(sensitivity - specificity) < best_gap:
            best_gap = abs(sensitivity - specificity)
            expected = (sensitivity + specificity) / 2
    assert balanced_accuracy(label, probability, "fitted") == pytest.approx(expected)
    assert balanced_accuracy(label, probability, "fixed") == 0.5
