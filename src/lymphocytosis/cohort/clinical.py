"""The clinical table: from a hospital's CSV to typed patients.

The table is read as text and judged cell by cell, so that a refusal can name line and value.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any

import pandas as pd

from lymphocytosis.cohort.pictures import PictureFile, Subset
from lymphocytosis.errors import UserError, listed, some

COLUMNS = ("ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT")
LABELS = {"0": 0, "1": 1, "-1": None}
OLDEST_AGE = 120
# 10^9 per litre. Far beyond any patient, and within what 32-bit numbers and logarithms hold.
LOWEST_COUNT, HIGHEST_COUNT = 0.001, 100_000

_MONTH_FIRST = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_DAY_FIRST = re.compile(r"(\d{1,2})-(\d{1,2})-(\d{4})")


def parse_date(text: str) -> date:
    """Read a date of birth; a slash means month first, a dash means day first.

    Args:
        text: for example `5/1/1933` (the 1st of May) or `01-05-1933` (the same day).

    Returns:
        The date.

    Raises:
        ValueError: the text is in neither form, or no such day exists.
    """
    if match := _MONTH_FIRST.fullmatch(text.strip()):
        month, day, year = map(int, match.groups())
    elif match := _DAY_FIRST.fullmatch(text.strip()):
        day, month, year = map(int, match.groups())
    else:
        raise ValueError(f"{text!r} is neither M/D/YYYY nor DD-MM-YYYY")
    try:
        return date(year, month, day)
    except ValueError as error:
        raise ValueError(f"{text!r} is no date: {error}") from None


def completed_years(born: date, at: date) -> int:
    """Age in completed years.

    Args:
        born: date of birth.
        at: the day at which the age is wanted.

    Returns:
        Years; negative where `at` lies before `born`.
    """
    return at.year - born.year - ((at.month, at.day) < (born.month, born.day))


def read_patients(
    table: pd.DataFrame, pictures: Sequence[PictureFile], reference_date: date
) -> tuple[pd.DataFrame, list[str]]:
    """Turn the clinical table into typed patients, or refuse with every fault named.

    Args:
        table: the CSV as text, one row a patient, with the columns `COLUMNS`; others are ignored.
            Its index tells each row's line in the file.
        pictures: the files found in the cohort's folders; they tell each patient's subset.
        reference_date: ages are completed years at this day.

    Returns:
        The patients, sorted by patient_id: patient_id, person (the same for patients of one birth
        date and sex, who may be one), subset (train/test), label (0, 1 or null), age_years, sex (F,
        M or null), lymphocyte_count (10^9 per litre); and warnings in plain words.

    Raises:
        UserError: a column is missing or stands twice; a date, count or label can't be read; a
            patient appears twice, has no pictures, or has pictures and no row.
    """
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise UserError(
            f"clinical_annotation.csv lacks the column{'s' * (len(missing) > 1)} "
            f"{', '.join(missing)}. It has: {some(list(filter(None, table.columns)))}. "
            f"Expected: {', '.join(COLUMNS)} (docs/data.md)."
        )
    if twice := [column for column in COLUMNS if list(table.columns).count(column) > 1]:
        raise UserError(
            f"clinical_annotation.csv has more than one column {', '.join(twice)}; keep the one "
            "that is meant."
        )
    subsets, faults = _subsets_by_patient(pictures)
    rows: list[dict[str, Any]] = []
    births: list[tuple[str, str | None]] = []
    for line, *record in table[list(COLUMNS)].itertuples(name=None):
        patient_id, label, sex, birth, count = (str(value).strip() for value in record)
        where = f"line {line} (patient {patient_id or '?'})"
        rows.append(
            {
                "patient_id": patient_id,
                "subset": subsets.get(patient_id, "train"),
                "label": _label(label, where, faults),
                "age_years": _age(birth, reference_date, where, faults),
                "sex": sex.upper() if sex.upper() in ("F", "M") else None,
                "lymphocyte_count": _count(count, where, faults),
            }
        )
        births.append((birth, rows[-1]["sex"]))
    faults += _mismatches([str(row["patient_id"]) for row in rows], set(subsets))
    if faults:
        raise UserError(f"The cohort can't be taken: {listed(faults)}")
    twins = _twins(rows, births)
    for same in twins:
        for row in same:
            row["person"] = min(str(other["patient_id"]) for other in same)
    return _typed(rows), _warnings(rows, twins)


def _subsets_by_patient(pictures: Sequence[PictureFile]) -> tuple[dict[str, Subset], list[str]]:
    subsets: dict[str, Subset] = {}
    faults = []
    for picture in pictures:
        known = subsets.setdefault(picture.patient_id, picture.subset)
        if known != picture.subset:
            faults.append(
                f"patient {picture.patient_id}: has a folder in trainset/ and one in testset/; "
                "a patient may stand in one only"
            )
    return subsets, list(dict.fromkeys(faults))


def _label(text: str, where: str, faults: list[str]) -> int | None:
    # A spreadsheet may have turned 1 into 1.0.
    plain = text.removesuffix(".0")
    if plain not in LABELS:
        faults.append(
            f"{where}: LABEL is {text!r}; allowed: 0 (reactive), 1 (tumoral), -1 (hidden)"
        )
    return LABELS.get(plain)


def _age(birth: str, reference_date: date, where: str, faults: list[str]) -> int:
    try:
        age = completed_years(parse_date(birth), reference_date)
    except ValueError as error:
        faults.append(f"{where}: DOB {error}")
        return 0
    if not 0 <= age <= OLDEST_AGE:
        faults.append(
            f"{where}: DOB {birth!r} makes an age of {age} years at {reference_date}; "
            f"allowed: 0 to {OLDEST_AGE} (clinical.reference_date sets the day)"
        )
    return age


def _count(text: str, where: str, faults: list[str]) -> float:
    try:
        # Python would read 1_000 as a thousand.
        count = float(text.replace("_", "?"))
    except ValueError:
        count = math.nan
    if not LOWEST_COUNT <= count <= HIGHEST_COUNT:
        faults.append(
            f"{where}: LYMPH_COUNT is {text!r}; expected a number from {LOWEST_COUNT} to "
            f"{HIGHEST_COUNT}, in 10^9 per litre"
        )
    return count


def _mismatches(patient_ids: list[str], with_pictures: set[str]) -> list[str]:
    faults = [
        f"patient {patient_id or '(no ID)'}: stands {n} times in the table; once is allowed"
        for patient_id, n in Counter(patient_ids).items()
        if n > 1
    ]
    faults += [
        f"patient {patient_id or '(no ID)'}: has a row and no pictures "
        f"(expected trainset/{patient_id}/ or testset/{patient_id}/)"
        for patient_id in dict.fromkeys(patient_ids)
        if patient_id not in with_pictures
    ]
    faults += [
        f"patient {patient_id}: has pictures and no row in clinical_annotation.csv"
        for patient_id in sorted(with_pictures - set(patient_ids))
    ]
    return faults


def _twins(
    rows: list[dict[str, Any]], births: list[tuple[str, str | None]]
) -> list[list[dict[str, Any]]]:
    """The rows, those of one birth date and sex together."""
    twins: dict[tuple[date, str | None], list[dict[str, Any]]] = {}
    for row, (birth, sex) in zip(rows, births, strict=True):
        twins.setdefault((parse_date(birth), sex), []).append(row)
    return list(twins.values())


def _warnings(rows: list[dict[str, Any]], twins: list[list[dict[str, Any]]]) -> list[str]:
    warnings = [
        f"Patients {', '.join(sorted(str(row['patient_id']) for row in same))} share a birth date "
        "and sex: perhaps one person twice."
        for same in twins
        if len(same) > 1
    ]
    unlabelled = [r["patient_id"] for r in rows if r["subset"] == "train" and r["label"] is None]
    if unlabelled:
        warnings.append(
            f"Patients {', '.join(map(str, unlabelled))} stand in trainset/ without a label: "
            "their pictures train the encoder, and no classifier sees them."
        )
    unknown_sex = [str(row["patient_id"]) for row in rows if row["sex"] is None]
    if unknown_sex:
        warnings.append(
            f"Patients {', '.join(unknown_sex)}: GENDER is neither F nor M, taken as unknown."
        )
    return warnings


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


def table_traces(table: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """Take from the table what is no medicine and may yet tell the label: its form.

    Args:
        table: the CSV as text, as `read_patients` takes it.
        patients: what `read_patients` made of it: patient_id, and others.

    Returns:
        patient_id; date_format (1: a birth date with dashes, 0: with slashes); row_order (from 0).

    Raises:
        UserError: the file is not the one that the patients were read from.
    """
    once = all(list(table.columns).count(name) == 1 for name in ("ID", "DOB"))
    if not once or sorted(table["ID"].str.strip()) != sorted(patients["patient_id"]):
        raise UserError(
            "clinical_annotation.csv has changed since ingest: it does not hold the same patients. "
            "Run ingest again."
        )
    return pd.DataFrame(
        {
            "patient_id": table["ID"].str.strip().to_numpy(),
            "date_format": table["DOB"].str.contains("-").to_numpy(dtype="int8"),
            "row_order": range(len(table)),
        }
    )
