"""Choosing a recipe inside each outer fold, so that the choice is judged with all else."""

from collections.abc import Mapping

import pandas as pd
from sklearn.metrics import brier_score_loss, roc_auc_score

from lymphocytosis.decision.rules import summarise

# Shuffled labels are a control of each run, and nothing to choose among.
SYSTEMS = ("pictures", "pictures + clinical")


def choose_in_folds(
    runs: Mapping[str, pd.DataFrame], label: "pd.Series[int]"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take, in each outer fold, the recipe that did best on patients of the other folds.

    Recipes are compared by the AUC of their inner validation predictions, each patient's mean over
    the splits that validated it; of equal ones by the Brier score. The patients held out take no
    part, so the predictions chosen for them are those of one honest method: try all recipes on the
    patients at hand, and use the best.

    Args:
        runs: for each run's name its classifier predictions: size, system, repeat, fold, role,
            patient_id, split, view, probability; all of the same folds.
        label: 0 or 1, by patient_id.

    Returns:
        The chosen recipes' predictions, in the same columns, size being `chosen`; and what was
        chosen among: system, repeat, fold, run, size, auc, brier, chosen.
    """
    rated = []
    for run, predictions in runs.items():
        inner = predictions[(predictions["role"] == "inner") & predictions["system"].isin(SYSTEMS)]
        for key, rows in inner.groupby(["system", "repeat", "fold", "size"]):
            of_patients = summarise(rows)
            true = label.loc[of_patients["patient_id"]].to_numpy(dtype=int)
            auc = roc_auc_score(true, of_patients["mean"])
            brier = brier_score_loss(true, of_patients["mean"])
            rated.append((*key, run, auc, brier))
    columns = ["system", "repeat", "fold", "size", "run", "auc", "brier"]
    fold = ["system", "repeat", "fold"]
    choices = pd.DataFrame(rated, columns=columns).sort_values(
        [*fold, "auc", "brier", "run", "size"],
        ascending=[True, True, True, False, True, True, True],
        ignore_index=True,
    )
    choices["chosen"] = ~choices.duplicated(fold)
    taken = [
        predictions.merge(choices[choices["chosen"] & (choices["run"] == run)][[*fold, "size"]])
        for run, predictions in runs.items()
    ]
    predictions = pd.concat(taken, ignore_index=True).assign(size="chosen")
    return predictions, choices[[*fold, "run", "size", "auc", "brier", "chosen"]]


def describe_choices(choices: pd.DataFrame) -> str:
    """Say in Markdown how often each recipe was chosen, and how they did on the inner patients.

    Args:
        choices: as `choose_in_folds` returns them.

    Returns:
        A table: a row for each system, run and size.
    """
    by_recipe = choices.groupby(["system", "run", "size"])
    counted = by_recipe.agg(chosen=("chosen", "sum"), of=("chosen", "size"), auc=("auc", "mean"))
    lines = [
        "Chosen in each fold, by the AUC of patients of the other folds, who were not trained on.",
        "",
        "| system | run | size | chosen | mean AUC of these patients |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        "| {system} | {run} | {size} | {chosen} of {of} | {auc:.3f} |".format_map(row)
        for row in counted.reset_index().to_dict("records")
    ]
    return "\n".join(lines) + "\n"
