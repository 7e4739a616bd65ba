"""What was taken of a cohort, what was refused and why."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lymphocytosis.errors import UserError, one_line

CELL_COLUMNS = ["patient_id", "image_id", "path", "sha256", "row", "status"]
_REASONS_SHOWN = 8


@dataclass(frozen=True)
class Inventory:
    """What became of a cohort's files, as far as a report tells.

    Attributes:
        taken: the number of pictures by patient_id; of those with none, nothing.
        status: the number of files by status.
        unusual: of the image store's records, those with a reason.
        copies: path and sha256 of the pictures that are there more than once.
    """

    taken: pd.Series
    status: pd.Series
    unusual: pd.DataFrame
    copies: pd.DataFrame


def take_inventory(records: Callable[[], Iterable[pd.DataFrame]]) -> Inventory:
    """Count files, and find the odd ones among them.

    Args:
        records: gives the image store's records, one row a file, part by part; called twice.

    Returns:
        The inventory. Of a usual file, memory holds eight bytes.
    """
    taken, status, unusual, digests = [], [], [], []
    for part in records():
        taken.append(part.loc[part["row"].notna(), "patient_id"].value_counts())
        status.append(part["status"].value_counts())
        unusual.append(part[part["reason"] != ""])
        digests.append(pd.util.hash_array(part["sha256"].to_numpy()))
    # By a short hash first: a million pictures have few copies, and only these are compared.
    values = np.concatenate(digests)
    values.sort()
    twice = values[1:][values[1:] == values[:-1]]
    perhaps = [
        part.loc[np.isin(digest, twice) & part["row"].notna(), ["path", "sha256"]]
        for part, digest in zip(records(), digests, strict=True)
    ]
    copies = pd.concat(perhaps)
    return Inventory(
        pd.concat(taken).groupby(level=0).sum(),
        pd.concat(status).groupby(level=0).sum(),
        pd.concat(unusual),
        copies[copies.duplicated("sha256", keep=False)],
    )


def count_cells(patients: pd.DataFrame, inventory: Inventory) -> pd.DataFrame:
    """Give each patient the number of pictures that were taken.

    Args:
        patients: as `read_patients` returns them.
        inventory: of the cohort's files.

    Returns:
        The patients with a column cell_count.

    Raises:
        UserError: every picture of a patient was left out.
    """
    counts = patients["patient_id"].map(inventory.taken).fillna(0).astype("int32")
    empty = patients.loc[counts == 0, "patient_id"]
    if len(empty):
        unusual = inventory.unusual
        reasons = unusual[unusual["patient_id"].isin(empty)].groupby("patient_id")["reason"]
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
    inventory: Inventory,
    warnings: list[str],
    reading: list[str],
    image: dict[str, Any],
) -> dict[str, Any]:
    """Say what was taken, what was converted or left out and why, and what looks odd.

    Args:
        patients: with cell_count.
        inventory: of the cohort's files.
        warnings: what reading the clinical table brought up.
        reading: how the clinical table was read.
        image: the parameters that shaped the pictures.

    Returns:
        A report of plain values, ready for JSON.
    """
    unusual = inventory.unusual
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
        "pictures": {
            name: int(inventory.status.get(name, 0)) for name in ("taken", "converted", "left_out")
        },
        "not_taken_as_they_are": unusual.to_dict(orient="records"),
        "warnings": warnings + _told(inventory.copies),
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


def _told(copies: pd.DataFrame) -> list[str]:
    paths = [", ".join(same["path"]) for _, same in copies.groupby("sha256")]
    return one_line(
        [f"The same picture is there more than once: {same}." for same in paths],
        "pictures are there more than once, each here with its copies",
        paths,
    )
