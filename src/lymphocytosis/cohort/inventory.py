"""What was taken of a cohort, what was refused and why."""

from typing import Any

import numpy as np
import pandas as pd

from lymphocytosis.errors import UserError, one_line

CELL_COLUMNS = ["patient_id", "image_id", "path", "sha256", "row", "status"]
_REASONS_SHOWN = 8
_AT_ONCE = 65_536


def count_cells(patients: pd.DataFrame, cells: pd.DataFrame, unusual: pd.DataFrame) -> pd.DataFrame:
    """Give each patient the number of pictures that were taken.

    Args:
        patients: as `read_patients` returns them.
        cells: patient_id and row, one row a file.
        unusual: of the image store's records, those with a reason.

    Returns:
        The patients with a column cell_count.

    Raises:
        UserError: every picture of a patient was left out.
    """
    taken = cells.loc[cells["row"].notna(), "patient_id"].value_counts()
    counts = patients["patient_id"].map(taken).fillna(0).astype("int32")
    empty = patients.loc[counts == 0, "patient_id"]
    if len(empty):
        reasons = unusual.loc[unusual["patient_id"].isin(empty)].groupby("patient_id")["reason"]
        raise UserError(
            "No picture could be taken of:\n"
            + "\n".join(
                f"  - patient {patient_id}: {len(said)} file(s) left out, the first: {said.iloc[0]}"
                for patient_id, said in reasons
            )
            + "\nRepair the files, or take the patients out of the cohort; "
            "image.other_size and image.other_mode say what is converted."
        )
    return patients.assign(cell_count=counts)


def report_ingest(
    patients: pd.DataFrame,
    cells: pd.DataFrame,
    unusual: pd.DataFrame,
    warnings: list[str],
    reading: list[str],
    image: dict[str, Any],
) -> dict[str, Any]:
    """Say what was taken, what was converted or left out and why, and what looks odd.

    Args:
        patients: with cell_count.
        cells: `CELL_COLUMNS`, one row a file.
        unusual: of the image store's records, those with a reason.
        warnings: what reading the clinical table brought up.
        reading: how the clinical table was read.
        image: the parameters that shaped the pictures.

    Returns:
        A report of plain values, ready for JSON.
    """
    status = cells["status"].value_counts()
    unusual = unusual.loc[unusual["status"] != "taken", ["path", "status", "reason"]]
    return {
        "read": reading,
        "patients": {
            "train_reactive": _count(patients, "train", 0),
            "train_tumoral": _count(patients, "train", 1),
            "train_unlabelled": _count(patients, "train", None),
            "test_reactive": _count(patients, "test", 0),
            "test_tumoral": _count(patients, "test", 1),
            "test_unlabelled": _count(patients, "test", None),
        },
        "cells_per_patient": {
            "fewest": int(patients["cell_count"].min()),
            "median": float(patients["cell_count"].median()),
            "most": int(patients["cell_count"].max()),
        },
        "pictures": {name: int(status.get(name, 0)) for name in ("taken", "converted", "left_out")},
        "not_taken_as_they_are": unusual.to_dict(orient="records"),
        "warnings": warnings + _copies(cells),
        "image": image,
    }


def reasons_of(unusual: pd.DataFrame) -> list[str]:
    """Say why pictures were left out or converted.

    Args:
        unusual: of the image store's records, those with a reason.

    Returns:
        A line for each of the first 8 reasons: those of pictures left out first, then the most
        frequent. None where every picture was taken as it is.
    """
    unusual = unusual[unusual["status"] != "taken"]
    if unusual.empty:
        return []
    reasons = unusual.groupby(["status", "reason"])["path"].agg(["size", "first"]).reset_index()
    reasons = reasons.sort_values(["status", "size"], ascending=False, kind="stable")
    lines = [
        f"{count} {status}: {reason} ({path}{', ...' if count > 1 else ''})"
        for status, reason, count, path in reasons.to_numpy().tolist()
    ]
    hidden = len(lines) - _REASONS_SHOWN
    return lines[:_REASONS_SHOWN] + [f"... and {hidden} more reasons"] * (hidden > 0)


def _count(patients: pd.DataFrame, subset: str, label: int | None) -> int:
    labels = patients.loc[patients["subset"] == subset, "label"]
    return int(labels.isna().sum() if label is None else labels.eq(label).sum())


def _copies(cells: pd.DataFrame) -> list[str]:
    # By a short hash first: a million pictures have few copies, and only these are compared.
    digests = [
        pd.util.hash_array(cells["sha256"].iloc[first : first + _AT_ONCE].to_numpy())
        for first in range(0, len(cells), _AT_ONCE)
    ]
    values, counts = np.unique(np.concatenate(digests), return_counts=True)
    twice = np.concatenate([np.isin(each, values[counts > 1]) for each in digests])
    perhaps = cells[twice & cells["row"].notna()]
    copies = perhaps[perhaps.duplicated("sha256", keep=False)]
    paths = [", ".join(same["path"]) for _, same in copies.groupby("sha256")]
    return one_line(
        [f"The same picture is there more than once: {same}." for same in paths],
        "pictures are there more than once, each here with its copies",
        paths,
    )
