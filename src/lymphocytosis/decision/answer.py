"""The answer on each test patient: one decision, how sure it is, and what speaks for caution."""

from collections.abc import Mapping

import pandas as pd

from lymphocytosis.decision.results import CLASSES
from lymphocytosis.decision.rules import decide_by_average

TYPES = {
    "ID": "str", "decision": "str", "probability": "float64", "spread": "float64",
    "cells": "int64", "warnings": "str",
}  # fmt: skip


def answer(
    statistics: pd.DataFrame,
    others: Mapping[str, pd.DataFrame],
    patients: pd.DataFrame,
    cells: pd.DataFrame,
) -> pd.DataFrame:
    """Answer by AVG of one size, and compare with the other methods.

    Args:
        statistics: as `summarise` returns them.
        others: what further methods decide, by their titles: patient_id, decision.
        patients: patient_id, person, cell_count, and others.
        cells: patient_id, status, and others; a row for each file.

    Returns:
        ID; decision (reactive or tumoral); probability, the mean of a patient's predictions;
        spread, their standard deviation; cells, the pictures taken; warnings, or an empty text.
    """
    of_patient = patients.set_index("patient_id")
    files = pd.crosstab(cells["patient_id"], cells["status"])
    decided = {title: table.set_index("patient_id")["decision"] for title, table in others.items()}
    rows = []
    for row in statistics.merge(decide_by_average(statistics)).to_dict("records"):
        patient_id, decision = row["patient_id"], row["decision"]
        against = [title for title, of in decided.items() if of[patient_id] != decision]
        warnings = [f"{', '.join(against)}: {CLASSES[1 - decision]}"] if against else []
        for status, name in (("left_out", "left out"), ("converted", "converted")):
            if count := files.get(status, {}).get(patient_id, 0):
                warnings.append(f"{count} of {files.loc[patient_id].sum()} pictures {name}")
        person = of_patient["person"][patient_id]
        same = of_patient.index[of_patient["person"] == person].drop(patient_id)
        warnings += [f"may be the same person as {', '.join(same)}"] if len(same) else []
        rows.append(
            {
                "ID": patient_id,
                "decision": CLASSES[decision],
                "probability": row["mean"],
                "spread": row["std"],
                "cells": of_patient["cell_count"][patient_id],
                "warnings": "; ".join(warnings),
            }
        )
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)
