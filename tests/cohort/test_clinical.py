import re
from datetime import date, timedelta
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphocytosis.cohort.clinical import (
    read_patients,
    table_traces,
)
from lymphocytosis.cohort.pictures import PictureFile, PictureFiles
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ClinicalParameters

AT = date(2021, 3, 1)
BASE = yaml.safe_load((Path(__file__).parents[2] / "conf/base/parameters.yml").read_text())
PATIENT = {"LABEL": "0", "GENDER": "F", "DOB": "5/1/1950", "LYMPH_COUNT": "5.5"}


def table_of(rows):
    """The table as the dataset gives it: text, the index being the line in the file."""
    rows = [PATIENT | row for row in rows]
    return pd.DataFrame(rows, index=range(2, len(rows) + 2), dtype="str")


def pictures_of(ids, subset="train"):
    return PictureFiles(
        [[PictureFile(subset, p, "0.png", f"{subset}set/{p}/0.png", bytes) for p in ids]]
    )


def clinical(columns=None, labels=None, **changes):
    base = BASE["clinical"]
    return ClinicalParameters(
        **base
        | {"columns": base["columns"] | (columns or {}), "labels": base["labels"] | (labels or {})}
        | changes
    )


COLUMNS = clinical().columns


def read(rows, pictures=None, at=AT, **changes):
    """The patients and the warnings."""
    return read_whole(rows, pictures, reference_date=at, **changes)[:2]


def read_whole(rows, pictures=None, **changes):
    if pictures is None:
        pictures = pictures_of(dict.fromkeys(str(row["ID"]).strip() for row in rows))
    return read_patients(table_of(rows), pictures, clinical(**changes))


class TestTypedPatients:
    def test_columns_types_and_values(self):
        rows = [
            {"ID": "P2", "LABEL": "1", "GENDER": "M", "DOB": "02-03-1950", "LYMPH_COUNT": "2.28"},
            {"ID": "P1", "LABEL": "0", "GENDER": "F", "DOB": "3/1/1950", "LYMPH_COUNT": "295"},
            {"ID": "P3", "LABEL": "-1", "GENDER": "F", "DOB": "1/2/1950", "LYMPH_COUNT": "1e1"},
        ]
        pictures = PictureFiles([pictures_of(["P1", "P2"]), pictures_of(["P3"], "test")])
        patients, warnings = read(rows, pictures)
        assert warnings == []
        assert patients.dtypes.astype(str).to_dict() == {
            "patient_id": "str",
            "person": "str",
            "subset": "str",
            "label": "Int8",
            "age_years": "int16",
            "sex": "str",
            "lymphocyte_count": "float64",
        }
        assert patients.astype(object).where(patients.notna(), None).to_numpy().tolist() == [
            ["P1", "P1", "train", 0, 71, "F", 295.0],
            ["P2", "P2", "train", 1, 70, "M", 2.28],
            ["P3", "P3", "test", None, 71, "F", 10.0],
        ]

    @settings(max_examples=20)
    @given(st.permutations(range(6)))
    def test_order_of_rows_does_not_matter(self, order):
        rows = [
            {"ID": f"P{n}", "LABEL": "01"[n % 2], "DOB": f"{n + 1}/1/19{n + 20}"} for n in range(6)
        ]
        expected, _ = read(rows)
        shuffled, _ = read([rows[n] for n in order])
        pd.testing.assert_frame_equal(shuffled, expected)

    @pytest.mark.parametrize("patient_id", ["007", "1e3", "NA", "nan", "Ä 7", "a;b'c", "[bold]7%"])
    def test_an_id_stays_the_text_it_is(self, patient_id):
        patients, _ = read([{"ID": patient_id}])
        assert patients["patient_id"].tolist() == [patient_id]

    def test_spaces_around_values_do_not_count(self):
        row = {
            "ID": " P1 ",
            "LABEL": " 1",
            "GENDER": "m ",
            "DOB": " 5/1/1950",
            "LYMPH_COUNT": " 7 ",
        }
        patients, _ = read([row])
        assert patients.iloc[0].tolist() == ["P1", "P1", "train", 1, 70, "M", 7.0]

    @pytest.mark.parametrize(("text", "sex"), [("f", "F"), ("F", "F"), ("m", "M"), ("M", "M")])
    def test_sex_is_read_in_any_case(self, text, sex):
        patients, warnings = read([{"ID": "P1", "GENDER": text}])
        assert (patients["sex"].tolist(), warnings) == ([sex], [])

    @pytest.mark.parametrize("text", ["", "x", "female"])
    def test_another_sex_is_unknown_with_a_warning(self, text):
        patients, warnings = read([{"ID": "P1", "GENDER": text}])
        assert patients["sex"].isna().tolist() == [True]
        assert warnings == ["GENDER: 1 of 1 values are neither F nor M, taken as unknown: P1."]

    @pytest.mark.parametrize(
        ("text", "label"),
        [("0", 0), ("1", 1), ("1.0", 1), ("0.0", 0), ("-1", None), ("-1.0", None)],
    )
    def test_labels_may_have_passed_through_a_spreadsheet(self, text, label):
        patients, _ = read([{"ID": "P1", "LABEL": text}], pictures_of(["P1"], "test"))
        assert patients["label"].astype(object).where(patients["label"].notna(), None)[0] == label

    def test_age_is_that_at_the_reference_date(self):
        row = {"ID": "P1", "DOB": "3/1/1950"}
        ages = [read([row], at=AT + timedelta(days=n))[0]["age_years"][0] for n in (-1, 0, 365)]
        assert ages == [70, 71, 72]

    def test_other_columns_are_ignored(self):
        table = table_of([{"ID": "P1"}]).assign(**{"": "0", "SMOKER": "yes"})
        patients, *_ = read_patients(table, pictures_of(["P1"]), clinical())
        assert patients["patient_id"].tolist() == ["P1"]


