import re

import pandas as pd
import pytest

from lymphocytosis.errors import UserError
from lymphocytosis.mil.splits import (
    check_patients_of,
    check_splits,
    draw_splits,
    take_supplied_splits,
)
from lymphocytosis.parameters import SplitParameters


def some_patients(reactive=50, tumoral=113, unlabelled=3, test=10, twins=()):
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
    paper = {"source": "stratified", "count": 5, "validation_share": 0.125}
    return SplitParameters(**(paper | changes))


class TestDrawnSplits:
    def test_sizes_are_those_of_the_authors_lists(self):
        drawn = draw_splits(some_patients(), settings(), seed=0)
        sizes = drawn.groupby(["split", "role"]).size().to_dict()
        assert {split for split, _ in sizes} == {1, 2, 3, 4, 5}
        for (_, role), size in sizes.items():
            assert size in {"train": (142, 143), "validation": (20, 21)}[role]

    def test_each_split_parts_the_labelled_training_patients(self):
        patients = some_patients()
        known = set(patients["patient_id"][:163])
        for _, rows in draw_splits(patients, settings(), seed=0).groupby("split"):
            assert rows["patient_id"].is_unique
            assert set(rows["patient_id"]) == known

    def test_every_validation_part_has_the_classes_shares(self):
        patients = some_patients().set_index("patient_id")
        drawn = draw_splits(some_patients(), settings(), seed=0)
        for _, rows in drawn[drawn["role"] == "validation"].groupby("split"):
            reactive = (patients.loc[rows["patient_id"], "label"] == 0).sum()
            assert reactive in (6, 7)  # 50 of 163, an eighth: 6.25

    def test_splits_differ_and_the_seed_makes_them(self):
        patients = some_patients()
        first, again, other = (draw_splits(patients, settings(), seed=s) for s in (0, 0, 9))
        assert first.equals(again)
        assert not first.equals(other)
        parts = first[first["role"] == "validation"].groupby("split")["patient_id"].agg(frozenset)
        assert parts.nunique() == 5

    def test_who_may_be_one_person_stands_in_one_part(self):
        # Of one class, of two classes, and one with a test patient, who is in no part.
        patients = some_patients(twins=[(0, 1), (2, 60), (3, 170)])
        for seed in range(8):
            for _, rows in draw_splits(patients, settings(), seed).groupby("split"):
                role = rows.set_index("patient_id")["role"]
                assert len(role) == 163
                assert role["P0"] == role["P1"]
                assert role["P2"] == role["P60"]
                assert "P170" not in role

    @pytest.mark.parametrize(
        ("reactive", "tumoral", "named"), [(1, 30, "1 reactive"), (30, 0, "0 tumoral")]
    )
    def test_too_few_patients_of_a_class_are_refused(self, reactive, tumoral, named):
        with pytest.raises(UserError, match=rf"{named}.*validation_share"):
            draw_splits(some_patients(reactive, tumoral), settings(), seed=0)

    @pytest.mark.parametrize(
        ("reactive", "tumoral", "share", "told"),
        [
            (1, 30, 0.1, "1 reactive and 30 tumoral persons, .* 1 more reactive person is needed"),
            (0, 1, 0.1, "2 more reactive persons are needed and 1 more tumoral person is needed"),
            (3, 3, 0.1, "that is 1 person, and 2 are needed; 0.334 is the least that gives 2"),
            (3, 4, 0.9, "it leaves 0 to train on, .* 0.714 is the most that leaves 2"),
        ],
    )
    def test_what_is_short_is_counted_and_the_advice_helps(self, reactive, tumoral, share, told):
        patients = some_patients(reactive, tumoral, 0, 0)
        with pytest.raises(UserError, match=told) as caught:
            draw_splits(patients, settings(validation_share=share), seed=0)
        if better := re.search(r"([0-9.]+) is the", str(caught.value)):
            draw_splits(patients, settings(validation_share=float(better[1])), seed=0)

    def test_patients_are_counted_where_they_are_not_the_persons(self):
        patients = some_patients(3, 30, 0, 0, twins=[(0, 1), (0, 2)])
        with pytest.raises(UserError, match=r"1 reactive and 30 tumoral persons \(33 patients\)"):
            draw_splits(patients, settings(), seed=0)

    def test_a_share_far_from_what_was_asked_is_refused(self):
        """A person of half of the patients makes one part or the other."""
        patients = some_patients(35, 30, 0, 0, twins=[(0, other) for other in range(1, 30)])
        with pytest.raises(UserError, match=r"(?s)split \d+: \d\d of 65 patients .* share of 0\.5"):
            draw_splits(patients, settings(count=20, validation_share=0.25), seed=0)

    @pytest.mark.parametrize("reactive", range(2, 12))
    @pytest.mark.parametrize("share", [0.05, 0.125, 0.5, 0.9])
    def test_what_is_not_refused_has_both_classes_in_both_parts(self, reactive, share):
        patients = some_patients(reactive, 20, 0, 0)
        try:
            drawn = draw_splits(patients, settings(validation_share=share), seed=0)
        except UserError:
            return
        label = patients.set_index("patient_id")["label"]
        for _, rows in drawn.groupby(["split", "role"]):
            assert set(label.loc[rows["patient_id"]]) == {0, 1}


