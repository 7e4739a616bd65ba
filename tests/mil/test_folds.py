import pandas as pd
import pytest

from lymphocytosis.errors import UserError
from lymphocytosis.mil.folds import draw_folds, take_supplied_folds
from lymphocytosis.parameters import EvaluationParameters


def some_patients(reactive=34, tumoral=76, unlabelled=3, test=10, twins=()):
    """Patients P0, P1, ...; each pair of numbers in `twins` is one person."""
    label = [0] * reactive + [1] * tumoral + [None] * unlabelled + [1] * test
    n = len(label)
    person = [f"P{i}" for i in range(n)]
    for first, second in twins:
        person[second] = person[first]
    return pd.DataFrame(
        {
            "patient_id": [f"P{i}" for i in range(n)],
            "person": person,
            "subset": ["train"] * (n - test) + ["test"] * test,
            "label": pd.array(label, dtype="Int8"),
        }
    )


def settings(**changes):
    some = {
        "source": "stratified", "folds": 5, "repeats": 3, "seed": 0,
        "pretraining": "once", "resamples": 100, "confidence": 0.95,
    }  # fmt: skip
    return EvaluationParameters(**(some | changes))


class TestDrawnFolds:
    def test_every_labelled_training_patient_once_in_each_repeat(self):
        drawn = draw_folds(some_patients(), settings())
        assert list(drawn.columns) == ["repeat", "fold", "patient_id"]
        assert drawn["repeat"].unique().tolist() == [1, 2, 3]
        for _, rows in drawn.groupby("repeat"):
            assert sorted(rows["patient_id"]) == sorted(f"P{i}" for i in range(110))
            assert set(rows["fold"]) == {1, 2, 3, 4, 5}

    def test_folds_have_the_classes_shares_and_are_of_one_size(self):
        label = some_patients().set_index("patient_id")["label"]
        drawn = draw_folds(some_patients(), settings())
        for _, rows in drawn.groupby(["repeat", "fold"]):
            counts = label.loc[rows["patient_id"]].value_counts()
            assert counts[0] in (6, 7)  # of 34
            assert counts[1] in (15, 16)  # of 76

    @pytest.mark.parametrize("seed", range(5))
    def test_persons_stay_together(self, seed):
        # Within a class, across the classes, and three of them.
        twins = [(0, 5), (1, 40), (50, 60), (50, 70), (2, 34)]
        patients = some_patients(twins=twins)
        drawn = draw_folds(patients, settings(seed=seed)).merge(patients)
        assert drawn.groupby(["repeat", "person"])["fold"].nunique().max() == 1
        assert (drawn.groupby("repeat")["patient_id"].nunique() == 110).all()

    def test_repeats_differ_and_the_seed_makes_them(self):
        first, again, other = (draw_folds(some_patients(), settings(seed=s)) for s in (0, 0, 50))
        assert first.equals(again)
        parts = {
            table.groupby(["repeat", "fold"])["patient_id"].agg(frozenset).loc[repeat, 1]
            for table in (first, other)
            for repeat in (1, 2, 3)
        }
        assert len(parts) == 6

    def test_fewer_repeats_are_the_first_ones(self):
        all_of_them = draw_folds(some_patients(), settings())
        one = draw_folds(some_patients(), settings(repeats=1))
        assert all_of_them[all_of_them["repeat"] == 1].equals(one)

    def test_patients_without_a_label_and_test_patients_change_nothing(self):
        alone = draw_folds(some_patients(unlabelled=0, test=0), settings())
        assert draw_folds(some_patients(), settings()).equals(alone)

    @pytest.mark.parametrize(
        ("reactive", "tumoral", "twins", "named"),
        [
            (4, 30, [], "4 reactive and 30 tumoral"),
            (30, 0, [], "30 reactive and 0 tumoral"),
            # Five patients and only four persons.
            (5, 30, [(0, 1)], "4 reactive and 30 tumoral"),
        ],
    )
    def test_too_few_persons_are_refused(self, reactive, tumoral, twins, named):
        with pytest.raises(UserError, match=rf"evaluation\.folds is 5.*{named} persons"):
            draw_folds(some_patients(reactive, tumoral, twins=twins), settings())

    @pytest.mark.parametrize("reactive", range(2, 8))
    @pytest.mark.parametrize("folds", [2, 3, 5])
    def test_what_is_not_refused_holds_out_both_classes(self, reactive, folds):
        patients = some_patients(reactive, 9, 0, 0, twins=[(0, reactive)])
        try:
            drawn = draw_folds(patients, settings(folds=folds))
        except UserError:
            return
        label = patients.set_index("patient_id")["label"]
        assert len(drawn.groupby(["repeat", "fold"])) == 3 * folds
        for _, rows in drawn.groupby(["repeat", "fold"]):
            assert set(label.loc[rows["patient_id"]]) == {0, 1}

    def test_what_is_drawn_would_be_taken_if_it_were_supplied(self):
        patients = some_patients(2, 9, 0, 0)
        try:
            drawn = draw_folds(patients, settings(folds=2))
        except UserError:
            return
        assert_taken(drawn, patients)


def supplied(rows):
    lines = range(2, 2 + len(rows))
    return pd.DataFrame(rows, lines, columns=["repeat", "fold", "patient_id"], dtype=str)


def assert_taken(drawn, patients):
    table = supplied(drawn.astype(str).to_numpy().tolist())
    taken = take_supplied_folds(table, patients)
    ordered = drawn.sort_values(["repeat", "fold", "patient_id"], ignore_index=True)
    assert taken.to_numpy().tolist() == ordered.to_numpy().tolist()