class TestPersons:
    ROWS = (
        {"ID": "P4", "DOB": "5/1/1950", "GENDER": "F"},
        {"ID": "P1", "DOB": "5/1/1950", "GENDER": "M"},
        {"ID": "P3", "DOB": "01-05-1950", "GENDER": "f"},
        {"ID": "P2", "DOB": "1/5/1950", "GENDER": "F"},
        {"ID": "P5", "DOB": " 1950-05-02", "GENDER": "F ", "LABEL": "1"},
        {"ID": "P6", "DOB": "5/1/1950", "GENDER": "?"},
        {"ID": "P7", "DOB": "5/1/1951", "GENDER": "F"},
    )
    PERSONS: ClassVar = {
        "P1": "P1", "P2": "P2", "P3": "P3", "P4": "P3", "P5": "P5", "P6": "P6", "P7": "P7",
    }  # fmt: skip

    def persons(self, rows, pictures=None):
        patients, _ = read(rows, pictures)
        return dict(zip(patients["patient_id"], patients["person"], strict=True))

    def test_patients_of_one_birth_date_and_sex_are_one_person_named_by_the_first_id(self):
        assert self.persons(self.ROWS) == self.PERSONS

    @settings(max_examples=20)
    @given(st.permutations(range(7)))
    def test_order_of_rows_does_not_matter(self, order):
        assert self.persons([self.ROWS[n] for n in order]) == self.PERSONS

    def test_a_person_may_be_in_both_subsets(self):
        ids = [row["ID"] for row in self.ROWS]
        pictures = PictureFiles([pictures_of(ids[1:]), pictures_of(ids[:1], "test")])
        assert self.persons(self.ROWS, pictures) == self.PERSONS

    def test_a_person_is_warned_of_where_it_has_more_than_one_patient(self):
        patients, warnings = read(self.ROWS)
        several = (
            patients.groupby("person")["patient_id"].agg(list).loc[lambda ids: ids.map(len) > 1]
        )
        shared = [text for text in warnings if "birth date" in text]
        assert len(several) == len(shared) == 1
        assert shared[0].startswith(f"Patients {', '.join(several.iloc[0])} share")


