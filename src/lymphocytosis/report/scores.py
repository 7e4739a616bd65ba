"""The scores that the report on a cohort shows: of the evaluation, or of what there is."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lymphocytosis.decision.rules import decide_by_average, summarise
from lymphocytosis.parameters import EnsembleParameters, EvaluationParameters
from lymphocytosis.report import evidence

# The entries that the report takes from `evaluate`, all or none.
EVALUATED = (
    "classifier_predictions", "nested_predictions", "referral_predictions", "evaluation",
    "referral_evaluation", "evaluation_summary",
)  # fmt: skip


def nothing_scored(confidence: float) -> dict[str, Any]:
    """Make the scores of what was not scored yet; `score_cohort` says what each is.

    Args:
        confidence: level of the intervals.

    Returns:
        By name; each is none or empty.
    """
    return {
        **dict.fromkeys(("evaluation", "results", "advice", "confusion")),
        "plots": [],
        "subgroups": [],
        "words": [],
        "warnings": [],
        "confusion_of": "",
        "of": "",
        "confidence": f"{100 * confidence:g} %",
    }


def score_cohort(
    entries: Mapping[str, Any],
    patients: pd.DataFrame,
    predictions: Mapping[str, pd.DataFrame],
    ensemble: EnsembleParameters,
    evaluation: EvaluationParameters,
    inputs: str,
) -> dict[str, Any]:
    """Collect the scores: of the evaluation if there is one, else of what predictions there are.

    Args:
        entries: of the catalog, by name; None for what there is none of.
        patients: as the catalog has them.
        predictions: by size, as `gather_predictions` returns them.
        ensemble: the block `ensemble` of the parameters.
        evaluation: the block `evaluation`.
        inputs: `mil.inputs` of the models that decide.

    Returns:
        evaluation and results, their tables; words, what they say; warnings; advice on held-out
        patients; subgroups; plots, and of whom (of); confusion at the threshold, and of whom;
        confidence.
    """
    scores = nothing_scored(evaluation.confidence)
    if entries["results"] is not None:
        scores["results"] = evidence.describe_results(entries["results"])
    if entries["evaluation"] is not None:
        described = evidence.describe_evaluation(entries["evaluation"], ensemble.size, inputs)
        scores["evaluation"], scores["words"] = described, described["words"]
        summary = entries["evaluation_summary"].splitlines()
        scores["warnings"] = [line[4:-2] for line in summary if line.startswith("- **")]
        if odd := _other_recipe(entries):
            scores["warnings"].insert(0, odd)
        versions = entries["versions"] or {}
        of_this_run = "run" in versions and versions.get("evaluation") == versions["run"]
        if entries["evaluated_with"] is None and not of_this_run:
            scores["warnings"].append(
                "The parameters that the evaluation was made with are not recorded. The level of "
                "intervals, the wanted sensitivity and the error rate are taken to be this run's."
            )
        scores["advice"] = evidence.describe_advice(
            entries["referral_evaluation"], entries["referral_predictions"], described["deciding"]
        )
        if scores["advice"]:
            scores["confusion"] = scores["advice"]["confusion"]
            scores["confusion_of"] = (
                "Held-out patients of the evaluation, at the threshold chosen on the other folds' "
                f"patients to find {evidence.percent(ensemble.wanted_sensitivity)} of the tumoral "
                "ones; means over repeats."
            )
        if entries["subgroups"] is not None:
            scores["subgroups"] = evidence.describe_subgroups(
                entries["subgroups"], described["deciding"]
            )
        scores["plots"] = evidence.plots_of_evaluation(
            entries["nested_predictions"], described["deciding"], evaluation.confidence
        )
        scores["folds"] = int(entries["nested_predictions"]["fold"].max())
        scores["of"] = (
            f"{described['patients']} patients, each predicted by models that never saw them, in "
            f"{scores['folds']} folds, {described['repeats']} time(s) over."
        )
        return scores
    if scores["results"]:
        scores["words"] = [
            *scores["results"]["words"],
            "Age and lymphocyte count alone go far. What the pictures add to them is not known "
            "here: run kedro run --pipelines=evaluate, then kedro run --pipelines=report.",
        ]
    return scores | _without_evaluation(patients, predictions, ensemble.size, evaluation.confidence)


def _without_evaluation(
    patients: pd.DataFrame, predictions: Mapping[str, pd.DataFrame], size: str, confidence: float
) -> dict[str, Any]:
    """Curves and confusion of test patients with labels; else of out-of-fold predictions."""
    label = patients.set_index("patient_id")["label"].dropna().astype(int)
    for source, of in (
        ("test", "Test patients whose label is known."),
        (
            "out_of_fold",
            "Labelled patients, each predicted only by classifiers that were not trained on them, "
            "but whose checkpoints may have been chosen on them: too good.",
        ),
    ):
        statistics = {
            name: summarise(table[table["source"] == source]) for name, table in predictions.items()
        }
        plots = evidence.plots_of_predictions(statistics, label, confidence)
        if plots:
            decided = decide_by_average(statistics[size])
            decided = decided[decided["patient_id"].isin(label.index)]
            return {
                "plots": plots,
                "of": of,
                "confusion": evidence.confusion(
                    label.loc[decided["patient_id"]].tolist(), decided["decision"].tolist()
                ),
                "confusion_of": f"{of} AVG of the {size} embedding, at 0.5.",
            }
    return {}


def _other_recipe(entries: Mapping[str, Any]) -> str:
    """Say how the evaluation's recipe differs from that of the classifiers in the workspace."""
    recipe, trained = entries["classifier_predictions"].attrs, entries["large_classifiers"]
    if not recipe or trained is None:
        return ""
    own = trained["parameters"]
    odd = [
        f"mil.{key}"
        for key, value in own["mil"].items()
        if key != "inputs" and recipe["mil"].get(key) != value
    ]
    if list(recipe["views"]) != list(own["views"]):
        odd.append("views")
    if recipe["encoder"] != own["encoder"]:
        odd.append("the encoder")
    if not odd:
        return ""
    return (
        f"The evaluation is of another recipe than the classifiers here ({', '.join(odd)}): its "
        "scores are not theirs. Run kedro run --pipelines=evaluate again."
    )
