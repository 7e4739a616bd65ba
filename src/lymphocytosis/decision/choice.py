"""Choosing a recipe inside each outer fold, so that the scores include the choice."""

from collections.abc import Mapping

import pandas as pd
from sklearn.metrics import brier_score_loss, roc_auc_score

from lymphocytosis.decision.rules import summarise

# Not the shuffled labels, which are a control.
SYSTEMS = ("pictures", "pictures + clinical")


def choose_in_folds(
    runs: Mapping[str, pd.DataFrame], label: "pd.Series[int]"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """In each outer fold, choose the recipe that did best on the patients of the other folds.

    Recipes are compared by the AUC of their inner validation predictions, averaged for each patient
    over the splits that validated it; ties are broken by the Brier score. Held-out patients have no
    influence, so the result measures an honest method: try all recipes on the training patients,
    and use the best.

    Args:
        runs: the classifier predictions by run: size, system, repeat, fold, role, patient_id,
            split, view, probability; all with the same folds.
        label: 0 or 1, by patient_id.

    Returns:
        The chosen recipes' predictions, in the same columns, with size `chosen`; and the
        candidates: system, repeat, fold, run, size, auc, brier, chosen.
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
    """Describe in Markdown how often each recipe was chosen, and its AUC on the inner patients.

    Args:
        choices: as `choose_in_folds` returns them.

    Returns:
        A table with a row for each system, run and size.
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
