import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.metrics import balanced_accuracy_score

from lymphocytosis.decision.results import describe, interval, score, tabulate


def patients(test_labels):
    return pd.DataFrame(
        {
            "patient_id": ["P1", "P2", "P3", "P4", "T1", "T2", "T3"],
            "subset": ["train"] * 4 + ["test"] * 3,
            "label": pd.array([0, 0, 1, 1, *test_labels], dtype="Int8"),
        }
    )


def decisions(**by_patient):
    return pd.DataFrame({"patient_id": list(by_patient), "decision": list(by_patient.values())})


TEST = decisions(T1=0, T2=1, T3=1)
# P4 is in no validation part.
OUT_OF_FOLD = decisions(P1=0, P2=1, P3=1)


def row(test_labels, chosen=True):
    table = tabulate(patients(test_labels), {"large AVG": TEST}, {"large AVG": OUT_OF_FOLD}, chosen)
    assert len(table) == 1
    return table.iloc[0]


def test_labelled_test_patients_are_scored():
    # T1 right, T2 wrong among the reactive; T3 right: (1/2 + 1) / 2.
    scored = row([0, 0, 1])
    assert scored["test_balanced_accuracy"] == 0.75
    assert (scored["test_reactive"], scored["test_tumoral"]) == (2, 1)


def test_only_the_labelled_ones_count():
    scored = row([0, None, 1])
    assert scored["test_balanced_accuracy"] == 1
    assert (scored["test_patients"], scored["test_reactive"], scored["test_tumoral"]) == (3, 1, 1)


def test_without_labels_the_table_says_so():
    scored = row([None, None, None])
    assert pd.isna(scored["test_balanced_accuracy"])
    assert (scored["test_reactive"], scored["test_tumoral"]) == (0, 0)
    assert "test patients have no labels" in scored["note"]


def test_one_class_is_no_score():
    scored = row([1, 1, None])
    assert pd.isna(scored["test_balanced_accuracy"])
    assert "one class only" in scored["note"]


@pytest.mark.parametrize("test_labels", [[0, 0, 1], [None, None, None]])
def test_out_of_fold_figures_say_whom_they_cover_and_that_they_are_too_optimistic(test_labels):
    scored = row(test_labels)
    assert scored["out_of_fold_balanced_accuracy"] == 0.75
    assert (scored["out_of_fold_reactive"], scored["out_of_fold_tumoral"]) == (2, 1)
    assert "too optimistic" in scored["note"]


@pytest.mark.parametrize("test_labels", [[0, 0, 1], [1, 1, None], [None, None, None]])
def test_where_nothing_was_chosen_the_figures_are_not_called_too_optimistic(test_labels):
    note = row(test_labels, chosen=False)["note"]
    assert "only by models that did not train on it" in note
    assert not {"optimistic", "chosen", "checkpoints"} & set(note.replace(",", "").split())


def test_the_score_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth, decided = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    ids = [f"P{i}" for i in range(40)]
    found = score(
        pd.DataFrame({"patient_id": ids, "decision": decided}), pd.Series(truth, index=ids)
    )
    assert found["balanced_accuracy"] == balanced_accuracy_score(truth, decided)
    assert found["low"] < found["balanced_accuracy"] < found["high"]


class TestInterval:
    def test_two_right_decisions_of_two_are_not_certain(self):
        low, high = interval(np.array([True]), np.array([True]))
        # One of one is rarer than 2.5 % where the share is below 0.025.
        assert low == pytest.approx(1 - (1 - 0.025) / 2**0.5)
        assert high == 1

    @pytest.mark.parametrize(
        ("reactive", "tumoral", "specificity", "sensitivity"),
        [(8, 9, 0.95, 0.95), (6, 12, 0.7, 0.9), (2, 2, 0.5, 0.8)],
    )
    def test_it_holds_the_truth_in_95_of_100_cohorts_and_in_few_more(
        self, reactive, tumoral, specificity, sensitivity
    ):
        """Summed over every cohort that there may be, each by its probability."""
        true, covered = (specificity + sensitivity) / 2, 0.0
        for a in range(reactive + 1):
            for b in range(tumoral + 1):
                low, high = interval(np.arange(reactive) < a, np.arange(tumoral) < b)
                if low <= true <= high:
                    covered += binom.pmf(a, reactive, specificity) * binom.pmf(
                        b, tumoral, sensitivity
                    )
        assert 0.95 < covered < 0.995


def test_the_description_shows_every_method_and_missing_scores_as_a_dash():
    table = tabulate(
        patients([None, None, None]),
        {"small AVG": TEST, "bag-images SA (as_printed)": TEST},
        {"small AVG": OUT_OF_FOLD, "bag-images SA (as_printed)": OUT_OF_FOLD},
        chosen=True,
    )
    *lines, note = describe(table).splitlines()
    assert lines[1] == "test patients: no label is known"
    assert lines[2] == "out of fold: 2 reactive, 1 tumoral"
    low, high = interval(np.array([True, False]), np.array([True]))
    assert lines[4].endswith(f"SA (as_printed) 0.750 ({low:.3f} to {high:.3f})")
    assert max(map(len, lines)) <= 80
    assert "too optimistic" in note
