from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphocytosis.cohort.clinical import read_patients
from lymphocytosis.cohort.new_patients import read_new_patients
from lymphocytosis.cohort.pictures import PictureFile, PictureFiles
from lymphocytosis.datasets.picture_folder import PictureFolderDataset
from lymphocytosis.datasets.text_table import TextTableDataset
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ClinicalParameters

BASE = yaml.safe_load((Path(__file__).parents[2] / "conf/base/parameters.yml").read_text())
CLINICAL = ClinicalParameters(**BASE["clinical"])
PATIENT = {"DOB": "5/1/1950", "LYMPH_COUNT": "5.5"}


def table_of(rows):
    table = pd.DataFrame(rows, index=range(2, len(rows) + 2), dtype="str").fillna("")
    table.attrs = {"file": "clinical_annotation.csv", "form": "text"}
    return table


def pictures_of(*ids, subset="test", **others):
    files = [PictureFile(subset, p, "0.png", f"{subset}set/{p}/0.png", bytes) for p in ids]
    return PictureFiles([files], **others)


def read(rows, *ids, clinical=CLINICAL):
    """The patients by ID, and the warnings of the cohort."""
    table = None if rows is None else table_of([PATIENT | row for row in rows])
    ids = ids or dict.fromkeys(row["ID"] for row in rows)
    patients, warnings, _ = read_new_patients(table, pictures_of(*ids), clinical)
    return patients.set_index("patient_id"), warnings


def values_of(patients):
    return {
        name: tuple(None if pd.isna(value) else value for value in row)
        for name, *row in patients[["age_years", "lymphocyte_count"]].itertuples(name=None)
    }


class TestValues:
    def test_are_those_of_ingest(self):
        rows = [
            {"ID": "P2", "DOB": "02-03-1950", "LYMPH_COUNT": "2.28", "LABEL": "1", "GENDER": "M"},
            {"ID": "P1", "DOB": "", "AGE": "70.9", "LYMPH_COUNT": "1e1", "LABEL": "0",
             "GENDER": "F"},
            {"ID": "P3", "SAMPLE_DATE": "4/30/2001", "LABEL": "-1", "GENDER": "F"},
        ]  # fmt: skip
        patients, warnings = read(rows)
        table, pictures = table_of([PATIENT | row for row in rows]), pictures_of("P1", "P2", "P3")
        expected, _, _ = read_patients(table, pictures, CLINICAL)
        assert values_of(patients) == values_of(expected.set_index("patient_id"))
        assert patients["warnings"].tolist() == [[], [], []]
        assert warnings == []

    def test_types_and_order(self):
        patients, _, _ = read_new_patients(None, pictures_of("P2", "007"), CLINICAL)
        assert patients.dtypes.astype(str).to_dict() == {
            "patient_id": "str",
            "age_years": "float64",
            "lymphocyte_count": "float64",
            "warnings": "object",
        }
        assert patients["patient_id"].tolist() == ["007", "P2"]

    @pytest.mark.parametrize(
        ("row", "values", "told"),
        [
            ({"DOB": ""}, (None, 5.5), "No age is known (neither DOB nor AGE)."),
            ({"LYMPH_COUNT": ""}, (70, None), "No lymphocyte count is known (LYMPH_COUNT)."),
        ],
    )
    def test_one_that_is_missing_is_told_in_the_patients_row(self, row, values, told):
        patients, warnings = read([{"ID": "P1", **row}, {"ID": "P2"}])
        assert values_of(patients) == {"P1": values, "P2": (70, 5.5)}
        assert patients["warnings"].tolist() == [[told], []]
        assert warnings == []

    def test_without_a_row(self):
        patients, warnings = read([{"ID": "P1"}], "P1", "P2")
        assert values_of(patients) == {"P1": (70, 5.5), "P2": (None, None)}
        assert patients["warnings"].tolist() == [
            [],
            ["The patient has no row in clinical_annotation.csv."],
        ]
        assert warnings == ["1 patient(s) have no row in clinical_annotation.csv: P2."]

    @pytest.mark.parametrize("rows", [None, []])
    def test_without_any(self, rows):
        table = None if rows is None else table_of([{"ID": "x", **PATIENT}]).iloc[:0]
        patients, warnings, _ = read_new_patients(table, pictures_of("P1"), CLINICAL)
        assert values_of(patients.set_index("patient_id")) == {"P1": (None, None)}
        assert len(patients["warnings"][0]) == len(warnings) == 1

    @pytest.mark.parametrize("label", ["0", "tumoral", "", "?"])
    def test_labels_and_sex_are_not_read(self, label):
        patients, warnings = read([{"ID": "P1", "LABEL": label, "GENDER": "x"}])
        assert values_of(patients) == {"P1": (70, 5.5)}
        assert list(patients.columns) == ["age_years", "lymphocyte_count", "warnings"]
        assert warnings == []

    def test_an_age_in_place_of_a_birth_date(self):
        table = table_of([{"ID": "P1", "AGE": "70,5", "LYMPH_COUNT": "5,5"}])
        patients, _, reading = read_new_patients(table, pictures_of("P1"), CLINICAL)
        assert values_of(patients.set_index("patient_id")) == {"P1": (70, 5.5)}
        assert reading == ["clinical_annotation.csv, decimal commas"]

    def test_how_it_was_read_names_the_day_of_ages(self):
        table = table_of([{"ID": name, **PATIENT} for name in ("P1", "P2")])
        _, _, reading = read_new_patients(table, pictures_of("P1"), CLINICAL)
        assert reading == [
            "clinical_annotation.csv, decimal points, month first in dates with slashes "
            "(clinical.slash_dates)",
            "ages of 1 patients without a SAMPLE_DATE are completed years at 2021-03-01 "
            "(clinical.reference_date; the paper's is 2021-03-01): 70 to 70",
        ]

    def test_implausible_ones_are_told_in_the_patients_row_and_of_all(self):
        patients, warnings = read(
            [
                {"ID": "P1", "LYMPH_COUNT": "5500"},
                {"ID": "P2", "DOB": "5/1/1905", "LYMPH_COUNT": "0.0055"},
                {"ID": "P3"},
                {"ID": "P4", "DOB": "", "LYMPH_COUNT": ""},
            ]
        )
        assert [[text.partition(",")[0] for text in said] for said in patients["warnings"]] == [
            ["LYMPH_COUNT: above 1000"],
            ["LYMPH_COUNT: below 0.05", "DOB: older than 110 years"],
            [],
            [
                "No age is known (neither DOB nor AGE).",
                "No lymphocyte count is known (LYMPH_COUNT).",
            ],
        ]
        assert [text.partition(",")[0] for text in warnings] == [
            "LYMPH_COUNT: 1 of 4 values are above 1000",
            "LYMPH_COUNT: 1 of 4 values are below 0.05",
            "DOB: 1 of 4 patients are older than 110 years",
        ]


