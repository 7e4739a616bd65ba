"""What a run can tell for the reporting checklists, and small texts that reports share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lymphocytosis.parameters import EnsembleParameters, leaves
from lymphocytosis.report import evidence


def middle(three: Sequence[float] | npt.NDArray[np.float64]) -> str:
    """Show a median between two quantiles.

    Args:
        three: low quantile, median, high quantile.

    Returns:
        Such as `66 (48 to 198)`.
    """
    low, middle, high = (f"{value:.3g}" for value in three)
    return f"{middle} ({low} to {high})"


def flatten(blocks: dict[str, Any]) -> list[tuple[str, str]]:
    """Give every parameter by its name, as text."""
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
        for name, value in leaves(blocks).items()
    ]


def tell_facts(
    patients: pd.DataFrame,
    report: Mapping[str, Any],
    made: Mapping[str, Any],
    scores: Mapping[str, Any],
    ensemble: EnsembleParameters,
    inputs: str,
    shown: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """Collect what a run can tell for the checklists.

    Args:
        patients: as the catalog has them.
        report: the ingest report.
        made: parameters (name and value) and code, as the report shows them.
        scores: as `score_cohort` returns them.
        ensemble: the block `ensemble` of the parameters.
        inputs: `mil.inputs` of the models that decide.
        shown: the patients as the report shows them.

    Returns:
        Texts, by the names that `checklist` asks for; empty for what the run can't tell.
    """
    of = dict(made["parameters"])
    train = patients["subset"] == "train"
    reactive, tumoral = (int((patients.loc[train, "label"] == value).sum()) for value in (0, 1))
    pictures = ", ".join(
        f"{number} {kind.replace('_', ' ')}" for kind, number in report["pictures"].items()
    )
    evaluated, advice = scores["evaluation"], scores["advice"]
    wrong = sum(patient["wrong"] for patient in shown)
    code = made["code"]
    return {
        "preparation": f"Pictures: {pictures}; the central {of['image.crop']} pixels, stored with "
        f"{of['image.size']}. Warnings of the ingest are listed above."
        if "image.crop" in of and pictures
        else "",
        "inputs": "Pictures of single lymphocytes, without their number or order"
        + ("; age in years and lymphocyte count." if inputs == "both" else "; no clinical value."),
        "size": f"{len(patients)} patients, {patients['cell_count'].sum():,} cells; labelled for "
        f"training: {reactive} reactive, {tumoral} tumoral.",
        "missing": "Every patient of the cohort has age and count; ingest refuses others. A new "
        "patient without them is judged by the pictures alone. Unreadable pictures are left out "
        "and counted.",
        "partition": "By patient, stratified by class; who may be the same person is never on both "
        "sides."
        + (
            f" Scores: nested cross-validation, {scores['folds']} folds, {evaluated['repeats']} "
            "time(s)."
            if evaluated
            else ""
        ),
        "model": f"Encoder {of['encoder.name']} ({of['encoder.weights']}), pretext task "
        f"{of['pretext.name']}, classifier {of['mil.classifier']}, aggregator "
        f"{of['mil.aggregator']}; all parameters are listed below."
        if {"encoder.name", "pretext.name", "mil.classifier"} <= of.keys()
        else "",
        "measures": f"Balanced accuracy, sensitivity, specificity, AUC and Brier score, with "
        f"{scores['confidence']} intervals by bootstrap over persons; calibration; net benefit."
        if evaluated
        else "Balanced accuracy with exact intervals."
        if scores["results"]
        else "",
        "calibration": "Platt and beta calibration are tried inside the training folds, and kept "
        "only where they help; the calibration plot is above."
        if advice
        else "",
        "code": f"lymphocytosis {code['version']}, commit {code['commit'] or 'not known'}"
        + (", changed since." if code["changed"] else "."),
        "imbalance": f"{reactive} reactive and {tumoral} tumoral patients are labelled for "
        "training; the main scores weigh both classes the same.",
        "output": "A probability; tumoral from 0.5 (AVG), or by the SA rule "
        f"({ensemble.sa_variant})."
        + (
            " Referral from the threshold that finds "
            f"{evidence.percent(ensemble.wanted_sensitivity)} of the tumoral patients of the other "
            "folds; look again by conformal sets at an error rate of "
            f"{evidence.percent(ensemble.error_rate)}."
            if advice
            else ""
        ),
        "apart": "The table of the cohort shows training and test patients side by side."
        if (~train).any()
        else "",
        "flow": f"{len(patients)} patients in the table and with pictures; pictures: {pictures}."
        if pictures
        else "",
        "characteristics": "Age, sex, count and cells by group are in the table of the cohort.",
        "specification": "kedro run --pipelines=bundle puts the whole model into one folder, with "
        "a model card.",
        "performance": scores["words"][0] if scores["words"] else "",
        "subgroups": "Scores by age, sex and count are above." if scores["subgroups"] else "",
        "undecided": f"{evidence.percent(advice['look_again'])} of the held-out patients are to be "
        "looked at again."
        if advice
        else "",
        "confusion": "The confusion table is above." if scores["confusion"] else "",
        "errors": f"{wrong} patient(s) were called wrong; the table of patients filters them."
        if any(patient["known"] and patient["answer"] for patient in shown)
        else "",
    }
