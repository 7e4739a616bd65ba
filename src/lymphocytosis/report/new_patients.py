"""What the report on new patients holds: diagnoses as plain values for the templates."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lymphocytosis.decision.results import CLASSES
from lymphocytosis.decision.rules import RULES, explain
from lymphocytosis.parameters import EnsembleParameters
from lymphocytosis.report import evidence
from lymphocytosis.report.facts import flatten, middle
from lymphocytosis.report.patients import (
    describe_predictions,
    describe_values,
    place_values,
    show_cells,
)
from lymphocytosis.report.scores import nothing_scored
from lymphocytosis.version import code_version

_SIZES = ("large", "small")


def report_on_new_patients(
    diagnoses: Sequence[Mapping[str, Any]],
    cells: Mapping[str, pd.DataFrame],
    pixels_of: Callable[[str], Sequence[npt.NDArray[np.uint8]]],
    system: Mapping[str, Any],
    versions: Mapping[str, str] | None,
    names: bool,
) -> dict[str, Any]:
    """Collect what the report on new patients shows.

    Args:
        diagnoses: a row for each patient, as `diagnoses_json`.
        cells: by patient, of the pictures that were taken: image_id, contribution, distance, odd.
        pixels_of: gives a patient's cells as the model saw them, in the same order.
        system: fingerprint and facts of the bundle.
        versions: which version of each entry the run loads or makes.
        names: whether patients' and pictures' names are shown; else both are numbers.

    Returns:
        What the template `page.html.jinja` shows.
    """
    facts = system["facts"]
    size = facts["ensemble"]["size"]
    quantiles = {
        name: {**of_class, "cell_count": of_class["cells"]}
        for name, of_class in facts["cohort"].items()
    }
    strips = describe_values(quantiles)
    shown = [
        _new_patient(row, number, cells, pixels_of, strips, facts, names)
        for number, row in enumerate(diagnoses, start=1)
    ]
    counts = pd.Series([row["advice"] for row in diagnoses]).value_counts().to_dict()
    made = {
        "versions": dict(versions or {}),
        "code": code_version(),
        "parameters": flatten({**facts["parameters"], "ensemble": facts["ensemble"]}),
        "bundle": system["fingerprint"],
    }
    told = ", ".join(f"{counts[advice]} {advice}" for advice in evidence.ADVICE if advice in counts)
    summary = [f"{len(diagnoses)} new patient(s): {told}."]
    unlike = sum(bool(row["unlike"]) for row in diagnoses)
    if unlike:
        summary.append(
            f"{unlike} of them are unlike the training patients: a probability of theirs is a "
            "guess."
        )
    scores = _scores_of_bundle(facts)
    summary += scores["words"]
    return {
        "title": "Reactive or tumoral lymphocytosis: report on new patients",
        "kind": "new",
        "names": names,
        "summary": summary,
        "scores": scores,
        "absent": [],
        "warnings": list(facts["cautions"]) + list(facts["limits"]),
        "cohort": _bundle_cohort(facts["cohort"]),
        "ingest": None,
        "strips": strips,
        "patients": shown,
        "checklists": [],
        "made": made,
        "size": size,
    }


def _new_patient(
    row: Mapping[str, Any],
    number: int,
    cells: Mapping[str, pd.DataFrame],
    pixels_of: Callable[[str], Sequence[npt.NDArray[np.uint8]]],
    strips: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Any],
    names: bool,
) -> dict[str, Any]:
    patient_id, ensemble = row["patient_id"], EnsembleParameters(**facts["ensemble"])
    own = cells[patient_id]
    named = own["image_id"] if names else [f"cell {n}" for n in range(1, len(own) + 1)]
    said = []
    size = facts["ensemble"]["size"]
    decides = size if row.get(f"{size}_mean") is not None else f"{size}_pictures_only"
    for model in (decides.replace(size, one) for one in _SIZES):
        if row.get(f"{model}_mean") is None:
            continue
        statistics = {name: row[f"{model}_{name}"] for name in ("mean", "std", "min", "max")}
        for name, rule in RULES.items():
            title = rule.title.format(**facts["ensemble"])
            said.append(
                {
                    "method": f"{model.replace('_', ' ')} {title}",
                    "decision": CLASSES[row[f"{model}_{name}"]],
                    "why": explain(name, statistics, ensemble),
                }
            )
    warnings = list(row["warnings"])
    if not names and warnings:
        warnings = [f"{len(warnings)} warning(s) are left out, for they may name patients."]
    return {
        "key": number,
        "name": patient_id if names else str(number),
        "group": "new",
        "known": "",
        "answer": row["advice"],
        "wrong": False,
        "probability": row["probability"],
        "probability_pictures": row["probability_pictures"],
        "sex": "",
        "predictions": _described(row.get("predictions"), facts["parameters"]["views"]),
        "source": f"Judged by {row['inputs']}.",
        "said": said,
        "advised": "",
        "values": place_values(row, strips),
        "cell_count": row["cell_count"],
        "flags": list(row["flags"]),
        "reasons": list(row["reasons"]),
        "warnings": warnings,
        "cells": show_cells(own, pixels_of(patient_id), list(named)),
    }


def _described(
    predictions: Sequence[Sequence[float]] | None, views: Sequence[str]
) -> dict[str, Any] | None:
    """Describe predictions, a list for each classifier."""
    if not predictions:
        return None
    rows = [
        {"split": split, "view": view, "probability": probability}
        for split, of_split in enumerate(predictions, start=1)
        for view, probability in zip(views, of_split, strict=True)
    ]
    return describe_predictions(pd.DataFrame(rows))


def _scores_of_bundle(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the bundle tells of its own evaluation."""
    scores = nothing_scored(0.95)
    found = facts["evaluation"]
    if found is None:
        scores["words"] = [f"How well this system does is not known: {facts['no_evaluation']}"]
        return scores
    deciding = facts["methods"][facts["ensemble"]["size"]]
    titles = ("balanced accuracy", "sensitivity", "specificity", "AUC", "Brier score")
    rows = [
        {
            "name": evidence.name_method(method),
            "kind": evidence.kind_of(method, deciding),
            "scores": [evidence.shown(*of[title]) for title in titles],
            "differences": [],
        }
        for method, of in found["scores"].items()
    ]
    accuracy, auc = (
        evidence.shown(*found["scores"][deciding][title]) for title in ("balanced accuracy", "AUC")
    )
    scores["evaluation"] = {"rows": rows, "deciding": deciding}
    scores["warnings"] = found["warnings"]
    scores["of"] = (
        f"{found['patients']} patients of the training cohort, each predicted by models that never "
        f"saw them, {found['repeats']} time(s) over. In another hospital, scores may be lower."
    )
    scores["words"] = [
        f"On patients of its own cohort that its models never saw, the system has a balanced "
        f"accuracy of {accuracy} and an AUC of {auc}."
    ]
    return scores


def _bundle_cohort(cohort: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    columns = {"age_years": "age_years", "lymphocyte_count": "lymphocyte_count"}
    columns["cell_count"] = "cells"
    return [
        {
            "name": f"training, {name}",
            **{key: of[key] for key in ("patients", "women", "men")},
            **{
                column: middle([five[0], five[2], five[4]]) if (five := of[key]) else "-"
                for column, key in columns.items()
            },
        }
        for name, of in cohort.items()
    ]