class TestPlaceholders:
    """A birth date that can't be a person's makes no person of several patients."""

    def apart(self, rows, reason):
        """All patients are persons of their own, and one warning says why."""
        patients, warnings = read(rows)
        assert patients["person"].tolist() == patients["patient_id"].tolist()
        told = [text for text in warnings if "taken for a placeholder" in text]
        assert len(told) == 1
        assert reason in told[0]
        return warnings

    def test_one_date_for_everybody(self):
        self.apart([{"ID": f"P{n}", "DOB": "1/1/1950"} for n in range(10, 40)], "they are 30")

    def test_two_with_labels_that_differ(self):
        rows = [{"ID": f"P{n}", "LABEL": str(n)} for n in (0, 1)]
        self.apart(rows, "P0, P1 share the birth date 1950-05-01 and sex, and their labels")

    def test_a_label_that_is_not_known_differs_from_none(self):
        patients, _ = read([{"ID": "P0", "LABEL": "-1"}, {"ID": "P1", "LABEL": "1"}])
        assert patients["person"].tolist() == ["P0", "P0"]

    def test_an_impossible_age(self):
        warnings = self.apart(
            [{"ID": f"P{n}", "DOB": "2/2/1902"} for n in (0, 1)], "their age is 119"
        )
        assert "DOB: 2 of 2 patients are older than 110 years" in " ".join(warnings)

    def test_a_day_that_stands_for_a_year(self):
        """Where only the year may leave the hospital, many are born on the 1st of January."""
        years = [*range(1940, 1950), 1949]
        rows = [{"ID": f"P{n}", "DOB": f"{year}-01-01"} for n, year in enumerate(years, start=10)]
        self.apart(rows, "P19, P20 share the birth date 1949-01-01 and sex, and 11 patients have")

    @settings(max_examples=30)
    @given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("FM"), st.sampled_from("01"))))
    def test_a_person_is_at_most_two_patients_who_agree(self, drawn):
        rows = [
            {"ID": f"P{n}", "DOB": f"{1950 + year}-05-{year + 1}", "GENDER": sex, "LABEL": label}
            for n, (year, sex, label) in enumerate(drawn)
        ]
        if not rows:
            return
        patients, _ = read(rows)
        given = pd.DataFrame(rows).set_index("ID")
        for person, ids in patients.groupby("person")["patient_id"]:
            assert person in set(ids)
            assert len(ids) <= 2
            assert len(given.loc[ids, ["DOB", "GENDER", "LABEL"]].drop_duplicates()) == 1


