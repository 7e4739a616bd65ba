"""Values that are valid for their type, but not plausible for a patient."""

import pandas as pd

from lymphocytosis.cohort.names import folded
from lymphocytosis.cohort.persons import OLDEST_PLAUSIBLE_AGE
from lymphocytosis.errors import some
from lymphocytosis.parameters import ClinicalColumns

# 10^9 per litre. No blood has more lymphocytes and no lymphocytosis fewer: it is another unit.
LOWEST_PLAUSIBLE_COUNT, HIGHEST_PLAUSIBLE_COUNT = 0.05, 1_000


def odd_values(patients: pd.DataFrame, names: ClinicalColumns, age_column: str) -> list[str]:
    """Warn of implausible values, by column, with the unit that they seem to be in.

    Args:
        patients: patient_id, subset, label, age_years, sex, lymphocyte_count.
        names: the names of the table's columns.
        age_column: the column that ages were taken from.

    Returns:
        The warnings.
    """
    found = (
        (
            names.lymphocyte_count,
            patients["lymphocyte_count"] > HIGHEST_PLAUSIBLE_COUNT,
            f"values are above {HIGHEST_PLAUSIBLE_COUNT}, which no patient has in 10^9 per litre; "
            "they look like cells per microlitre (divide these by 1000)",
        ),
        (
            names.lymphocyte_count,
            patients["lymphocyte_count"] < LOWEST_PLAUSIBLE_COUNT,
            f"values are below {LOWEST_PLAUSIBLE_COUNT}, too few for a lymphocytosis in 10^9 per "
            "litre; they look like 10^12 per litre (multiply these by 1000)",
        ),
        (
            age_column,
            patients["age_years"] > OLDEST_PLAUSIBLE_AGE,
            f"patients are older than {OLDEST_PLAUSIBLE_AGE} years, which looks like a placeholder",
        ),
        (
            names.label,
            (patients["subset"] == "train") & patients["label"].isna(),
            "patients are in trainset/ without a label: their pictures train the encoder, and no "
            "classifier sees them",
        ),
        (names.sex, patients["sex"].isna(), "values are neither F nor M, taken as unknown"),
    )
    ids = patients["patient_id"]
    alike = [list(same) for _, same in ids.groupby(ids.map(folded)) if len(same) > 1]
    return [
        f"{column}: {odd.sum()} of {len(patients)} {what}: {some(list(ids[odd]))}."
        for column, odd, what in found
        if odd.any()
    ] + [
        f"{names.id}: {' and '.join(map(repr, same))} differ only in case, blanks or form, and "
        "are taken as different patients."
        for same in alike
    ]
