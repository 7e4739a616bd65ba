import pandas as pd
import pytest

from lymphocytosis.decision.results import describe, tabulate


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


def row(test_labels):
    table = tabulate(patients(test_labels), {"large AVG": TEST}, {"large AVG": OUT_OF_FOLD})
    assert len(table) == 1
    return table.iloc[0]


def test_labelled_test_patients_are_scored():
    # T1 right, T2 wrong among the reactive; T3 right: (1/2 + 1) / 2.
    assert row([0, 0, 1])["test_balanced_accuracy"] == 0.75


def test_only_the_labelled_ones_count():
    scored = row([0, None, 1])
    assert scored["test_balanced_accuracy"] == 1
    assert (scored["test_patients"], scored["test_labelled"]) == (3, 2)


def test_without_labels_the_table_says_so():
    scored = row([None, None, None])
    assert pd.isna(scored["test_balanced_accuracy"])
    assert scored["test_labelled"] == 0
    assert "test patients have no labels" in scored["note"]


def test_one_class_is_no_score():
    scored = row([1, 1, None])
    assert pd.isna(scored["test_balanced_accuracy"])
    assert "one class only" in scored["note"]


@pytest.mark.parametrize("test_labels", [[0, 0, 1], [None, None, None]])
def test_out_of_fold_figures_say_whom_they_cover_and_that_they_flatter(test_labels):
    scored = row(test_labels)
    assert scored["out_of_fold_balanced_accuracy"] == 0.75
    assert scored["out_of_fold_patients"] == 3
    assert "flatter" in scored["note"]


def test_the_description_shows_every_method_and_missing_scores_as_a_dash():
    table = tabulate(
        patients([None, None, None]),
        {"small AVG": TEST, "large SA (corrected)": TEST},
        {"small AVG": OUT_OF_FOLD, "large SA (corrected)": OUT_OF_FOLD},
    )
    lines = describe(table).splitlines()
    assert lines[1].split() == ["small", "AVG", "-", "0.750"]
    assert lines[2].split() == ["large", "SA", "(corrected)", "-", "0.750"]
    assert "3 patients, 0 with a known label" in lines[3]
    assert "flatter" in lines[4]