class TestForms:
    """The table as hospitals write it."""

    ROWS = (
        {"ID": "P1", "LYMPH_COUNT": "6.4"},
        {"ID": "P2", "LYMPH_COUNT": "12", "LABEL": "1", "DOB": "12/5/1933"},
        {"ID": "P3", "LYMPH_COUNT": "7.502", "LABEL": "-1", "GENDER": "M"},
    )

    def same(self, rows, **changes):
        expected, _ = read(self.ROWS)
        patients, _ = read(rows, **changes)
        pd.testing.assert_frame_equal(patients, expected)

    def test_decimal_commas(self):
        self.same(
            [row | {"LYMPH_COUNT": row["LYMPH_COUNT"].replace(".", ",")} for row in self.ROWS]
        )

    def test_iso_dates(self):
        dates = ["1950-05-01", "1933-12-05 00:00:00", "1950-5-1T08:15"]
        self.same([row | {"DOB": day} for row, day in zip(self.ROWS, dates, strict=True)])

    def test_day_first_behind_slashes_where_the_parameter_says_so(self):
        dates = ["1/5/1950", "5/12/1933", "01/05/1950"]
        rows = [row | {"DOB": day} for row, day in zip(self.ROWS, dates, strict=True)]
        self.same(rows, slash_dates="day_first")

    def test_own_words_for_the_classes(self):
        words = {"0": "réactif", "1": "TUMORAL", "-1": ""}
        rows = [{"LABEL": "0"} | row for row in self.ROWS]
        self.same(
            [row | {"LABEL": words[row["LABEL"]]} for row in rows],
            labels={"reactive": "Re\u0301actif", "tumoral": ["tumoral", 9], "hidden": ["", "?"]},
        )

    def test_own_names_of_columns(self):
        named = {"ID": "Pat.-Nr.", "LABEL": "Diagnose", "GENDER": "Geschlecht", "DOB": "Geburt",
                 "LYMPH_COUNT": "Lymphozyten, G/l"}  # fmt: skip
        table = table_of(self.ROWS).rename(columns=named)
        own = dict(zip(("id", "label", "sex", "birth_date", "lymphocyte_count"), named.values(),
                       strict=True))  # fmt: skip
        pictures = pictures_of(["P1", "P2", "P3"])
        patients, *_ = read_patients(table, pictures, clinical(columns=own))
        pd.testing.assert_frame_equal(patients, read(self.ROWS)[0])
        traces = table_traces(table, patients, clinical(columns=own).columns)
        assert traces["row_order"].tolist() == [0, 1, 2]

    def test_an_age_for_a_birth_date(self):
        rows = [{"ID": "P1", "AGE": "70"}, {"ID": "P2", "AGE": "70.9"}]
        table = table_of(rows).drop(columns="DOB")
        patients, warnings, _ = read_patients(table, pictures_of(["P1", "P2"]), clinical())
        assert patients["age_years"].tolist() == [70, 70]
        assert patients["person"].tolist() == ["P1", "P2"]
        assert warnings == [
            "No patient has a birth date (DOB): a person who is in the table twice can't be found."
        ]
        assert table_traces(table, patients, COLUMNS)["date_format"].tolist() == [0, 0]

    def test_an_age_counts_only_without_a_birth_date(self):
        rows = [{"ID": "P1", "AGE": "12"}, {"ID": "P2", "AGE": "12", "DOB": ""}]
        assert read(rows)[0]["age_years"].tolist() == [70, 12]

    @pytest.mark.parametrize("text", ["121", "-1", "old", "nan", "70 y"])
    def test_an_age_that_is_none(self, text):
        with pytest.raises(UserError, match=rf"line 2 \(patient P1\): AGE is '{text}'"):
            read([{"ID": "P1", "DOB": "", "AGE": text}])

    def test_the_day_of_the_sample(self):
        rows = [
            {"ID": "P1", "SAMPLE_DATE": "4/30/2001"},
            {"ID": "P2", "SAMPLE_DATE": "2001-05-01", "DOB": "1950-05-01", "GENDER": "M"},
            {"ID": "P3", "SAMPLE_DATE": "", "DOB": "1960-05-01"},
        ]
        patients, _, reading = read_whole(rows)
        assert patients["age_years"].tolist() == [50, 51, 60]
        assert reading[1:] == [
            "ages of 1 patients without a SAMPLE_DATE are completed years at 2021-03-01 "
            "(clinical.reference_date; the paper's is 2021-03-01): 60 to 60"
        ]

    def test_a_sample_before_birth(self):
        with pytest.raises(UserError, match=r"line 2 \(patient P1\): DOB .* age of -1 years"):
            read([{"ID": "P1", "SAMPLE_DATE": "1950-04-30"}])

    def test_how_it_was_read_is_reported(self):
        table = table_of([{"ID": "P1", "LYMPH_COUNT": "5,5"}])
        table.attrs = {"file": "clinical_annotation.txt", "form": "tab-separated text in Latin-1"}
        _, _, reading = read_patients(table, pictures_of(["P1"]), clinical())
        assert reading == [
            "clinical_annotation.txt: tab-separated text in Latin-1, decimal commas, month "
            "first in dates with slashes (clinical.slash_dates)",
            "ages of 1 patients without a SAMPLE_DATE are completed years at 2021-03-01 "
            "(clinical.reference_date; the paper's is 2021-03-01): 70 to 70",
        ]


class TestDecimalSigns:
    """One sign for the whole table, or a refusal: never cell by cell."""

    @settings(max_examples=20)
    @given(st.lists(st.floats(0.01, 900).map(lambda x: f"{x:.2f}"), min_size=1, max_size=6))
    def test_commas_and_points_make_the_same_counts(self, counts):
        rows = [{"ID": f"P{n}", "LYMPH_COUNT": count} for n, count in enumerate(counts)]
        commas = [row | {"LYMPH_COUNT": row["LYMPH_COUNT"].replace(".", ",")} for row in rows]
        assert read(commas)[0].equals(read(rows)[0])
        assert read(rows)[0]["lymphocyte_count"].tolist() == [float(count) for count in counts]

    @pytest.mark.parametrize(
        ("counts", "line"),
        [(["5,5", "6.4", "7.1"], 2), (["5,5", "6.4", "7,1"], 3), (["1.234,5", "7,1"], 2)],
    )
    def test_both_signs_are_refused_at_the_rarer_one(self, counts, line):
        with pytest.raises(UserError, match=r"1 fault") as caught:
            read([{"ID": f"P{n}", "LYMPH_COUNT": count} for n, count in enumerate(counts)])
        assert f"line {line} (patient P{line - 2}): LYMPH_COUNT" in str(caught.value)

    def test_commas_that_may_separate_thousands_are_refused(self):
        with pytest.raises(UserError, match=r"(?s)may be for decimals or for thousands.*'7,502'"):
            read([{"ID": "P1", "LYMPH_COUNT": "7,502"}, {"ID": "P2", "LYMPH_COUNT": "12"}])

    @pytest.mark.parametrize("other", ["12,5", "0,502", "1234,567"])
    def test_a_comma_that_must_be_decimal_shows_that_all_are(self, other):
        patients, _ = read(
            [{"ID": "P1", "LYMPH_COUNT": "7,502"}, {"ID": "P2", "LYMPH_COUNT": other}]
        )
        assert patients["lymphocyte_count"].tolist() == [7.502, float(other.replace(",", "."))]