class TestFolders:
    def test_those_that_are_no_patients_are_told(self):
        pictures = pictures_of("P1", empty_folders=["results"], folders_beside=["run", "P7"])
        _, warnings, _ = read_new_patients(table_of([{"ID": "P1", **PATIENT}]), pictures, CLINICAL)
        assert warnings == [
            "results/ holds no pictures: ignored.",
            "Folders beside trainset/ or testset/ are ignored: run, P7.",
        ]

    def test_of_nearly_one_name_are_told(self):
        _, warnings = read(None, "P1", "p1", "P2")
        assert warnings[1:] == [
            "ID: 'P1' and 'p1' differ only in case, blanks or form, and are taken as different "
            "patients."
        ]

    def test_one_patient_in_both_subsets(self):
        pictures = PictureFiles([pictures_of("P1"), pictures_of("P1", subset="train")])
        with pytest.raises(UserError, match="P1: has a folder in trainset/ and one in testset/"):
            read_new_patients(None, pictures, CLINICAL)


class TestRowsWithoutPictures:
    def test_are_told_and_not_read(self):
        patients, warnings = read(
            [{"ID": "P1"}, {"ID": "P2", "LYMPH_COUNT": "abc"}, {"ID": "", "DOB": "?"}], "P1"
        )
        assert values_of(patients) == {"P1": (70, 5.5)}
        assert warnings == [
            "clinical_annotation.csv: 2 row(s) without pictures, ignored: P2, (no ID)."
        ]

    @pytest.mark.parametrize("folder", ["p1", "P 1", "\uff301"])
    def test_are_refused_where_a_folder_has_nearly_that_name(self, folder):
        with pytest.raises(UserError) as refused:
            read([{"ID": "P1"}, {"ID": "P2"}], folder, "P2")
        assert str(refused.value) == (
            "The cohort can't be taken: 1 fault(s).\n"
            "  - a row needs pictures under its own name\n"
            f"      patient P1: has a row and no pictures; {folder!r} differs in case, blanks or "
            "form alone"
        )

    def test_are_refused_where_no_row_has_any(self):
        with pytest.raises(UserError) as refused:
            read([{"ID": "7"}, {"ID": "8"}], "007", "008")
        assert str(refused.value).endswith(
            "      no ID in clinical_annotation.csv is the name of a folder with pictures; "
            "IDs: 7, 8; folders: 007, 008"
        )


