"""What a report holds, from the catalog's entries to plain values for the templates."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lymphocytosis.decision.results import CLASSES
from lymphocytosis.decision.rules import RULES, decide_by_average, explain, summarise
from lymphocytosis.errors import UserError
from lymphocytosis.imaging.views import view_to_compare
from lymphocytosis.parameters import EnsembleParameters, EvaluationParameters, leaves
from lymphocytosis.report import evidence
from lymphocytosis.report.checklist import fill
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
# The entries that the report takes from `evaluate`, all or none.
EVALUATED = (
    "classifier_predictions", "nested_predictions", "referral_predictions", "evaluation",
    "referral_evaluation", "evaluation_summary",
)  # fmt: skip
_WORDS = {0: CLASSES[0], 1: CLASSES[1]}
_ADVICE = {"refer": "refer", "do not refer": "do not refer", "look again": "look again"}


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
    scores = _scores(entries, patients, predictions, ensemble, evaluation, inputs)
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
        "parameters": _flat(_parameters(entries, ensemble, evaluation)),
        "bundle": "",
    }
    shown = _cohort_patients(entries, predictions, ensemble, deciding, names)
    facts = _facts(patients, report, made, scores, ensemble, inputs, shown)
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
        "parameters": _flat({**facts["parameters"], "ensemble": facts["ensemble"]}),
        "bundle": system["fingerprint"],
    }
    told = ", ".join(f"{counts[advice]} {advice}" for advice in _ADVICE if advice in counts)
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


def _scores(
    entries: Mapping[str, Any],
    patients: pd.DataFrame,
    predictions: Mapping[str, pd.DataFrame],
    ensemble: EnsembleParameters,
    evaluation: EvaluationParameters,
    inputs: str,
) -> dict[str, Any]:
    """The evaluation if there is one, else the results table; with curves and confusion."""
    scores: dict[str, Any] = {"evaluation": None, "results": None, "advice": None, "plots": []}
    scores |= {"words": [], "warnings": [], "confusion": None, "confusion_of": "", "of": ""}
    scores["confidence"] = f"{100 * evaluation.confidence:g} %"
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
                "known": "" if label is None else _WORDS[label],
                "answer": "" if first is None else _WORDS[first],
                "wrong": first is not None and label is not None and first != label,
                "probability": None,
                "probability_pictures": None,
                "sex": {"F": "female", "M": "male"}.get(str(patient["sex"]), "sex not known"),
                "predictions": None if rows is None else describe_predictions(rows),
                "source": _source(rows, patient["subset"]),
                "said": [d | {"decision": _WORDS[d["decision"]]} for d in decided],
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
    told = ", ".join(f"{advice} ({counts[advice]})" for advice in _ADVICE if advice in counts)
    return (
        f"Advice in the evaluation's {len(rows)} repeat(s): {told}. Mean probability "
        f"{rows['probability'].mean():.3f}."
    )


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
                    "decision": _WORDS[row[f"{model}_{name}"]],
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
    scores: dict[str, Any] = {"evaluation": None, "results": None, "advice": None, "plots": []}
    scores |= {"words": [], "warnings": [], "confusion": None, "confusion_of": "", "of": ""}
    scores["confidence"] = "95 %"
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
                column: _middle(np.quantile(rows[column].to_numpy(dtype=float), (0.05, 0.5, 0.95)))
                for column in ("age_years", "lymphocyte_count", "cell_count")
            },
        }
        for name, rows in groups.items()
        if len(rows)
    ]


def _bundle_cohort(cohort: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    columns = {"age_years": "age_years", "lymphocyte_count": "lymphocyte_count"}
    columns["cell_count"] = "cells"
    return [
        {
            "name": f"training, {name}",
            **{key: of[key] for key in ("patients", "women", "men")},
            **{
                column: _middle([five[0], five[2], five[4]]) if (five := of[key]) else "-"
                for column, key in columns.items()
            },
        }
        for name, of in cohort.items()
    ]


def _middle(three: Sequence[float] | npt.NDArray[np.float64]) -> str:
    low, middle, high = (f"{value:.3g}" for value in three)
    return f"{middle} ({low} to {high})"


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


def _flat(blocks: dict[str, Any]) -> list[tuple[str, str]]:
    """Every parameter by its name, as text."""
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
        for name, value in leaves(blocks).items()
    ]


def _facts(
    patients: pd.DataFrame,
    report: Mapping[str, Any],
    made: Mapping[str, Any],
    scores: Mapping[str, Any],
    ensemble: EnsembleParameters,
    inputs: str,
    shown: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """What the run can tell for the checklists; an empty text for what it can't."""
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
        "undecided": f"{evidence.percent(advice['look_again'])} of the held-out patients are to be "
        "looked at again."
        if advice
        else "",
        "confusion": "The confusion table is above." if scores["confusion"] else "",
        "errors": f"{wrong} patient(s) were called wrong; the table of patients filters them."
        if any(patient["known"] and patient["answer"] for patient in shown)
        else "",
    }
