"""One simulated cohort's table, rewritten as many programs would: the patients are the same."""

import csv
import io
from datetime import date
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
import yaml

from lymphocytosis.cohort.clinical import read_patients
from lymphocytosis.cohort.pictures import PictureFile, PictureFiles
from lymphocytosis.cohort.values import completed_years, parse_date
from lymphocytosis.datasets.picture_folder import PictureFolderDataset
from lymphocytosis.datasets.text_table import TextTableDataset
from lymphocytosis.parameters import ClinicalParameters, SimulationParameters
from lymphocytosis.simulation.cohort import simulate_cohort

PROJECT = Path(__file__).parents[2]
BASE = yaml.safe_load((PROJECT / "conf/base/parameters.yml").read_text())
REAL = PROJECT.parent / "shared" / "cohort"


def text(rows, separator=",", encoding="utf-8", start="", line_end="\n"):
    file = io.StringIO()
    csv.writer(file, delimiter=separator, lineterminator=line_end).writerows(rows)
    return (start + file.getvalue()).encode(encoding)


def changed(rows, *columns, by):
    places = [rows[0].index(column) for column in columns]
    return [list(rows[0])] + [
        [by(cell) if at in places else cell for at, cell in enumerate(row)] for row in rows[1:]
    ]


def with_commas(rows):
    return changed(rows, "LYMPH_COUNT", by=lambda count: count.replace(".", ","))


def iso(rows):
    return changed(rows, "DOB", by=lambda day: parse_date(day).isoformat())


def workbook(rows):
    """Numbers and dates as a spreadsheet has them, beside dates that it left as text."""
    book = openpyxl.Workbook()
    book.active.append(rows[0])
    for number, (index, patient, label, sex, birth, count) in enumerate(rows[1:]):
        born = parse_date(birth) if number % 2 else birth
        book.active.append([int(index), patient, int(label), sex, born, float(count)])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def with_note(rows, note):
    return [[*row, "NOTE" if at == 0 else note] for at, row in enumerate(rows)]


OWN = ["", "Patient", "Diagnostic", "Sexe", "Né(e) le", "Lymphocytes (G/l)"]
WORDS = {"0": "réactif", "1": "tumoral", "-1": "inconnu"}
# Name: the file's content, its suffix, what differs in the block `clinical`.
FORMS = {
    "semicolons and decimal commas": lambda rows: (text(with_commas(rows), ";"), "csv", {}),
    "Excel in France": lambda rows: (
        text(with_note(with_commas(rows), "né à Sète"), ";", "latin-1", "sep=;\r\n", "\r\n"),
        "csv", {},
    ),
    "decimal commas in quotes": lambda rows: (text(with_commas(rows)), "csv", {}),
    "tabs": lambda rows: (text(rows, "\t", "utf-8-sig"), "tsv", {}),
    "tabs, Latin-1": lambda rows: (text(with_note(rows, "Größe"), "\t", "latin-1"), "txt", {}),
    "blanks round names and values": lambda rows: (
        text([[f" {cell}  " for cell in row] for row in rows]), "csv", {},
    ),
    "ISO dates": lambda rows: (text(iso(rows)), "csv", {}),
    "dates with a time": lambda rows: (
        text(changed(iso(rows), "DOB", by=lambda day: f"{day} 00:00:00")), "csv", {},
    ),
    "days first": lambda rows: (
        text(changed(rows, "DOB", by=lambda day: f"{parse_date(day):%d/%m/%Y}"), ";"),
        "csv", {"slash_dates": "day_first"},
    ),
    "a workbook": lambda rows: (workbook(rows), "xlsx", {}),
    "a workbook that is called a CSV": lambda rows: (workbook(rows), "csv", {}),
    "own columns and words": lambda rows: (
        text([OWN, *changed(rows, "LABEL", by=WORDS.get)[1:]], ";", "latin-1"),
        "csv",
        {
            "columns": BASE["clinical"]["columns"]
            | {"id": OWN[1], "label": OWN[2], "sex": OWN[3], "birth_date": OWN[4]}
            | {"lymphocyte_count": OWN[5]},
            "labels": {"reactive": "Réactif", "tumoral": ["tumoral"], "hidden": ["inconnu", "?"]},
        },
    ),
}  # fmt: skip


def patients_of(folder, pictures, content, suffix, changes):
    path = folder / f"clinical_annotation.{suffix}"
    path.write_bytes(content)
    table = TextTableDataset(filepath=str(path.with_suffix(".csv"))).load()
    path.unlink()
    return read_patients(table, pictures, ClinicalParameters(**BASE["clinical"] | changes))[0]


@pytest.fixture(scope="module")
def simulated():
    """The table's rows, the header first, and the pictures."""
    table, _ = simulate_cohort(SimulationParameters(**BASE["simulation"]))
    pictures = (PictureFile("train", p, "0.png", f"trainset/{p}/0.png", bytes) for p in table["ID"])
    return [list(table.columns), *table.to_numpy().tolist()], PictureFiles([list(pictures)])


@pytest.mark.parametrize("form", FORMS)
def test_the_patients_are_the_same(form, simulated, tmp_path):
    rows, pictures = simulated
    expected = patients_of(tmp_path, pictures, text(rows), "csv", {})
    assert len(expected) == 205
    found = patients_of(tmp_path, pictures, *FORMS[form](rows))
    pd.testing.assert_frame_equal(found, expected)


def test_ages_in_place_of_birth_dates(simulated, tmp_path):
    rows, pictures = simulated
    at = date(2021, 3, 1)
    aged = changed(rows, "DOB", by=lambda day: str(completed_years(parse_date(day), at)))
    aged[0][aged[0].index("DOB")] = "AGE"
    expected = patients_of(tmp_path, pictures, text(rows), "csv", {})
    found = patients_of(tmp_path, pictures, text(aged, ";"), "csv", {})
    # Without birth dates, nobody is taken for one person with another.
    persons = expected.assign(person=expected["patient_id"])
    pd.testing.assert_frame_equal(found, persons)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real cohort is not on this machine ({REAL})")
@pytest.mark.parametrize("form", FORMS)
def test_real_patients_are_the_same(form, tmp_path):
    content = (REAL / "clinical_annotation.csv").read_bytes()
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    pictures = PictureFolderDataset(filepath=str(REAL)).load()
    expected = patients_of(tmp_path, pictures, content, "csv", {})
    found = patients_of(tmp_path, pictures, *FORMS[form](rows))
    pd.testing.assert_frame_equal(found, expected)