class TestUnits:
    @pytest.mark.parametrize(
        ("counts", "told"),
        [
            (["7502", "6400"], "2 of 2 values are above 1000, .* cells per microlitre .*: P0, P1"),
            (["6.4", "6400"], "1 of 2 values are above 1000, .* cells per microlitre .*: P1"),
            (["0.0064", "0.2"], r"1 of 2 values are below 0\.05, .* 10\^12 per litre .*: P0"),
        ],
    )
    def test_counts_in_another_unit_give_a_warning(self, counts, told):
        rows = [
            {"ID": f"P{n}", "LYMPH_COUNT": count, "DOB": f"5/1/195{n}"}
            for n, count in enumerate(counts)
        ]
        (warning,) = read(rows)[1]
        assert re.match(f"LYMPH_COUNT: {told}", warning)

    def test_an_age_in_the_column_of_ages(self):
        _, warnings = read([{"ID": "P1", "DOB": "", "AGE": "119"}])
        assert any(text.startswith("AGE: 1 of 1 patients are older than") for text in warnings)


class TestNames:
    def test_one_form_of_an_accent_for_both(self):
        patients, _ = read([{"ID": "Pe\u0301 1"}], pictures_of(["P\u00e9 1"]))
        assert patients["patient_id"].tolist() == ["P\u00e9 1"]

    @pytest.mark.parametrize("folder", ["p1", "P 1", "\uff301"])
    def test_what_differs_in_case_blanks_or_form_alone_is_told(self, folder):
        with pytest.raises(UserError) as caught:
            read([{"ID": "P1"}], pictures_of([folder]))
        assert f"testset/P1/); {folder!r} differs in case, blanks or form" in str(caught.value)

    def test_so_is_a_folder_beside_the_right_one(self):
        told = r"patient p1: has pictures and no row in .*; 'P1' differs in case"
        with pytest.raises(UserError, match=told):
            read([{"ID": "P1"}], pictures_of(["P1", "p1"]))

    def test_so_are_patients_who_have_row_and_pictures_each(self):
        _, warnings = read([{"ID": "P1"}, {"ID": "p1", "DOB": "1/1/1960"}])
        assert warnings == [
            "ID: 'P1' and 'p1' differ only in case, blanks or form, and are taken as different "
            "patients."
        ]

    def test_an_empty_folder_is_told(self):
        rows = [{"ID": "P1"}, {"ID": "P2"}]
        pictures = PictureFiles([pictures_of(["P1"])], ["testset/P2", "testset/P3"])
        with pytest.raises(UserError, match=r"patient P2: .* no pictures \(testset/P2/ is empty\)"):
            read(rows, pictures)
        _, warnings = read_patients(table_of(rows[:1]), pictures, clinical())[:2]
        assert warnings == ["2 folders hold no pictures and are ignored: testset/P2, testset/P3."]

    def test_so_are_columns(self):
        table = table_of([{"ID": "P1"}]).rename(columns={"DOB": "dob"})
        with pytest.raises(UserError, match="lacks the column DOB; 'dob' differs in case"):
            read_patients(table, pictures_of(["P1"]), clinical())


