import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphocytosis.decision.thresholds import threshold_for_sensitivity

# Coarse values, so that ties come up.
shares = st.integers(0, 10).map(lambda k: k / 10)
patients = st.lists(st.tuples(st.integers(0, 1), shares), min_size=1, max_size=30).filter(
    lambda rows: any(label for label, _ in rows)
)


class TestThreshold:
    @given(patients, st.floats(0.05, 1))
    def test_it_is_the_highest_that_finds_the_wanted_share(self, rows, wanted):
        label, probability = (np.array(column) for column in zip(*rows, strict=True))

        def sensitivity(threshold):
            return np.mean(probability[label == 1] >= threshold)

        found = threshold_for_sensitivity(label, probability, wanted)
        assert sensitivity(found) >= wanted - 1e-9
        higher = probability[probability > found]
        assert all(sensitivity(threshold) < wanted for threshold in higher)

    def test_19_of_20_are_95_percent(self):
        label = np.ones(20, dtype=int)
        assert threshold_for_sensitivity(label, np.arange(20) / 20, 0.95) == 1 / 20

    def test_finding_all_takes_the_lowest_tumoral_probability(self):
        label, probability = np.array([0, 1, 1, 0]), np.array([0.9, 0.3, 0.8, 0.1])
        assert threshold_for_sensitivity(label, probability, 1.0) == 0.3

    def test_no_tumoral_patient_is_refused(self):
        with pytest.raises(ValueError, match="at least one tumoral"):
            threshold_for_sensitivity(np.zeros(3, dtype=int), np.full(3, 0.5), 0.9)
