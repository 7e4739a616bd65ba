"""Training and validation patients (paper, section 3.3)."""

import math
import re
from collections.abc import Callable
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import train_test_split

from lymphocytosis.cohort.names import alike, normal
from lymphocytosis.errors import UserError, listed, some
from lymphocytosis.parameters import SplitParameters

COLUMNS = ("split", "patient_id", "role")
ROLES = ("train", "validation")
TEXTS = ("patient_id", "role")  # columns that hold no number
CLASSES = ("reactive", "tumoral")  # by label


def labelled(patients: pd.DataFrame) -> pd.DataFrame:
    """Choose the patients that classifiers learn from: training patients with a label.

    Args:
        patients: patient_id, subset, label, and others.

    Returns:
        Their rows.
    """
    return patients[(patients["subset"] == "train") & patients["label"].notna()]


def check_patients_of(entry: str, table: pd.DataFrame, patients: pd.DataFrame) -> None:
    """Refuse a table with other patients than labelled training ones, as from another ingest.

    Args:
        entry: the table's name in the catalog.
        table: patient_id, and others.
        patients: patient_id, subset, label, and others.

    Raises:
        UserError: a patient is unknown or has no label; its row is named.
    """
    known = set(labelled(patients)["patient_id"])
    rows = enumerate(table["patient_id"], start=1)
    _refuse_entry(
        entry,
        [f"row {n}: {p!r} isn't a labelled training patient" for n, p in rows if p not in known],
    )


def check_splits(splits: pd.DataFrame, patients: pd.DataFrame) -> None:
    """Refuse splits that are of other patients, or in which a part lacks a class.

    Args:
        splits: split, patient_id, role.
        patients: patient_id, subset, label, and others.

    Raises:
        UserError: a patient is unknown or has no label, its row named; or a part lacks a class.
    """
    check_patients_of("splits", splits, patients)
    label = labelled(patients).set_index("patient_id")["label"]
    _refuse_entry("splits", _one_sided_parts(splits, label))


def _refuse_entry(entry: str, faults: list[str]) -> None:
    if faults:
        raise UserError(
            f"The catalog entry '{entry}' does not match the entry 'patients': {listed(faults)}\n"
            "Run the pipeline that makes it again."
        )


def draw_splits(patients: pd.DataFrame, splits: SplitParameters, seed: int) -> pd.DataFrame:
    """Draw stratified splits, independent of one another, by scikit-learn's train_test_split.

    Patients who may be the same person go into the same part, so that no model is validated on a
    person it was trained on. A person's class is that of their first patient.

    Args:
        patients: patient_id, person, subset, label, and others.
        splits: the block `splits` of the parameters.
        seed: of the first split; each further one adds 1.

    Returns:
        split (from 1), patient_id, role (train or validation).

    Raises:
        UserError: a class has too few persons for both roles, or a part's share is far from the
            requested one.
    """
    known = labelled(patients)
    label = known.set_index("patient_id")["label"].astype(int)
    persons = known.drop_duplicates("person")
    if short := _what_is_short(persons, splits.validation_share):
        raise UserError(
            f"The labelled training patients are {count_persons(known)}, too few for a validation "
            f"part of {splits.validation_share} (splits.validation_share) with both classes in "
            f"both parts: {short}."
        )
    drawn = []
    for split in range(1, splits.count + 1):
        parts = train_test_split(
            persons["person"].to_numpy(),
            test_size=splits.validation_share,
            stratify=persons["label"].to_numpy(dtype=int),
            random_state=seed + split - 1,
        )
        for role, chosen in zip(ROLES, parts, strict=True):
            ids = sorted(known.loc[known["person"].isin(chosen), "patient_id"])
            drawn.append(pd.DataFrame({"split": split, "patient_id": ids, "role": role}))
    table = pd.concat(drawn, ignore_index=True)
    if faults := _one_sided_parts(table, label) + _far_shares(table, splits.validation_share):
        raise UserError(
            f"The labelled training patients, {count_persons(known)}, can't be split as "
            f"splits.validation_share ({splits.validation_share}) asks: {listed(faults)}\n"
            "Add patients, or change the share."
        )
    return table


def _what_is_short(persons: pd.DataFrame, share: float) -> str:
    """What a stratified split lacks: two persons of each class, one of each class in a part."""
    counts = [int((persons["label"] == value).sum()) for value in (0, 1)]
    if min(counts) < 2:
        return " and ".join(
            f"{2 - n} more {name} {'person is' if n else 'persons are'} needed"
            for n, name in zip(counts, CLASSES, strict=True)
            if n < 2
        )
    # As scikit-learn rounds.
    validation = math.ceil(share * len(persons))
    if validation < len(CLASSES):
        least = math.ceil(2000 / len(persons)) / 1000
        return f"that is {validation} person, and 2 are needed; {least} is the least that gives 2"
    if (left := len(persons) - validation) < len(CLASSES):
        most = math.floor(1000 - 2000 / len(persons)) / 1000
        return f"it leaves {left} to train on, and 2 are needed; {most} is the most that leaves 2"
    return ""


def _far_shares(table: pd.DataFrame, share: float) -> list[str]:
    """Validation parts far from the requested share, since a person may have many patients."""
    faults = []
    for split, roles in table.groupby("split")["role"]:
        held_out = int((roles == "validation").sum())
        if abs(held_out - share * len(roles)) > max(2, len(roles) / 20):
            faults.append(
                f"split {split}: {held_out} of {len(roles)} patients are in its validation part, "
                f"a share of {held_out / len(roles):.2f}"
            )
    return faults


