"""The clinical table: from a hospital's table to typed patients.

The table is read as text and judged cell by cell, so that a refusal can name line and value.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lymphocytosis.cohort.columns import (
    Faults,
    how_read,
    named_columns,
    read_age,
    read_count,
    tell_decimal,
)
from lymphocytosis.cohort.names import alike, folded, normal
from lymphocytosis.cohort.persons import tell_persons
from lymphocytosis.cohort.pictures import PictureFile, PictureFiles, Subset
from lymphocytosis.cohort.plausibility import odd_values
from lymphocytosis.errors import UserError, grouped, one_line
from lymphocytosis.parameters import ClinicalColumns, ClinicalLabels, ClinicalParameters


def read_patients(
    table: pd.DataFrame, pictures: PictureFiles, clinical: ClinicalParameters
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Turn the clinical table into typed patients, or refuse with every fault named.

    Args:
        table: the table as text, one row a patient; columns that `clinical` doesn't name are
            ignored. Its index tells each row's line in the file, its `attrs` file and form.
        pictures: the files found in the cohort's folders; they tell each patient's subset.
        clinical: the block `clinical` of the parameters.

    Returns:
        The patients, sorted by patient_id: patient_id, person (the same for two patients of one
        birth date and sex, who may be one), subset (train/test), label (0, 1 or null), age_years,
        sex (F, M or null), lymphocyte_count (10^9 per litre); warnings in plain words; and how the
        table was read.

    Raises:
        UserError: a column is missing or stands twice; a date, count or label can't be read; a
            patient appears twice, has no pictures, or has pictures and no row.
    """
    file = table.attrs.get("file", "clinical_annotation.csv")
    names = clinical.columns
    values = named_columns(table, names.model_dump(), file)
    faults: Faults = defaultdict(list)
    subsets = subsets_by_patient(pictures, faults)
    decimal = tell_decimal(values, clinical, faults)
    words = _words(clinical.labels)
    rows: list[dict[str, Any]] = []
    for line, *cells in values.itertuples(name=None):
        row = dict(zip(values.columns, cells, strict=True))
        where = f"line {line} (patient {row['id'] or '?'})"
        born, age = read_age(row, clinical, decimal, where, faults)
        rows.append(
            {
                "patient_id": row["id"],
                "subset": subsets.get(row["id"], "train"),
                "label": _label(row["label"], words, clinical, where, faults),
                "born": born,
                "age_years": age,
                "sex": row["sex"].upper() if row["sex"].upper() in ("F", "M") else None,
                "lymphocyte_count": read_count(
                    row["lymphocyte_count"], clinical, decimal, where, faults
                ),
            }
        )
    _find_mismatches([row["patient_id"] for row in rows], set(subsets), pictures, file, faults)
    if faults:
        raise UserError(f"The cohort can't be taken: {grouped(faults)}")
    warnings = tell_persons(rows, names.birth_date)
    patients = _typed(rows)
    dated = any(row["born"] for row in rows)
    warnings += one_line(
        [f"{folder}/ holds no pictures: ignored." for folder in pictures.empty_folders],
        "folders hold no pictures and are ignored",
        pictures.empty_folders,
    )
    warnings += odd_values(patients, names, names.birth_date if dated else names.age)
    form = f"{file}: {table.attrs.get('form', 'text')}"
    return patients, warnings, how_read(values, rows, form, decimal, clinical)


def subsets_by_patient(pictures: Sequence[PictureFile], faults: Faults) -> dict[str, Subset]:
    """Find the patients who have pictures, and in which subset each is.

    Args:
        pictures: the files found in the cohort's folders.
        faults: gets patients that are in both.

    Returns:
        The subset by patient_id, in the order of the files.
    """
    subsets: dict[str, Subset] = {}
    both: dict[str, None] = {}
    for picture in pictures:
        known = subsets.setdefault(picture.patient_id, picture.subset)
        if known != picture.subset:
            both[picture.patient_id] = None
    if both:
        faults["a patient may stand in one of trainset/ and testset/ only"] += [
            f"patient {patient_id}: has a folder in trainset/ and one in testset/"
            for patient_id in both
        ]
    return subsets