class TestRefusals:
    @pytest.mark.parametrize(
        ("column", "text", "told"),
        [
            ("LYMPH_COUNT", "abc", "LYMPH_COUNT is 'abc'"),
            ("LYMPH_COUNT", "0", "LYMPH_COUNT is '0'"),
            ("LYMPH_COUNT", "5,5", "LYMPH_COUNT is '5,5'"),
            ("DOB", "1950", "DOB '1950' is in no known form"),
            ("SAMPLE_DATE", "?", "SAMPLE_DATE '?' is in no known form"),
        ],
    )
    def test_a_value_that_can_not_be_read_is_named_with_its_line(self, column, text, told):
        with pytest.raises(UserError, match=r"1 fault\(s\)") as refused:
            read([{"ID": "P1"}, {"ID": "P2", column: text}, {"ID": "P3"}])
        assert str(refused.value).endswith(f"      line 3 (patient P2): {told}")

    def test_an_age_that_is_none(self):
        with pytest.raises(UserError, match=r"line 2 \(patient P1\): AGE is '121'"):
            read([{"ID": "P1", "DOB": "", "AGE": "121"}])

    def test_a_patient_twice(self):
        with pytest.raises(UserError, match="patient P1: stands 2 times in the table"):
            read([{"ID": "P1"}, {"ID": "P1"}])

    @pytest.mark.parametrize("column", ["ID", "DOB", "LYMPH_COUNT"])
    def test_a_missing_column(self, column):
        table = table_of([{"ID": "P1", **PATIENT}]).rename(columns={column: column.lower()})
        with pytest.raises(UserError) as refused:
            read_new_patients(table, pictures_of("P1"), CLINICAL)
        assert str(refused.value).startswith(
            f"clinical_annotation.csv lacks the column {column}; {column.lower()!r} differs in "
            "case, blanks or form alone. "
        )
        assert "Expected: ID, DOB (or AGE), LYMPH_COUNT; clinical.columns" in str(refused.value)

    def test_a_column_that_stands_twice(self):
        table = table_of([{"ID": "P1", **PATIENT}])
        with pytest.raises(UserError, match="more than one column DOB"):
            read_new_patients(
                pd.concat([table, table[["DOB"]]], axis=1), pictures_of("P1"), CLINICAL
            )
        # This one is not read.
        labels = table.assign(LABEL="0")[["LABEL"]]
        read_new_patients(pd.concat([table, labels, labels], axis=1), pictures_of("P1"), CLINICAL)


@settings(max_examples=20)
@given(
    st.permutations(range(5)),
    st.lists(st.sampled_from(["", "trainset", "testset"]), min_size=5, max_size=5),
    st.booleans(),
)
def test_neither_the_order_of_rows_nor_the_folders_place_matters(
    tmp_path_factory, order, places, flat
):
    root = tmp_path_factory.mktemp("cohort")
    rows = [
        {"ID": f"P{n}", "DOB": f"{n + 1}/2/194{n}", "LYMPH_COUNT": "" if n == 3 else f"{n}.5"}
        for n in range(1, 5)
    ]
    for n, place in enumerate(places):
        folder = root / ("" if flat else place or "testset") / f"P{n}"
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    shuffled = [([*rows, {}])[n] for n in order]
    table_of([row for row in shuffled if row]).to_csv(root / "clinical_annotation.csv", index=False)
    pictures = PictureFolderDataset(filepath=str(root), new_patients=True).load()
    table = TextTableDataset(filepath=str(root / "clinical_annotation.csv"), optional=True).load()
    patients, warnings, _ = read_new_patients(table, pictures, CLINICAL)
    assert values_of(patients.set_index("patient_id")) == {
        "P0": (None, None), "P1": (80, 1.5), "P2": (78, 2.5), "P3": (77, None), "P4": (76, 4.5),
    }  # fmt: skip
    assert warnings == ["1 patient(s) have no row in clinical_annotation.csv: P0."]