def persons_by_class(known: pd.DataFrame) -> "pd.Series[int]":
    """Count persons; one with patients of both classes counts in both.

    Args:
        known: labelled patients: person, label, and others.

    Returns:
        The number of persons by label, 0 and 1.
    """
    persons = known.groupby(known["label"].astype(int))["person"].nunique()
    return persons.reindex([0, 1], fill_value=0)


def count_persons(known: pd.DataFrame) -> str:
    """Describe how many persons of each class there are.

    Args:
        known: labelled patients: person, label, and others.

    Returns:
        For example "3 reactive and 1 tumoral persons"; with the number of patients if it differs.
    """
    persons = persons_by_class(known)
    counts = f"{persons[0]} reactive and {persons[1]} tumoral persons"
    return counts if persons.sum() == len(known) else f"{counts} ({len(known)} patients)"


def fingerprint(splits: pd.DataFrame) -> str:
    """Tell one table of splits from another, without naming patients.

    Args:
        splits: split, patient_id, role.

    Returns:
        A digest of its rows.
    """
    return sha256(splits.to_csv(index=False).encode()).hexdigest()


def numbers_of(
    patients: pd.DataFrame, splits: pd.DataFrame, split: int, role: str
) -> npt.NDArray[np.int64]:
    """Find a split's patients in the patients table.

    Args:
        patients: patient_id, and others.
        splits: split, patient_id, role.
        split: which split.
        role: train or validation.

    Returns:
        Their positions in `patients`.
    """
    chosen = splits.loc[(splits["split"] == split) & (splits["role"] == role), "patient_id"]
    return pd.Index(patients["patient_id"]).get_indexer(chosen)


def take_supplied_splits(table: pd.DataFrame | None, patients: pd.DataFrame) -> pd.DataFrame:
    """Check a user's own table of splits.

    Args:
        table: split, patient_id, role as text, the index being each row's line in the file; None
            if there is no file.
        patients: patient_id, subset, label, and others.

    Returns:
        The table, typed and sorted by split.

    Raises:
        UserError: no table; a column is missing; a value can't be used, its line named; a patient
            is unknown, unlabelled or twice in a split; a split's part lacks a class.
    """
    rows = take_supplied(table, patients, "splits", COLUMNS, "splits.source", _bad_splits)
    return rows.sort_values("split", kind="stable", ignore_index=True)


def take_supplied(
    table: pd.DataFrame | None,
    patients: pd.DataFrame,
    name: str,
    columns: tuple[str, ...],
    parameter: str,
    faults_of: Callable[[pd.DataFrame, pd.DataFrame], list[str]],
) -> pd.DataFrame:
    """Check what a user's own splits and folds have in common: numbers, patients and roles.

    Args:
        table: as text, the index being each row's line in the file; None if there is no file.
        patients: patient_id, subset, label, and others.
        name: of the table, splits or folds.
        columns: the required ones; all but patient_id and role are numbers, from 1.
        parameter: the one that asked for the table.
        faults_of: finds other faults in the typed rows, given the labelled patients by ID.

    Returns:
        These columns, typed, in the file's order.

    Raises:
        UserError: no table; a column is missing or duplicated; a value can't be used; or what
            `faults_of` found.
    """
    if table is None:
        raise UserError(
            f"{parameter} is 'supplied', but the cohort's folder has no {name}.csv "
            f"(columns {', '.join(columns)}). Supply it, or set {parameter} to stratified."
        )
    names = [normal(column) for column in table.columns]
    if any(names.count(column) != 1 for column in columns):
        raise UserError(
            f"{name}.csv must have the columns {', '.join(columns)}, each once; "
            f"it has: {some(names)}."
        )
    rows = table.set_axis(names, axis=1)[list(columns)].map(normal)
    rows.attrs = {}
    known = labelled(patients).set_index("patient_id")
    faults = []
    for line, *values in rows.itertuples(name=None):
        for column, value in zip(columns, values, strict=True):
            if column == "patient_id":
                if value not in known.index:
                    near = alike(value, known.index)
                    faults.append(f"line {line}: {value!r} isn't a labelled training patient{near}")
            elif column == "role":
                if value not in ROLES:
                    faults.append(f"line {line}: role is {value!r}; allowed: {', '.join(ROLES)}")
            elif not re.fullmatch("0*[1-9][0-9]{0,5}", value):
                faults.append(f"line {line}: {column} is {value!r}; expected 1, 2, ...")
    if not faults:
        rows = rows.astype({column: "int64" for column in columns if column not in TEXTS})
        faults = faults_of(rows, known) if len(rows) else ["it has no rows"]
    if faults:
        raise UserError(f"{name}.csv can't be used: {listed(faults)}")
    return rows


def _bad_splits(rows: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    twice = rows[rows.duplicated(["split", "patient_id"])].itertuples(name=None)
    faults = [f"line {line}: patient {p} is listed twice in split {s}" for line, s, p, _ in twice]
    return faults or _one_sided_parts(rows, known["label"])


def _one_sided_parts(table: pd.DataFrame, label: "pd.Series[int]") -> list[str]:
    faults = []
    for split, rows in table.groupby("split"):
        for role in ROLES:
            seen = set(label.loc[rows.loc[rows["role"] == role, "patient_id"]])
            absent = [name for value, name in enumerate(CLASSES) if value not in seen]
            if absent:
                faults.append(
                    f"split {split}: its {role} part has no {' and no '.join(absent)} patient"
                )
    return faults
