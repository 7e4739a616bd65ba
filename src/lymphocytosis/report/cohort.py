"""What the report on a cohort holds: the catalog's entries as plain values for the templates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lymphocytosis.decision.results import CLASSES
from lymphocytosis.errors import UserError
from lymphocytosis.imaging.views import view_to_compare
from lymphocytosis.parameters import EnsembleParameters, EvaluationParameters
from lymphocytosis.report import evidence
from lymphocytosis.report.checklist import fill
from lymphocytosis.report.facts import flatten, middle, tell_facts
from lymphocytosis.report.patients import (
    decide_each,
    describe_predictions,
    describe_values,
    distances,
    flag,
    gather_predictions,
    place_values,
    quantiles_of,
    show_cells,
)
from lymphocytosis.report.scores import EVALUATED, score_cohort
from lymphocytosis.version import code_version

_SIZES = ("large", "small")
# What may be missing, what it would show, and the pipelines that make it.
_ABSENT = {
    "large_predictions": ("Predictions and decisions of test patients", "classify,ensemble"),
    "results": ("The results table", "ensemble"),
    "large_cell_contributions": ("Which cells moved a decision", "ensemble"),
    "embeddings": ("Which cells are typical of a patient", "embed"),
    "cell_images": ("Pictures of cells", "ingest"),
    "evaluation": (
        "The evaluation: scores on patients that no model saw, beside age and count alone and the "
        "controls; decision curves; advice on held-out patients",
        "evaluate",
    ),
}


def report_on_cohort(
    entries: Mapping[str, Any],
    ensemble: EnsembleParameters,
    evaluation: EvaluationParameters,
    names: bool,
) -> dict[str, Any]:
    """Collect what the report on a cohort shows.

    Args:
        entries: of the catalog, by name, as the pipeline `report` takes them; None for what there
            is none of.
        ensemble: the block `ensemble` of the parameters.
        evaluation: the block `evaluation`.
        names: whether patients' and pictures' names are shown; else both are numbers.

    Returns:
        What the template `page.html.jinja` shows.

    Raises:
        UserError: there are no patients.
    """
    patients: pd.DataFrame | None = entries["patients"]
    if patients is None:
        raise UserError(
            "There is nothing to report on in this workspace. Read a cohort first: "
            "kedro run --pipelines=ingest. A report on new patients is made by `predict`."
        )
    if any(entries[entry] is None for entry in EVALUATED):
        entries = {**entries, **dict.fromkeys(EVALUATED)}
    ensemble, evaluation = _as_made(entries, ensemble, evaluation)
    trained = (entries["large_classifiers"] or {}).get("parameters", {})
    inputs = trained.get("mil", {}).get("inputs", "both")
    deciding = f"{ensemble.size}, pictures" + (" + clinical" if inputs == "both" else "")
    predictions = _predictions(entries, deciding)
    scores = score_cohort(entries, patients, predictions, ensemble, evaluation, inputs)
    report = entries["ingest_report"] or {"warnings": [], "pictures": {}, "read": []}
    known = patients[patients["label"].notna() & (patients["subset"] == "train")]
    quantiles = quantiles_of(known)
    warnings = list(report["warnings"])
    if not names and warnings:
        warnings = [
            f"{len(warnings)} warning(s) of the ingest are left out, for they may name patients; "
            "they are in ingest_report.json."
        ]
    made = {
        "versions": entries["versions"] or {},
        "code": code_version(),
        "parameters": flatten(_parameters(entries, ensemble, evaluation)),
        "bundle": "",
    }
    shown = _cohort_patients(entries, predictions, ensemble, deciding, names)
    facts = tell_facts(patients, report, made, scores, ensemble, inputs, shown)
    return {
        "title": "Reactive or tumoral lymphocytosis: report on a cohort",
        "kind": "cohort",
        "names": names,
        "summary": _summary(patients, scores, shown),
        "scores": scores,
        "absent": [
            {"what": what, "command": f"kedro run --pipelines={maker}"}
            for entry, (what, maker) in _ABSENT.items()
            if entries[entry] is None
        ],
        "warnings": warnings,
        "cohort": _cohort_table(patients),
        "ingest": report,
        "strips": describe_values(quantiles),
        "patients": shown,
        "checklists": fill(facts),
        "made": made,
        "size": ensemble.size,
    }


def _as_made(
    entries: Mapping[str, Any], ensemble: EnsembleParameters, evaluation: EvaluationParameters
) -> tuple[EnsembleParameters, EvaluationParameters]:
    """With the values that saved results were made with, whatever this run's parameters say."""
    results, evaluated = entries["results"], entries["evaluated_with"]
    if entries["evaluation"] is not None and evaluated is not None:
        evaluation = evaluation.model_copy(update=evaluated["evaluation"])
        rates = {key: evaluated["ensemble"][key] for key in ("wanted_sensitivity", "error_rate")}
        ensemble = ensemble.model_copy(update=rates)
    for variant in ("corrected", "as_printed"):
        if results is not None and results["method"].str.endswith(f"SA ({variant})").any():
            ensemble = ensemble.model_copy(update={"sa_variant": variant})
    return ensemble, evaluation


