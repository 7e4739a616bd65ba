"""New patients: a cohort without labels or splits, and perhaps without clinical values."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lymphocytosis.cohort.clinical import subsets_by_patient
from lymphocytosis.cohort.columns import (
    Faults,
    how_read,
    named_columns,
    read_age,
    read_count,
    tell_decimal,
)
from lymphocytosis.cohort.names import alike, folded
from lymphocytosis.cohort.pictures import PictureFiles
from lymphocytosis.cohort.plausibility import odd_numbers, odd_values
from lymphocytosis.errors import UserError, grouped, one_line, some
from lymphocytosis.parameters import ClinicalParameters

_COLUMNS = {
    "patient_id": "str",
    "born": "object",
    "age_years": "float64",
    "lymphocyte_count": "float64",
    "warnings": "object",
}


def read_new_patients(
    table: pd.DataFrame | None, pictures: PictureFiles, clinical: ClinicalParameters
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Find the patients who have pictures, and their clinical values as far as they are known.

    Labels and sex are not read, and neither are rows without pictures, of which a warning tells: a
    laboratory's table may hold more patients than were photographed. Such a row is refused where
    pictures would be left without their values: a folder's name is nearly the row's, or no row at
    all has pictures.

    Args:
        table: the table as text, as `read_patients` takes it; None where there is none.
        pictures: the files found in the cohort's folders.
        clinical: the block `clinical` of the parameters.

    Returns:
        The patients, sorted by patient_id: patient_id, age_years, lymphocyte_count (10^9 per
        litre), both null where they are not known, and warnings, a list of texts; warnings of the
        whole cohort; and how the table was read.

    Raises:
        UserError: a column is missing or stands twice; a value can't be read; a patient appears
            twice; a row's pictures are under another name.
    """
    faults: Faults = defaultdict(list)
    with_pictures = sorted(subsets_by_patient(pictures, faults))
    warnings = one_line(
        [f"{folder}/ holds no pictures: ignored." for folder in pictures.empty_folders],
        "folders hold no pictures and are ignored",
        pictures.empty_folders,
    )
    if beside := pictures.folders_beside:
        warnings.append(f"Folders beside trainset/ or testset/ are ignored: {some(beside)}.")
    rows: list[dict[str, Any]] = []
    reading: list[str] = []
    if table is None:
        lacking = "There is no clinical table."
        warnings.append("There is no clinical_annotation.csv: no patient's age and count is known.")
    else:
        file = table.attrs.get("file", "clinical_annotation.csv")
        lacking = f"The patient has no row in {file}."
        values = named_columns(table, clinical.columns.model_dump(exclude={"label", "sex"}), file)
        decimal = tell_decimal(values, clinical, faults)
        warnings += _match(values["id"].tolist(), with_pictures, file, faults)
        values = values[values["id"].isin(with_pictures)]
        for line, *cells in values.itertuples(name=None):
            row = dict(zip(values.columns, cells, strict=True))
            rows.append(_read_row(row, clinical, decimal, f"line {line}", faults))
        reading = how_read(values, rows, file, decimal, clinical)
    if faults:
        raise UserError(f"The cohort can't be taken: {grouped(faults)}")
    found = {row["patient_id"]: row for row in rows}
    without = {"born": None, "age_years": None, "lymphocyte_count": None}
    patients = pd.DataFrame(
        [
            found.get(name, {"patient_id": name, **without, "warnings": [lacking]})
            for name in with_pictures
        ]
    ).astype(_COLUMNS)
    names = clinical.columns
    age_column = names.birth_date if patients["born"].notna().any() else names.age
    warnings += odd_values(patients, names, age_column)
    for column, odd, _, what in odd_numbers(patients, names, age_column):
        for said in patients.loc[odd, "warnings"]:
            said.append(f"{column}: {what}.")
    return patients.drop(columns="born"), warnings, reading


def _match(
    in_table: Sequence[str], with_pictures: Sequence[str], file: str, faults: Faults
) -> list[str]:
    """Compare rows with folders; warn of those that stand alone."""
    folders = set(with_pictures)
    twice = {name: n for name, n in Counter(in_table).items() if n > 1 and name in folders}
    if twice:
        faults["a patient stands once in the table"] += [
            f"patient {name}: stands {n} times in the table" for name, n in twice.items()
        ]
    unseen = [name for name in dict.fromkeys(in_table) if name not in folders]
    lacking = sorted(folders - set(in_table))
    near: dict[str, list[str]] = defaultdict(list)
    for name in lacking:
        near[folded(name)].append(name)
    if misnamed := [name for name in unseen if folded(name) in near]:
        faults["a row needs pictures under its own name"] += [
            f"patient {name}: has a row and no pictures{alike(name, near[folded(name)])}"
            for name in misnamed
        ]
    elif unseen and len(lacking) == len(folders):
        faults["a row needs pictures under its own name"].append(
            f"no ID in {file} is the name of a folder with pictures; IDs: {some(unseen)}; "
            f"folders: {some(lacking)}"
        )
    warnings = []
    if unseen:
        shown = some([name or "(no ID)" for name in unseen])
        warnings.append(f"{file}: {len(unseen)} row(s) without pictures, ignored: {shown}.")
    if lacking:
        warnings.append(f"{len(lacking)} patient(s) have no row in {file}: {some(lacking)}.")
    return warnings


def _read_row(
    row: Mapping[str, str], clinical: ClinicalParameters, decimal: str, line: str, faults: Faults
) -> dict[str, Any]:
    names, where = clinical.columns, f"{line} (patient {row['id']})"
    born = age = count = None
    warnings = []
    if row["birth_date"] or row["age"]:
        born, age = read_age(row, clinical, decimal, where, faults)
    else:
        warnings.append(f"No age is known (neither {names.birth_date} nor {names.age}).")
    if row["lymphocyte_count"]:
        count = read_count(row["lymphocyte_count"], clinical, decimal, where, faults)
    else:
        warnings.append(f"No lymphocyte count is known ({names.lymphocyte_count}).")
    return {
        "patient_id": row["id"],
        "born": born,
        "age_years": age,
        "lymphocyte_count": count,
        "warnings": warnings,
    }
