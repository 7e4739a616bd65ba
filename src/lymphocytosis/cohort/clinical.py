"""The clinical table: from a hospital's table to typed patients.

The table is read as text and judged cell by cell, so that a refusal can name line and value.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

import pandas as pd

from lymphocytosis.cohort.names import alike, folded, normal
from lymphocytosis.cohort.persons import tell_persons
from lymphocytosis.cohort.pictures import PictureFile, PictureFiles, Subset
from lymphocytosis.cohort.plausibility import odd_values
from lymphocytosis.cohort.values import completed_years, decimal_sign, number, parse_date
from lymphocytosis.errors import UserError, grouped, some
from lymphocytosis.parameters import ClinicalColumns, ClinicalLabels, ClinicalParameters

OLDEST_AGE = 120
# 10^9 per litre. Far beyond any patient, and within what 32-bit numbers and logarithms hold.
LOWEST_COUNT, HIGHEST_COUNT = 0.001, 100_000

Faults = dict[str, list[str]]  # by cause


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
    values = _named_columns(table, names, file)
    faults: Faults = defaultdict(list)
    subsets = _subsets_by_patient(pictures, faults)
    decimal, doubtful = decimal_sign(
        {
            names.lymphocyte_count: values["lymphocyte_count"].to_dict(),
            names.age: values.loc[values["birth_date"] == "", "age"].to_dict(),
        }
    )
    if doubtful:
        faults[
            "each comma stands before three digits, and may be for decimals or for thousands; "
            "write numbers with a decimal point"
        ] += doubtful
    words = _words(clinical.labels)
    rows: list[dict[str, Any]] = []
    for line, *cells in values.itertuples(name=None):
        row = dict(zip(values.columns, cells, strict=True))
        where = f"line {line} (patient {row['id'] or '?'})"
        born, age = _age(row, clinical, decimal, where, faults)
        rows.append(
            {
                "patient_id": row["id"],
                "subset": subsets.get(row["id"], "train"),
                "label": _label(row["label"], words, clinical, where, faults),
                "born": born,
                "age_years": age,
                "sex": row["sex"].upper() if row["sex"].upper() in ("F", "M") else None,
                "lymphocyte_count": _count(
                    row["lymphocyte_count"], names.lymphocyte_count, decimal, where, faults
                ),
            }
        )
    _find_mismatches([row["patient_id"] for row in rows], set(subsets), pictures, file, faults)
    if faults:
        raise UserError(f"The cohort can't be taken: {grouped(faults)}")
    warnings = tell_persons(rows, names.birth_date)
    patients = _typed(rows)
    dated = any(row["born"] for row in rows)
    warnings += [f"{folder}/ holds no pictures: ignored." for folder in pictures.empty_folders]
    warnings += odd_values(patients, names, names.birth_date if dated else names.age)
    form = f"{file}: {table.attrs.get('form', 'text')}"
    return patients, warnings, _reading(rows, values, form, decimal, clinical)


_OPTIONAL = ("birth_date", "age", "sample_date")
_DECIMAL = {".": "points", ",": "commas"}


def _named_columns(table: pd.DataFrame, names: ClinicalColumns, file: str) -> pd.DataFrame:
    """The columns that are read, by our names, in their normal form; absent ones are empty."""
    found = list(table.columns)
    wanted = {ours: normal(theirs) for ours, theirs in names.model_dump().items()}
    missing = [
        theirs for ours, theirs in wanted.items() if ours not in _OPTIONAL and theirs not in found
    ]
    if wanted["birth_date"] not in found and wanted["age"] not in found:
        missing.append(wanted["birth_date"])
    if missing:
        near = "".join(alike(name, found) for name in missing)
        raise UserError(
            f"{file} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}{near}. "
            f"It has: {some(list(filter(None, found)))}. Expected: {names.id}, {names.label}, "
            f"{names.sex}, {names.birth_date} (or {names.age}), {names.lymphocyte_count}; "
            "clinical.columns says what your columns are called (docs/data.md)."
        )
    if twice := [theirs for theirs in wanted.values() if found.count(theirs) > 1]:
        raise UserError(
            f"{file} has more than one column {', '.join(twice)}; keep the one that is meant."
        )
    values = {ours: table[theirs] if theirs in found else "" for ours, theirs in wanted.items()}
    return pd.DataFrame(values, index=table.index, dtype="str").map(normal)


def _subsets_by_patient(pictures: Sequence[PictureFile], faults: Faults) -> dict[str, Subset]:
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


def _age(
    row: dict[str, str], clinical: ClinicalParameters, decimal: str, where: str, faults: Faults
) -> tuple[date | None, int]:
    """Birth date, where there is one, and age."""
    names = clinical.columns
    at = clinical.reference_date
    if row["sample_date"]:
        at = _date(row["sample_date"], names.sample_date, clinical, where, faults) or at
    if row["birth_date"] or not row["age"]:
        born = _date(row["birth_date"], names.birth_date, clinical, where, faults)
        if born is None:
            return None, 0
        age = completed_years(born, at)
        told = f"{names.birth_date} {row['birth_date']!r} makes an age of {age} years at {at}"
        if not row["sample_date"]:
            told += " (clinical.reference_date sets the day)"
    else:
        born, years = None, number(row["age"], decimal)
        # Not a number is outside, too.
        age = math.floor(years) if 0 <= years < OLDEST_AGE + 1 else -1
        told = f"{names.age} is {row['age']!r}"
    if not 0 <= age <= OLDEST_AGE:
        faults[f"an age is a number of years from 0 to {OLDEST_AGE}"].append(f"{where}: {told}")
    return born, age


def _date(
    text: str, column: str, clinical: ClinicalParameters, where: str, faults: Faults
) -> date | None:
    try:
        return parse_date(text, clinical.slash_dates)
    except ValueError as error:
        slashed = {"month_first": "M/D/YYYY", "day_first": "D/M/YYYY"}
        orders = " or ".join(f"{order} for {form}" for order, form in slashed.items())
        faults[
            f"{column}: expected {slashed[clinical.slash_dates]}, DD-MM-YYYY or YYYY-MM-DD "
            f"(clinical.slash_dates: {orders})"
        ].append(f"{where}: {column} {error}")
        return None


def _count(text: str, column: str, decimal: str, where: str, faults: Faults) -> float:
    count = number(text, decimal)
    if not LOWEST_COUNT <= count <= HIGHEST_COUNT:
        faults[
            f"{column}: expected a number from {LOWEST_COUNT} to {HIGHEST_COUNT}, in 10^9 per "
            f"litre; the other numbers of the table have decimal {_DECIMAL[decimal]}"
        ].append(f"{where}: {column} is {text!r}")
    return count


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


def _reading(
    rows: list[dict[str, Any]],
    values: pd.DataFrame,
    form: str,
    decimal: str,
    clinical: ClinicalParameters,
) -> list[str]:
    """Say how the table was read, and at which day ages are where it gives no sample date."""
    form += f", decimal {_DECIMAL[decimal]}"
    if values[["birth_date", "sample_date"]].apply(lambda c: c.str.contains("/")).any(axis=None):
        order = clinical.slash_dates.replace("_", " ")
        form += f", {order} in dates with slashes (clinical.slash_dates)"
    reading = [form]
    at_reference = [
        row["age_years"]
        for row, sampled in zip(rows, values["sample_date"], strict=True)
        if row["born"] and not sampled
    ]
    if at_reference:
        reading.append(
            f"ages of {len(at_reference)} patients without a {clinical.columns.sample_date} are "
            f"completed years at {clinical.reference_date} (clinical.reference_date; the paper's "
            f"is 2021-03-01): {min(at_reference)} to {max(at_reference)}"
        )
    return reading


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
        values = _named_columns(table, columns, file)
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