def _predictions(entries: Mapping[str, Any], deciding: str) -> dict[str, pd.DataFrame]:
    held_out = entries["classifier_predictions"]
    if held_out is not None:
        system = deciding.partition(", ")[2]
        held_out = held_out[(held_out["role"] == "held_out") & (held_out["system"] == system)]
    gathered = {
        size: gather_predictions(
            size, entries[f"{size}_predictions"], entries[f"{size}_out_of_fold"], held_out
        )
        for size in _SIZES
    }
    return {size: table for size, table in gathered.items() if len(table)}


def _cohort_patients(
    entries: Mapping[str, Any],
    predictions: Mapping[str, pd.DataFrame],
    ensemble: EnsembleParameters,
    deciding: str,
    names: bool,
) -> list[dict[str, Any]]:
    patients, size = entries["patients"], ensemble.size
    said = decide_each(predictions, ensemble)
    of_patient = dict(list(predictions[size].groupby("patient_id"))) if size in predictions else {}
    known = patients[patients["label"].notna() & (patients["subset"] == "train")]
    strips = describe_values(quantiles_of(known))
    cells, records = _cells(entries, size)
    judged = entries["referral_predictions"]
    advised: dict[Any, pd.DataFrame] = {}
    if judged is not None:
        advised = dict(list(judged[judged["method"] == deciding].groupby("patient_id")))
    warnings = (entries["ingest_report"] or {"warnings": []})["warnings"] if names else []
    no_records = pd.DataFrame(columns=["status", "reason"])
    shown = []
    for number, patient in enumerate(patients.to_dict("records"), start=1):
        own, patient_id = str(number), str(patient["patient_id"])
        label = None if pd.isna(patient["label"]) else int(patient["label"])
        rows = of_patient.get(patient_id)
        decided = said.get(patient_id, [])
        first = next((d["decision"] for d in decided if d["method"] == f"{size} AVG"), None)
        whose = cells.get(patient_id)
        shown.append(
            {
                "key": number,
                "name": patient_id if names else own,
                "group": "training" if patient["subset"] == "train" else "test",
                "known": "" if label is None else CLASSES[label],
                "answer": "" if first is None else CLASSES[first],
                "wrong": first is not None and label is not None and first != label,
                "probability": None,
                "probability_pictures": None,
                "sex": {"F": "female", "M": "male"}.get(str(patient["sex"]), "sex not known"),
                "predictions": None if rows is None else describe_predictions(rows),
                "source": _source(rows, patient["subset"]),
                "said": [d | {"decision": CLASSES[d["decision"]]} for d in decided],
                "advised": _advised(advised.get(patient_id)),
                "values": place_values(patient, strips),
                "cell_count": patient["cell_count"],
                "flags": list(
                    flag(patient, decided, records.get(patient_id, no_records), known, warnings)
                ),
                "reasons": [],
                "warnings": [],
                "cells": _shown_cells(whose, entries["cell_images"], names),
            }
        )
    return shown


def _shown_cells(whose: pd.DataFrame | None, images: Any, names: bool) -> dict[str, Any]:
    if whose is None or images is None:
        return show_cells(pd.DataFrame(), [], [])
    named = whose["image_id"] if names else [f"cell {n}" for n in range(1, len(whose) + 1)]
    return show_cells(whose, images[whose["row"].to_numpy(dtype=np.int64)], list(named))