class TestTraces:
    def test_date_format_and_row_order_are_the_tables(self):
        rows = [
            {"ID": " P9", "DOB": "5/1/1950"},
            {"ID": "P1 ", "DOB": " 01-05-1950"},
            {"ID": "P5", "DOB": "1/5/1950 "},
        ]
        traces = table_traces(table_of(rows), read(rows)[0], COLUMNS)
        assert traces.to_dict(orient="list") == {
            "patient_id": ["P9", "P1", "P5"],
            "date_format": [0, 1, 0],
            "row_order": [0, 1, 2],
        }

    def test_they_join_to_the_patients(self):
        rows = [{"ID": f" P{n}", "DOB": f"{n}/1/1950"} for n in (3, 1, 2)]
        patients, _ = read(rows)
        joined = patients.merge(table_traces(table_of(rows), patients, COLUMNS), "left")
        assert joined["patient_id"].tolist() == ["P1", "P2", "P3"]
        assert joined["row_order"].tolist() == [1, 2, 0]

    @pytest.mark.parametrize(
        "edit",
        [
            lambda table: table.iloc[1:],
            lambda table: table.assign(ID=["P1", "P4"]),
            lambda table: table.drop(columns="ID"),
            lambda table: table.drop(columns="DOB"),
            lambda table: table[["ID", "ID", "DOB"]],
        ],
    )
    def test_a_table_that_changed_since_ingest_is_refused(self, edit):
        rows = [{"ID": "P1"}, {"ID": "P2"}]
        patients, _ = read(rows)
        with pytest.raises(UserError, match=r"has changed since ingest.*Run ingest again"):
            table_traces(edit(table_of(rows)), patients, COLUMNS)


class TestRefusals:
    @pytest.mark.parametrize("column", ["ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"])
    def test_a_missing_column(self, column):
        table = table_of([{"ID": "P1"}]).drop(columns=column)
        with pytest.raises(UserError, match=f"lacks the column {column}. It has: "):
            read_patients(table, pictures_of(["P1"]), clinical())

    def test_a_duplicate_column(self):
        table = table_of([{"ID": "P1"}])
        table = pd.concat([table, table[["LABEL"]]], axis=1)
        with pytest.raises(UserError, match="more than one column LABEL"):
            read_patients(table, pictures_of(["P1"]), clinical())

    @pytest.mark.parametrize(
        ("column", "text"),
        [
            *[("DOB", text) for text in ("", "1950.05.01", "30-02-1950", "1/1/2030", "1/1/1850")],
            *[("LYMPH_COUNT", t) for t in ("", "many", "0", "-3", "nan", "inf", "5,5", "1_000")],
            *[("LYMPH_COUNT", t) for t in ("1e39", "1e-46", "1e308", "0.0009", "100001")],
            *[("LABEL", text) for text in ("", "2", "-2", "0.5", "tumoral", "1.0.0", "+1", "01")],
        ],
    )
    def test_a_value_that_can_not_be_read_is_named_with_its_line(self, column, text):
        rows = [{"ID": "P1"}, {"ID": "P2", column: text}, {"ID": "P3"}]
        with pytest.raises(UserError, match="1 fault") as caught:
            read(rows)
        assert f"line 3 (patient P2): {column} " in str(caught.value)
        assert repr(text) in str(caught.value)

    def test_a_count_out_of_bounds_is_reported_with_the_bounds(self):
        with pytest.raises(UserError, match=r"from 0.001 to 100000, in 10\^9 per(.|\n)*'1e39'"):
            read([{"ID": "P1", "LYMPH_COUNT": "1e39"}])

    @pytest.mark.parametrize("text", ["0.001", "100000"])
    def test_a_count_at_a_bound_is_accepted(self, text):
        patients, _ = read([{"ID": "P1", "LYMPH_COUNT": text}])
        assert patients["lymphocyte_count"].tolist() == [float(text)]

    def test_an_age_out_of_bounds_names_the_parameter(self):
        with pytest.raises(UserError, match=r"age of -1 years .* \(clinical.reference_date"):
            read([{"ID": "P1", "DOB": "1/1/1950"}], at=date(1949, 6, 1))

    def test_a_patient_without_pictures(self):
        with pytest.raises(UserError, match="patient P2: has a row and no pictures"):
            read([{"ID": "P1"}, {"ID": "P2"}], pictures_of(["P1"]))

    def test_pictures_without_a_patient(self):
        with pytest.raises(UserError, match="patient P2: has pictures and no row"):
            read([{"ID": "P1"}], pictures_of(["P1", "P2"]))

    def test_an_empty_table(self):
        table = table_of([{"ID": "P1"}]).iloc[:0]
        with pytest.raises(UserError, match="patient P1: has pictures and no row"):
            read_patients(table, pictures_of(["P1"]), clinical())

    @pytest.mark.parametrize("again", ["P1", " P1"])
    def test_a_patient_twice_in_the_table(self, again):
        with pytest.raises(UserError, match="patient P1: stands 2 times in the table"):
            read([{"ID": "P1"}, {"ID": again}])

    def test_a_patient_in_both_subsets(self):
        pictures = PictureFiles([pictures_of(["P1"]), pictures_of(["P1"], "test")])
        with pytest.raises(
            UserError, match="patient P1: has a folder in trainset/ and one in test"
        ):
            read([{"ID": "P1"}], pictures)

    def test_all_faults_are_reported_at_once(self):
        rows = [{"ID": "P1", "LABEL": "9"}, {"ID": "P2", "DOB": "?"}, {"ID": "P3"}, {"ID": "P3"}]
        with pytest.raises(UserError, match="4 fault") as caught:
            read(rows, pictures_of(["P1", "P2", "P3", "P4"]))
        for told in ("line 2 (patient P1): LABEL", "line 3 (patient P2): DOB", "P3: stands", "P4:"):
            assert told in str(caught.value)

    def test_faults_of_one_cause_are_grouped(self):
        rows = [{"ID": f"P{n}", "LABEL": "x", "DOB": "?"} for n in range(30)]
        with pytest.raises(UserError) as caught:
            read(rows)
        lines = str(caught.value).splitlines()
        assert lines[0] == "The cohort can't be taken: 60 fault(s)."
        causes = [line for line in lines if line.startswith("  - ")]
        assert [line[4:].partition(":")[0] for line in causes] == ["DOB", "LABEL"]
        assert lines.count("      ... and 20 more") == 2

    def test_more_than_twenty_faults_are_counted(self):
        with pytest.raises(UserError, match=r"33 fault\(s\)") as caught:
            read([{"ID": f"P{n}", "LABEL": "x"} for n in range(33)])
        assert len(re.findall(r"line \d+", str(caught.value))) == 20
        assert str(caught.value).endswith("... and 13 more")


