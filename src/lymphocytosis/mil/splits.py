"""Training and validation patients (paper, section 3.3)."""

import re
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import train_test_split

from lymphocytosis.errors import UserError, listed, some
from lymphocytosis.parameters import SplitParameters

COLUMNS = ("split", "patient_id", "role")
ROLES = ("train", "validation")
CLASSES = ("reactive", "tumoral")  # by label


def labelled(patients: pd.DataFrame) -> pd.DataFrame:
    """Choose the patients that classifiers learn from: of the training subset, label known.

    Args:
        patients: patient_id, subset, label, and others.

    Returns:
        Their rows.
    """
    return patients[(patients["subset"] == "train") & patients["label"].notna()]


def check_patients_of(entry: str, table: pd.DataFrame, patients: pd.DataFrame) -> None:
    """Refuse a table that names others than labelled training patients: another ingest's, say.

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
        [f"row {n}: {p!r} is no labelled training patient" for n, p in rows if p not in known],
    )


def check_splits(splits: pd.DataFrame, patients: pd.DataFrame) -> None:
    """Refuse splits that are not of these patients, or that were edited till a class was gone.

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
            f"The catalog entry '{entry}' does not go with the entry 'patients': {listed(faults)}\n"
            "Run again the pipeline that makes it."
        )


def draw_splits(patients: pd.DataFrame, splits: SplitParameters, seed: int) -> pd.DataFrame:
    """Draw stratified splits, independent of one another, by scikit-learn's train_test_split.

    Patients who may be one person come into one part, so that no model is judged by a patient whom
    it has learned under another name. A person counts to the class of the first of them.

    Args:
        patients: patient_id, person, subset, label, and others.
        splits: the block `splits` of the parameters.
        seed: of the first split; each further one adds 1.

    Returns:
        split (from 1), patient_id, role (train or validation).

    Raises:
        UserError: a class has too few patients for both roles.
    """
    known = labelled(patients)
    label = known.set_index("patient_id")["label"].astype(int)
    persons = known.drop_duplicates("person")
    drawn = []
    for split in range(1, splits.count + 1):
        try:
            parts = train_test_split(
                persons["person"].to_numpy(),
                test_size=splits.validation_share,
                stratify=persons["label"].to_numpy(dtype=int),
                random_state=seed + split - 1,
            )
        except ValueError as error:
            raise _too_few(label, splits.validation_share) from error
        for role, chosen in zip(ROLES, parts, strict=True):
            ids = sorted(known.loc[known["person"].isin(chosen), "patient_id"])
            drawn.append(pd.DataFrame({"split": split, "patient_id": ids, "role": role}))
    table = pd.concat(drawn, ignore_index=True)
    if _one_sided_parts(table, label):
        raise _too_few(label, splits.validation_share)
    return table


def _too_few(label: "pd.Series[int]", share: float) -> UserError:
    counts = " and ".join(f"{(label == v).sum()} {name}" for v, name in enumerate(CLASSES))
    return UserError(
        f"The training subset has {counts} patient(s) with a known label: too few for a "
        f"validation part of {share} (splits.validation_share) with both classes in both "
        "parts. Add patients, or change the share."
    )


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
        Their numbers, which are their places in `patients`.
    """
    chosen = splits.loc[(splits["split"] == split) & (splits["role"] == role), "patient_id"]
    return pd.Index(patients["patient_id"]).get_indexer(chosen)


def take_supplied_splits(table: pd.DataFrame | None, patients: pd.DataFrame) -> pd.DataFrame:
    """Check a user's own table of splits.

    Args:
        table: split, patient_id, role as text, the index being each row's line in the file; None
            where the user supplied no file.
        patients: patient_id, subset, label, and others.

    Returns:
        The table, typed and sorted by split.

    Raises:
        UserError: no table; a column is missing; a value can't be used, its line named; a patient
            is unknown, unlabelled or twice in a split; a split's part lacks a class.
    """
    if table is None:
        raise UserError(
            "splits.source is 'supplied', and the cohort's folder has no splits.csv "
            "(columns split, patient_id, role). Supply it, or set splits.source to stratified."
        )
    names = [str(column).strip() for column in table.columns]
    if any(names.count(name) != 1 for name in COLUMNS):
        raise UserError(
            f"splits.csv must have the columns {', '.join(COLUMNS)}, each once; "
            f"it has: {some(names)}."
        )
    rows = table.set_axis(names, axis=1)[list(COLUMNS)].map(str.strip)
    label = labelled(patients).set_index("patient_id")["label"]
    faults = _bad_values(rows, set(label.index))
    if not faults:
        rows = rows.astype({"split": "int64"})
        twice = rows[rows.duplicated(["split", "patient_id"])].itertuples(name=None)
        faults = [f"line {line}: patient {p} stands twice in split {s}" for line, s, p, _ in twice]
    if not faults:
        faults = _one_sided_parts(rows, label) if len(rows) else ["it has no rows"]
    if faults:
        raise UserError(f"splits.csv can't be used: {listed(faults)}")
    return rows.sort_values("split", kind="stable", ignore_index=True)


def _bad_values(rows: pd.DataFrame, known: set[str]) -> list[str]:
    faults = []
    for line, split, patient_id, role in rows.itertuples(name=None):
        if not re.fullmatch("[0-9]{1,6}", split) or int(split) < 1:
            faults.append(f"line {line}: split is {split!r}; expected 1, 2, ...")
        if patient_id not in known:
            faults.append(f"line {line}: {patient_id!r} is no labelled training patient")
        if role not in ROLES:
            faults.append(f"line {line}: role is {role!r}; allowed: {', '.join(ROLES)}")
    return faults


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
