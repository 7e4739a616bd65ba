"""Values that are valid for their type, but not plausible for a patient."""

from typing import NamedTuple

import pandas as pd

from lymphocytosis.cohort.names import folded
from lymphocytosis.cohort.persons import OLDEST_PLAUSIBLE_AGE
from lymphocytosis.errors import one_line, some
from lymphocytosis.parameters import ClinicalColumns

# 10^9 per litre. No blood has more lymphocytes and no lymphocytosis fewer: it is another unit.
LOWEST_PLAUSIBLE_COUNT, HIGHEST_PLAUSIBLE_COUNT = 0.05, 1_000


class Oddity(NamedTuple):
    """What is odd about some patients' values.

    Attributes:
        column: of the clinical table.
        odd: which patients' values are.
        of: what is counted, values or patients.
        what: what they are.
    """

    column: str
    odd: "pd.Series[bool]"
    of: str
    what: str


def odd_numbers(patients: pd.DataFrame, names: ClinicalColumns, age_column: str) -> list[Oddity]:
    """Find implausible ages and counts, with the unit that counts seem to be in.

    Args:
        patients: age_years, lymphocyte_count, and others.
        names: the names of the table's columns.
        age_column: the column that ages were taken from.

    Returns:
        What was looked for, whether it was found or not.
    """
    return [
        Oddity(
            names.lymphocyte_count,
            patients["lymphocyte_count"] > HIGHEST_PLAUSIBLE_COUNT,
            "values",
            f"above {HIGHEST_PLAUSIBLE_COUNT}, which no patient has in 10^9 per litre; perhaps "
            "in cells per microlitre (then divide by 1000)",
        ),
        Oddity(
            names.lymphocyte_count,
            patients["lymphocyte_count"] < LOWEST_PLAUSIBLE_COUNT,
            "values",
            f"below {LOWEST_PLAUSIBLE_COUNT}, too few for a lymphocytosis in 10^9 per litre; "
            "perhaps in 10^12 per litre (then multiply by 1000)",
        ),
        Oddity(
            age_column,
            patients["age_years"] > OLDEST_PLAUSIBLE_AGE,
            "patients",
            f"older than {OLDEST_PLAUSIBLE_AGE} years, which looks like a placeholder",
        ),
    ]


def odd_values(patients: pd.DataFrame, names: ClinicalColumns, age_column: str) -> list[str]:
    """Warn of implausible values, by column.

    Args:
        patients: patient_id, age_years, lymphocyte_count; and subset, label and sex, where these
            were read.
        names: the names of the table's columns.
        age_column: the column that ages were taken from.

    Returns:
        The warnings.
    """
    found = odd_numbers(patients, names, age_column)
    if "label" in patients:
        found += [
            Oddity(
                names.label,
                (patients["subset"] == "train") & patients["label"].isna(),
                "patients",
                "in trainset/ without a label: their pictures train the encoder, and no "
                "classifier sees them",
            ),
            Oddity(
                names.sex, patients["sex"].isna(), "values", "neither F nor M, taken as unknown"
            ),
        ]
    ids = patients["patient_id"]
    alike = [[*map(repr, same)] for _, same in ids.groupby(ids.map(folded)) if len(same) > 1]
    return [
        f"{column}: {odd.sum()} of {len(patients)} {of} are {what}: {some(list(ids[odd]))}."
        for column, odd, of, what in found
        if odd.any()
    ] + one_line(
        [
            f"{names.id}: {' and '.join(same)} differ only in case, blanks or form, and are taken "
            "as different patients."
            for same in alike
        ],
        f"groups of {names.id} differ only in case, blanks or form, and are taken as different "
        "patients",
        [" and ".join(same) for same in alike],
    )