# Six labelled patients in two repeats; P6 has no label, P7 is a test patient.
FIRST = [("1", "1" if i in (0, 3) else "2" if i in (1, 4) else "3", f"P{i}") for i in range(6)]
SECOND = [("2", f, f"P{i}") for (_, f, _), i in zip(FIRST, (1, 5, 0, 4, 2, 3), strict=True)]


def refused(rows, message, patients=None):
    if patients is None:
        patients = some_patients(3, 3, 1, 1)
    with pytest.raises(UserError, match=message) as caught:
        take_supplied_folds(supplied(rows), patients)
    assert "folds.csv" in str(caught.value)
    return str(caught.value)


class TestSuppliedFolds:
    patients = some_patients(3, 3, 1, 1)

    def test_a_good_table_comes_back_typed_and_sorted(self):
        taken = take_supplied_folds(supplied([*SECOND, *FIRST]), self.patients)
        assert taken.dtypes.astype(str).tolist()[:2] == ["int64", "int64"]
        expected = sorted([int(r), int(f), p] for r, f, p in [*FIRST, *SECOND])
        assert taken.to_numpy().tolist() == expected

    def test_drawn_folds_may_be_supplied(self):
        patients = some_patients(twins=[(0, 5), (1, 40)])
        assert_taken(draw_folds(patients, settings()), patients)

    def test_other_columns_and_blanks_are_ignored(self):
        padded = supplied([(f" {r}", f"{f} ", f" {p} ") for r, f, p in FIRST])
        padded = padded.assign(note="x").rename(columns={"fold": " fold "})
        taken = take_supplied_folds(padded, self.patients)
        assert taken.equals(take_supplied_folds(supplied(FIRST), self.patients))

    def test_no_table_is_refused(self):
        with pytest.raises(UserError, match=r"evaluation\.source.*folds\.csv.*repeat, fold"):
            take_supplied_folds(None, self.patients)

    @pytest.mark.parametrize("column", ["repeat", "fold", "patient_id"])
    def test_a_missing_column_is_refused(self, column):
        with pytest.raises(UserError, match="must have the columns repeat, fold, patient_id"):
            take_supplied_folds(supplied(FIRST).drop(columns=column), self.patients)

    def test_a_duplicate_column_is_refused(self):
        twice = supplied(FIRST)[["repeat", "fold", "patient_id", "fold"]]
        with pytest.raises(UserError, match=r"each once; it has: .*fold, patient_id, fold"):
            take_supplied_folds(twice, self.patients)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (("x", "1", "P2"), r"line 8: repeat is 'x'; expected 1, 2"),
            (("0", "1", "P2"), r"line 8: repeat is '0'"),
            (("", "1", "P2"), r"line 8: repeat is ''"),
            (("1.0", "1", "P2"), r"line 8: repeat is '1\.0'"),
            (("1", "-1", "P2"), r"line 8: fold is '-1'"),
            (("1", "0", "P2"), r"line 8: fold is '0'"),
            (("1", "1234567", "P2"), r"line 8: fold is '1234567'"),
            (("1", "1", "P77"), r"line 8: 'P77' isn't a labelled training patient"),
            (("1", "1", "P6"), r"line 8: 'P6' isn't a labelled training patient"),
            (("1", "1", "P7"), r"line 8: 'P7' isn't a labelled training patient"),
        ],
    )
    def test_a_value_that_can_not_be_used_is_named_with_its_line(self, row, message):
        assert "1 fault(s)" in refused([*FIRST, row], message)

    def test_all_faults_are_reported_at_once(self):
        told = refused([*FIRST, ("x", "y", "P77"), ("1", "?", "P0")], r"4 fault\(s\)")
        for fault in ("line 8: repeat", "line 8: fold", "line 8: 'P77'", "line 9: fold is '?'"):
            assert fault in told

    @pytest.mark.parametrize("fold", ["1", "2"])
    def test_a_patient_twice_in_a_repeat_is_refused(self, fold):
        refused([*FIRST, ("1", fold, "P0")], "repeat 1: patient P0 is listed 2 times")

    def test_a_patient_left_out_of_a_repeat_is_refused(self):
        told = refused([*FIRST, *SECOND[1:]], "repeat 2: patient P1 is listed 0 times")
        assert "1 fault(s)" in told

    def test_one_person_in_different_folds_is_refused(self):
        patients = some_patients(3, 3, 1, 1, twins=[(0, 4)])
        told = refused(FIRST, "repeat 1: P0 .*different folds", patients)
        assert "1 fault(s)" in told

    def test_a_person_in_one_fold_is_accepted(self):
        patients = some_patients(3, 3, 1, 1, twins=[(0, 3)])
        assert len(take_supplied_folds(supplied(FIRST), patients)) == 6

    def test_a_fold_that_leaves_too_few_to_train_on_is_refused(self):
        rows = [("1", "1" if i in (0, 1) else "2", f"P{i}") for i in range(6)]
        told = refused(rows, "repeat 1, fold 1: leaves fewer than two reactive persons")
        assert "repeat 1, fold 2: leaves fewer than two tumoral persons" in told

    def test_two_entries_of_one_person_do_not_make_two(self):
        # 4 reactive patients; fold 1 holds out P2 and P3, and P0 and P1 are one person.
        patients = some_patients(4, 4, 1, 1, twins=[(0, 1)])
        rows = [("1", "1" if i in (2, 3, 6, 7) else "2", f"P{i}") for i in range(8)]
        told = refused(rows, "fold 1: leaves fewer than two reactive persons", patients)
        assert "1 fault(s)" in told

    def test_a_single_fold_leaves_nobody_to_train_on(self):
        rows = [("1", "1", f"P{i}") for i in range(6)]
        refused(rows, "leaves fewer than two reactive and tumoral persons")

    def test_an_empty_table_is_refused(self):
        refused([], "no rows")