def supplied(rows):
    lines = range(2, 2 + len(rows))
    return pd.DataFrame(rows, lines, columns=["split", "patient_id", "role"], dtype=str)


GOOD = [
    ("1", "P0", "train"),
    ("1", "P3", "train"),
    ("1", "P1", "validation"),
    ("1", "P4", "validation"),
]


class TestSuppliedSplits:
    patients = some_patients(3, 3, 1, 1)

    def test_a_good_table_passes_unchanged(self):
        taken = take_supplied_splits(supplied(GOOD), self.patients)
        assert taken.to_numpy().tolist() == [[1, p, r] for _, p, r in GOOD]

    def test_no_table_is_refused(self):
        with pytest.raises(UserError, match=r"splits\.source.*splits\.csv"):
            take_supplied_splits(None, self.patients)

    def test_a_missing_column_is_refused(self):
        with pytest.raises(UserError, match=r"each once; it has: split, patient_id\."):
            take_supplied_splits(supplied(GOOD).drop(columns="role"), self.patients)

    def test_a_duplicate_column_is_refused(self):
        twice = supplied(GOOD)[["split", "patient_id", "role", "role"]]
        with pytest.raises(UserError, match=r"each once; it has: .*role, role"):
            take_supplied_splits(twice, self.patients)

    def test_spaces_around_values_are_not_meant(self):
        padded = supplied([(f" {s}", f"{p} ", f" {r} ") for s, p, r in GOOD])
        taken = take_supplied_splits(padded, self.patients)
        assert taken.equals(take_supplied_splits(supplied(GOOD), self.patients))

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (("x", "P2", "train"), r"line 6: split is 'x'"),
            (("0", "P2", "train"), r"line 6: split is '0'"),
            (("1", "P77", "train"), r"line 6: 'P77' isn't a labelled"),
            (("1", "P6", "train"), r"line 6: 'P6' isn't a labelled"),
            (("1", "P7", "train"), r"line 6: 'P7' isn't a labelled"),
            (("1", "P2", "test"), r"line 6: role is 'test'"),
            (("1", "p2", "train"), r"line 6: 'p2' isn't a labelled .*; 'P2' differs in case"),
            (("1", "P0", "validation"), r"line 6: patient P0 is listed twice in split 1"),
            (("01", "P0", "train"), r"line 6: patient P0 is listed twice in split 1"),
        ],
    )
    def test_a_bad_row_is_named(self, row, message):
        with pytest.raises(UserError, match=message):
            take_supplied_splits(supplied([*GOOD, row]), self.patients)

    def test_a_part_without_a_class_is_named(self):
        with pytest.raises(UserError, match="split 1: its validation part has no tumoral patient"):
            take_supplied_splits(supplied(GOOD[:3]), self.patients)

    def test_an_empty_table_is_refused(self):
        with pytest.raises(UserError, match="no rows"):
            take_supplied_splits(supplied([]), self.patients)


class TestSplitsOfOtherPatients:
    """Tables from the disk, which another ingest may have made, or a hand edited."""

    def test_what_was_drawn_passes(self):
        patients = some_patients()
        check_splits(draw_splits(patients, settings(), seed=0), patients)

    @pytest.mark.parametrize("other", ["P999", "P164", "P170"])  # unknown, unlabelled, of the test
    def test_a_patient_who_is_no_labelled_one_is_named_with_the_row(self, other):
        patients = some_patients()
        splits = draw_splits(patients, settings(), seed=0)
        splits.loc[7, "patient_id"] = other
        told = rf"'splits' does not match the entry 'patients': 1 fault.*\n.*row 8: '{other}'"
        with pytest.raises(UserError, match=told):
            check_splits(splits, patients)
        with pytest.raises(UserError, match=told.replace("splits", "control_predictions")):
            check_patients_of("control_predictions", splits, patients)

    @pytest.mark.parametrize("role", ["train", "validation"])
    def test_a_part_that_lost_a_class_is_named(self, role):
        patients = some_patients()
        splits = draw_splits(patients, settings(), seed=0)
        reactive = splits["patient_id"].isin(patients["patient_id"][:50])
        lost = (splits["split"] == 2) & (splits["role"] == role) & reactive
        with pytest.raises(UserError, match=rf"split 2: its {role} part has no reactive patient"):
            check_splits(splits[~lost], patients)