def _cells(
    entries: Mapping[str, Any], size: str
) -> tuple[dict[Any, pd.DataFrame], dict[Any, pd.DataFrame]]:
    """Each patient's cells, with contributions and distances; and the records of all files."""
    images = entries["cell_images"]
    if images is None:
        return {}, {}
    keys = ["patient_id", "image_id"]
    records = images.records
    cells = records.loc[records["row"].notna(), [*keys, "row"]].assign(odd=False)
    given = entries[f"{size}_cell_contributions"]
    if given is not None:
        mean = given.groupby(keys, sort=False)["contribution"].mean().reset_index()
        cells = cells.merge(mean, "left", on=keys)
    if entries["embeddings"] is not None:
        views = entries["embeddings"]["view"].unique().to_pylist()
        apart = distances(entries["embeddings"], view_to_compare(views))
        cells = cells.merge(apart, "left", on=keys)
    cells = cells.reindex(columns=[*keys, "row", "odd", "contribution", "distance"])
    return dict(list(cells.groupby("patient_id"))), dict(list(records.groupby("patient_id")))


def _source(rows: pd.DataFrame | None, subset: str) -> str:
    if rows is None:
        if subset == "test":
            return "There are no predictions yet: kedro run --pipelines=classify,ensemble"
        return (
            "Every classifier was trained on this patient, so none can judge it. The evaluation "
            "predicts each labelled patient by models that never saw it: "
            "kedro run --pipelines=evaluate"
        )
    source = rows["source"].iloc[0]
    if source == "evaluation":
        return "Of the evaluation's first repeat, by models that never saw this patient."
    splits = rows["split"].nunique()
    if source == "test":
        return f"By {splits} classifier(s), none trained on this patient."
    return (
        f"By the {splits} classifier(s) that were not trained on this patient, though perhaps "
        "chosen on it."
    )


def _advised(rows: pd.DataFrame | None) -> str:
    if rows is None:
        return ""
    counts = rows["advice"].value_counts()
    told = ", ".join(
        f"{advice} ({counts[advice]})" for advice in evidence.ADVICE if advice in counts
    )
    return (
        f"Advice in the evaluation's {len(rows)} repeat(s): {told}. Mean probability "
        f"{rows['probability'].mean():.3f}."
    )


def _cohort_table(patients: pd.DataFrame) -> list[dict[str, Any]]:
    """The cohort by group: labelled training patients by class, others, test patients."""
    train = patients["subset"] == "train"
    groups = {
        "training, reactive": patients[train & (patients["label"] == 0)],
        "training, tumoral": patients[train & (patients["label"] == 1)],
        "training, not labelled": patients[train & patients["label"].isna()],
        "test": patients[~train],
    }
    return [
        {
            "name": name,
            "patients": len(rows),
            "women": int((rows["sex"] == "F").sum()),
            "men": int((rows["sex"] == "M").sum()),
            **{
                column: middle(np.quantile(rows[column].to_numpy(dtype=float), (0.05, 0.5, 0.95)))
                for column in ("age_years", "lymphocyte_count", "cell_count")
            },
        }
        for name, rows in groups.items()
        if len(rows)
    ]


def _summary(
    patients: pd.DataFrame, scores: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]
) -> list[str]:
    labelled = [int((patients["label"] == value).sum()) for value in (0, 1)]
    unknown = int(patients["label"].isna().sum())
    test = [patient for patient in shown if patient["group"] == "test" and patient["answer"]]
    told = [f"{n} {name}" for n, name in zip(labelled, CLASSES, strict=True)]
    told += [f"{unknown} whose diagnosis is not known"] * (unknown > 0)
    cells = patients["cell_count"].sum()
    lines = [f"{len(patients)} patients with {cells:,} cells: {', '.join(told)}."]
    if test:
        counts = [sum(p["answer"] == name for p in test) for name in CLASSES]
        lines.append(
            f"Of {len(test)} test patients, the mean prediction (AVG) calls {counts[1]} tumoral "
            f"and {counts[0]} reactive."
        )
    return lines + list(scores["words"])


def _parameters(
    entries: Mapping[str, Any], ensemble: EnsembleParameters, evaluation: EvaluationParameters
) -> dict[str, Any]:
    """Those that made the models; and those of the run that its nodes read."""
    made: dict[str, Any] = {}
    for model in ("large_classifiers", "autoencoder"):  # whose `encoder` is the block
        if entries[model] is not None:
            made |= entries[model]["parameters"]
    blocks = ("image", "encoder", "pretext", "compute", "seed", "views", "mil")
    known = {name: made[name] for name in blocks if name in made}
    known["ensemble"] = ensemble.model_dump(mode="json")
    if entries["evaluated_with"] is not None:
        known["evaluation"] = evaluation.model_dump(mode="json")
    return known
