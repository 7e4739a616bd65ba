"""Outer folds of the nested cross-validation."""

import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from lymphocytosis.errors import UserError, listed
from lymphocytosis.mil.splits import (
    CLASSES,
    count_persons,
    labelled,
    persons_by_class,
    take_supplied,
)
from lymphocytosis.parameters import EvaluationParameters

COLUMNS = ("repeat", "fold", "patient_id")


def draw_folds(patients: pd.DataFrame, evaluation: EvaluationParameters) -> pd.DataFrame:
    """Cut the labelled patients into stratified folds, once for each repeat.

    Patients who may be the same person go into the same fold.

    Args:
        patients: patient_id, person, subset, label, and others.
        evaluation: the block `evaluation` of the parameters.

    Returns:
        repeat (from 1), fold (from 1), patient_id: each labelled patient once in each repeat.

    Raises:
        UserError: a class has fewer persons than there are folds, or a fold leaves fewer than two
            persons of a class to train on.
    """
    known = labelled(patients)
    label = known["label"].to_numpy(dtype=int)
    if persons_by_class(known).min() < evaluation.folds:
        raise UserError(
            f"evaluation.folds is {evaluation.folds}, and the labelled patients are "
            f"{count_persons(known)}: each fold needs one of each class. "
            "Lower evaluation.folds, or add patients."
        )
    drawn = []
    for repeat in range(1, evaluation.repeats + 1):
        cut = StratifiedGroupKFold(
            evaluation.folds, shuffle=True, random_state=evaluation.seed + repeat - 1
        )
        parts = cut.split(label, label, known["person"])
        for fold, (_, held_out) in enumerate(parts, start=1):
            ids = known["patient_id"].to_numpy()[held_out]
            drawn.append(pd.DataFrame({"repeat": repeat, "fold": fold, "patient_id": ids}))
    table = pd.concat(drawn, ignore_index=True)
    if faults := _bad_repeats(table, known.set_index("patient_id")):
        raise UserError(f"The labelled patients can't be cut into folds: {listed(faults)}")
    return table


def take_supplied_folds(table: pd.DataFrame | None, patients: pd.DataFrame) -> pd.DataFrame:
    """Check a user's own table of outer folds.

    Args:
        table: repeat, fold, patient_id as text, the index being each row's line in the file; None
            where the user supplied no file.
        patients: patient_id, person, subset, label, and others.

    Returns:
        The table, typed and sorted.

    Raises:
        UserError: no table; a column is missing; a value can't be used, its line named; a repeat
            does not hold each labelled patient once; a fold leaves fewer than two persons of a
            class to train on; patients who may be the same person are in different folds.
    """
    rows = take_supplied(table, patients, "folds", COLUMNS, "evaluation.source", _bad_repeats)
    return rows.sort_values(list(COLUMNS), kind="stable", ignore_index=True)


def _bad_repeats(rows: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    faults = []
    for repeat, held_out in rows.groupby("repeat"):
        times = held_out["patient_id"].value_counts().reindex(known.index, fill_value=0)
        faults += [
            f"repeat {repeat}: patient {patient_id} is listed {n} times; once is expected"
            for patient_id, n in times[times != 1].items()
        ]
        folds_of = held_out.groupby(known.loc[held_out["patient_id"], "person"].to_numpy())["fold"]
        faults += [
            f"repeat {repeat}: {person} and others who may be one person are in different folds"
            for person in folds_of.nunique().loc[lambda n: n > 1].index
        ]
        for fold, out in held_out.groupby("fold"):
            left = known.drop(out["patient_id"].unique())
            persons = persons_by_class(left)
            few = [CLASSES[v] for v in (0, 1) if persons[v] < 2]
            if few:
                faults.append(
                    f"repeat {repeat}, fold {fold}: leaves fewer than two {' and '.join(few)} "
                    "persons to train on"
                )
    return faults