def _words(labels: ClinicalLabels) -> dict[str, int | None]:
    """The label that each word stands for."""
    given = ((labels.reactive, 0), (labels.tumoral, 1), (labels.hidden, None))
    return {normal(word).casefold(): label for words, label in given for word in words}


def _label(
    text: str,
    words: dict[str, int | None],
    clinical: ClinicalParameters,
    where: str,
    faults: Faults,
) -> int | None:
    key = text.casefold()
    # A spreadsheet may have turned 1 into 1.0.
    for known in (key, key.removesuffix(".0"), key.removesuffix(",0")):
        if known in words:
            return words[known]
    column, labels = clinical.columns.label, clinical.labels
    faults[
        f"{column}: allowed are {' or '.join(labels.reactive)} (reactive), "
        f"{' or '.join(labels.tumoral)} (tumoral), {' or '.join(labels.hidden)} (hidden); "
        "clinical.labels says what your words are"
    ].append(f"{where}: {column} is {text!r}")
    return None


def _find_mismatches(
    patient_ids: list[str],
    with_pictures: set[str],
    pictures: PictureFiles,
    file: str,
    faults: Faults,
) -> None:
    names: dict[str, list[str]] = defaultdict(list)
    for name in (*patient_ids, *with_pictures):
        names[folded(name)].append(name)
    empty = {normal(folder.rpartition("/")[2]): folder for folder in pictures.empty_folders}

    def near(name: str) -> str:
        return alike(name, sorted({*names[folded(name)]} - {name}))

    found = {
        "a patient stands once in the table": [
            f"patient {name or '(no ID)'}: stands {n} times in the table"
            for name, n in Counter(patient_ids).items()
            if n > 1
        ],
        "a row needs pictures": [
            f"patient {name or '(no ID)'}: has a row and no pictures ("
            + (
                f"{empty[name]}/ is empty"
                if name in empty
                else f"expected in trainset/{name}/ or testset/{name}/"
            )
            + f"){near(name)}"
            for name in dict.fromkeys(patient_ids)
            if name not in with_pictures
        ],
        "pictures need a row": [
            f"patient {name}: has pictures and no row in {file}{near(name)}"
            for name in sorted(with_pictures - set(patient_ids))
        ],
    }
    for cause, places in found.items():
        if places:
            faults[cause] += places


def _typed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    types = {
        "patient_id": "str",
        "person": "str",
        "subset": "str",
        "label": "Int8",
        "age_years": "int16",
        "sex": "str",
        "lymphocyte_count": "float64",
    }
    patients = pd.DataFrame(rows)[list(types)].astype(types)
    # Sorted, because the order of the hospital's rows may carry the label.
    return patients.sort_values("patient_id", ignore_index=True)


def table_traces(
    table: pd.DataFrame, patients: pd.DataFrame, columns: ClinicalColumns
) -> pd.DataFrame:
    """Take from the table what is no medicine and may yet tell the label: its form.

    Args:
        table: the table as text, as `read_patients` takes it.
        patients: what `read_patients` made of it: patient_id, and others.
        columns: what the table's columns are called.

    Returns:
        patient_id; date_format (of the birth date, 1: with dashes, 0: with slashes or none);
        row_order (from 0).

    Raises:
        UserError: the file is not the one that the patients were read from.
    """
    file = table.attrs.get("file", "clinical_annotation.csv")
    try:
        values = named_columns(table, columns.model_dump(), file)
    except UserError as error:
        raise UserError(f"{file} has changed since ingest. Run ingest again. {error}") from error
    if sorted(values["id"]) != sorted(patients["patient_id"]):
        raise UserError(
            f"{file} has changed since ingest: it does not hold the same patients. "
            "Run ingest again."
        )
    return pd.DataFrame(
        {
            "patient_id": values["id"].to_numpy(),
            "date_format": values["birth_date"].str.contains("-").to_numpy(dtype="int8"),
            "row_order": range(len(table)),
        }
    )
