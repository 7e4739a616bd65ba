"""The columns of a clinical table, found by their names and read cell by cell.

Faults are collected by cause, each with line and value, so that a refusal names them all.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import pandas as pd

from lymphocytosis.cohort.names import alike, normal
from lymphocytosis.cohort.values import completed_years, decimal_sign, number, parse_date
from lymphocytosis.errors import UserError, some
from lymphocytosis.parameters import ClinicalParameters

OLDEST_AGE = 120
# 10^9 per litre. Far beyond any patient, and within what 32-bit numbers and logarithms hold.
LOWEST_COUNT, HIGHEST_COUNT = 0.001, 100_000

Faults = dict[str, list[str]]  # by cause

# Of birth date and age, one is needed.
_OPTIONAL = ("birth_date", "age", "sample_date")
_DECIMAL = {".": "points", ",": "commas"}


def named_columns(table: pd.DataFrame, names: Mapping[str, str], file: str) -> pd.DataFrame:
    """Take the columns that are read.

    Args:
        table: the table as text; other columns are ignored.
        names: what its columns are called, by our names; birth_date and age among them.
        file: its name, for messages.

    Returns:
        The columns by our names, their cells in their normal form; absent ones are empty.

    Raises:
        UserError: a column is missing or stands twice.
    """
    found = list(table.columns)
    wanted = {ours: normal(theirs) for ours, theirs in names.items()}
    missing = [
        theirs for ours, theirs in wanted.items() if ours not in _OPTIONAL and theirs not in found
    ]
    if wanted["birth_date"] not in found and wanted["age"] not in found:
        missing.append(wanted["birth_date"])
    if missing:
        near = "".join(alike(name, found) for name in missing)
        needed = wanted | {"birth_date": f"{wanted['birth_date']} (or {wanted['age']})"}
        expected = [needed[ours] for ours in needed if ours not in _OPTIONAL[1:]]
        raise UserError(
            f"{file} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}{near}. "
            f"It has: {some(list(filter(None, found)))}. Expected: {', '.join(expected)}; "
            "clinical.columns says what your columns are called (docs/clinical_table.md)."
        )
    if twice := [theirs for theirs in wanted.values() if found.count(theirs) > 1]:
        raise UserError(
            f"{file} has more than one column {', '.join(twice)}; keep the one that is meant."
        )
    values = {ours: table[theirs] if theirs in found else "" for ours, theirs in wanted.items()}
    return pd.DataFrame(values, index=table.index, dtype="str").map(normal)


def tell_decimal(values: pd.DataFrame, clinical: ClinicalParameters, faults: Faults) -> str:
    """Tell the sign before decimals, the same in all numbers of a table.

    Args:
        values: as `named_columns` returns them.
        clinical: the block `clinical` of the parameters.
        faults: gets each comma that may as well separate thousands.

    Returns:
        A point or a comma.
    """
    names = clinical.columns
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
    return decimal


def read_age(
    row: Mapping[str, str], clinical: ClinicalParameters, decimal: str, where: str, faults: Faults
) -> tuple[date | None, int]:
    """Read an age, from the birth date if there is one.

    Args:
        row: birth_date, age and sample_date, as text.
        clinical: the block `clinical` of the parameters.
        decimal: the sign before decimals.
        where: line and patient, for messages.
        faults: gets what can't be read.

    Returns:
        The birth date, if the row has one, and the age in completed years.
    """
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


def read_count(
    text: str, clinical: ClinicalParameters, decimal: str, where: str, faults: Faults
) -> float:
    """Read a lymphocyte count.

    Args:
        text: the cell.
        clinical: the block `clinical` of the parameters.
        decimal: the sign before decimals.
        where: line and patient, for messages.
        faults: gets a count that is no number, or out of bounds.

    Returns:
        The count in 10^9 per litre.
    """
    column, count = clinical.columns.lymphocyte_count, number(text, decimal)
    if not LOWEST_COUNT <= count <= HIGHEST_COUNT:
        faults[
            f"{column}: expected a number from {LOWEST_COUNT} to {HIGHEST_COUNT}, in 10^9 per "
            f"litre; the other numbers of the table have decimal {_DECIMAL[decimal]}"
        ].append(f"{where}: {column} is {text!r}")
    return count


def how_read(
    values: pd.DataFrame,
    rows: Sequence[Mapping[str, Any]],
    form: str,
    decimal: str,
    clinical: ClinicalParameters,
) -> list[str]:
    """Say how a table was read, and at which day ages are where it gives no sample date.

    Args:
        values: as `named_columns` returns them.
        rows: of each line its birth date (born) and age_years.
        form: the file's name and form.
        decimal: the sign before decimals.
        clinical: the block `clinical` of the parameters.

    Returns:
        One or two texts.
    """
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