class TestWarnings:
    def test_patients_who_share_birth_date_and_sex(self):
        rows = [
            {"ID": "P1", "DOB": "5/1/1950", "GENDER": "f", "LABEL": "0"},
            {"ID": "P2", "DOB": "01-05-1950", "GENDER": "F", "LABEL": "0"},
            {"ID": "P3", "DOB": "5/1/1950", "GENDER": "M"},
            {"ID": "P4", "DOB": "1/5/1950", "GENDER": "F"},
        ]
        _, warnings = read(rows)
        assert warnings == ["Patients P1, P2 share a birth date and sex: perhaps one person twice."]

    def test_many_such_pairs_are_one_warning_for_each_matter(self):
        rows = [
            {"ID": f"P{n}", "DOB": f"5/{1 + n // 2}/1950", "LABEL": str(n % 2 if n > 7 else 0)}
            for n in range(12)
        ]
        _, warnings = read(rows)
        assert warnings == [
            "4 pairs of patients share a birth date and sex, each perhaps one person twice: "
            "P0 and P1, P2 and P3, P4 and P5, P6 and P7.",
            "2 birth dates, each shared by patients of one sex, are taken for placeholders, and "
            "each patient for a person; their ages may be wrong: 1950-05-05 of P8 and P9 (their "
            "labels differ), 1950-05-06 of P10 and P11 (their labels differ).",
        ]

    def test_training_patients_without_a_label(self):
        rows = [{"ID": "P1", "LABEL": "-1"}, {"ID": "P2", "LABEL": "-1", "DOB": "1/1/1960"}]
        _, warnings = read(rows, PictureFiles([pictures_of(["P1"]), pictures_of(["P2"], "test")]))
        assert len(warnings) == 1
        assert warnings[0].startswith("LABEL: 1 of 2 patients are in trainset/ without a label")
