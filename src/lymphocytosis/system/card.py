"""A bundle's model card: what a system is for, on whom it was trained, how it scored.

Its front matter is what Hugging Face reads: https://huggingface.co/docs/hub/model-cards
"""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from lymphocytosis.decision.referral import Referral, say_limits
from lymphocytosis.decision.summary import say_what_encoder_saw
from lymphocytosis.decision.unlike import Reference
from lymphocytosis.encoders import weights
from lymphocytosis.encoders.checkpoint import encoder_of, fingerprint, origin
from lymphocytosis.parameters import EncoderParameters, EnsembleParameters

_TEMPLATE = Path(__file__).with_name("card.md.jinja")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Of fewer patients, the outer quantiles would nearly be one patient's own value.
_LEAST = 10
# Columns of the table of scores: metric and rule in `evaluation`.
_SCORES = {
    "balanced accuracy": ("balanced_accuracy", "AVG"),
    "AUC": ("auc", ""),
    "sensitivity": ("sensitivity", "AVG"),
    "specificity": ("specificity", "AVG"),
    "Brier score": ("brier", ""),
}
_ADVICE = {
    "coverage_reactive": "sets that hold the diagnosis, reactive patients",
    "coverage_tumoral": "sets that hold the diagnosis, tumoral patients",
    "sensitivity": "sensitivity of the referral",
    "specificity": "specificity of the referral",
    "undecided": "share to look at again",
    "decided_balanced_accuracy": "balanced accuracy on the others",
}
# The libraries that decide whether a bundle gives the same bits elsewhere.
_SOFTWARE = ("lymphocytosis", "torch", "timm", "onnx", "onnxruntime", "numpy", "scikit-learn")


def describe_patients(patients: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Describe training patients by class, without pointing to one.

    Args:
        patients: label, sex, cell_count, age_years, lymphocyte_count, and others; with labels.

    Returns:
        For reactive and tumoral: patients, women, men, sex_unknown; and of cells, age_years and
        lymphocyte_count the 5, 25, 50, 75 and 95 % quantiles, rounded, or None for few patients.
    """
    described = {}
    for label, name in enumerate(("reactive", "tumoral")):
        rows = patients[patients["label"] == label]
        quantiles: dict[str, list[float] | None] = {}
        for column in ("cell_count", "age_years", "lymphocyte_count"):
            values = np.quantile(rows[column].to_numpy(dtype=float), _QUANTILES)
            rounded = [float(f"{v:.2g}") if v < 100 else float(round(v)) for v in values]
            quantiles[column] = rounded if len(rows) >= _LEAST else None
        described[name] = {
            "patients": len(rows),
            "women": int((rows["sex"] == "F").sum()),
            "men": int((rows["sex"] == "M").sum()),
            "sex_unknown": int(rows["sex"].isna().sum()),
            "cells": quantiles.pop("cell_count"),
            **quantiles,
        }
    return described


def _licence_of_weights(encoder: EncoderParameters) -> str | None:
    """The licence of initial weights by its SPDX name, in lower case; None where none is known."""
    if encoder.weights == "random":
        return "mit"  # they are the project's own
    if encoder.weights == "package":
        return "apache-2.0"
    config = timm.get_pretrained_cfg(encoder.name) if encoder.weights == "timm" else None
    return config.license if config else None


def describe_system(
    autoencoder: Mapping[str, Any],
    classifiers: Mapping[str, Mapping[str, Any]],
    patients: pd.DataFrame,
    evidence: Mapping[str, Any],
    referrals: Mapping[str, Referral],
    reference: Reference,
    ensemble: EnsembleParameters,
) -> dict[str, Any]:
    """Collect what manifest and card tell of a system.

    Args:
        autoencoder: the packed encoder, as it was trained.
        classifiers: packed, by model.
        patients: the training patients.
        evidence: methods, lack, and where that is empty the entries of an evaluation.
        referrals: by model.
        reference: what the training patients look like.
        ensemble: the block `ensemble` of the parameters.

    Returns:
        Plain values.
    """
    training, trained = autoencoder["parameters"], classifiers["large"]["parameters"]
    encoder = encoder_of(dict(autoencoder))
    file = weights.fingerprint(encoder)
    seen, decides = origin(dict(autoencoder)), referrals[ensemble.size]
    return {
        "versions": {name: _version(name) for name in _SOFTWARE},
        "fingerprints": {
            "encoder": trained["encoder"],
            "encoder as trained": fingerprint(dict(autoencoder)),
            "splits": trained["splits"],
            **({"file of initial weights": file} if file else {}),
        },
        "parameters": {
            **training,
            "encoder": {**training["encoder"], "weights": Path(encoder.weights).name},
            "views": trained["views"],
            "mil": trained["mil"],
        },
        "splits": len(classifiers["large"]["state_dicts"]),
        "cohort": describe_patients(patients),
        "cautions": reference.cautions(),
        "limits": say_limits(decides.reactive, decides.tumoral, ensemble.error_rate),
        "encoder_saw": say_what_encoder_saw(seen.task, seen.images, encoder.weights, False),
        "licence": _licence_of_weights(encoder),
        "ensemble": ensemble.model_dump(mode="json"),
        "methods": dict(evidence["methods"]),
        "referrals": {model: asdict(referral) for model, referral in referrals.items()},
        "no_evaluation": evidence["lack"],
        "evaluation": None if evidence["lack"] else _scores(evidence, ensemble.size),
    }


def write_card(facts: Mapping[str, Any]) -> str:
    """Write the model card.

    Args:
        facts: as `describe_system` returns them.

    Returns:
        Markdown, with front matter in YAML.
    """
    size, evaluation = facts["ensemble"]["size"], facts["evaluation"]
    deciding = facts["methods"][size]
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="reactive or tumoral lymphocytosis, by patient",
            dataset_type="private",
            dataset_name="the training cohort, nested cross-validation",
            metric_type=_SCORES[title][0],
            metric_name=title,
            metric_value=value,
        )
        for title, (value, _, _) in (evaluation["scores"][deciding].items() if evaluation else ())
    ]
    front_matter = ModelCardData(
        license=facts["licence"] or "other",
        library_name="lymphocytosis",
        pipeline_tag="image-classification",
        tags=["medical", "haematology", "lymphocytosis", "multiple-instance-learning"],
        metrics=[result.metric_type for result in results] or None,
        model_name="lymphocytosis",
        eval_results=results or None,
    )
    environment = Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, of our own words and numbers
    )
    environment.filters |= {"shown": _shown, "interval": _interval}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        **facts,
        front_matter=front_matter.to_yaml(line_break="\n").strip(),
        deciding=f"*{deciding}*",
        score_titles=list(_SCORES),
        advice_titles=_ADVICE,
        percent=lambda share: f"{100 * share:g} %",
    )


def _shown(value: int | list[float] | None) -> str:
    if value is None:
        return "too few patients to show"
    return ", ".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)


def _scores(evidence: Mapping[str, Any], size: str) -> dict[str, Any]:
    """What an evaluation found for the size that decides, and for the controls."""
    evaluation = evidence["evaluation"].fillna({"rule": ""})
    rows = evaluation.to_dict("records")
    found = {(row["method"], row["metric"], row["rule"]): row for row in rows}
    methods = dict.fromkeys(row["method"] for row in rows)
    own = [method for method in methods if method.startswith(f"{size}, ")]
    others = [method for method in methods if not method.startswith(("large, ", "small, "))]
    scores = {
        method: {name: _figure(found[method, *score]) for name, score in _SCORES.items()}
        for method in own + others
    }
    advice = evidence["referral_evaluation"].fillna({"calibration": ""}).to_dict("records")
    summary = evidence["evaluation_summary"]
    return {
        "patients": rows[0]["patients"],
        "repeats": rows[0]["repeats"],
        "scores": scores,
        "advice": {
            model: {
                row["metric"]: _figure(row)
                for row in advice
                if row["method"] == method and not row["calibration"]
            }
            for model, method in evidence["methods"].items()
        },
        "warnings": [line[4:-2] for line in summary.splitlines() if line.startswith("- **")],
    }


def _figure(row: Mapping[Any, Any]) -> list[float | None]:
    """Value and interval, rounded as they are shown; None where there is no value."""
    figures = (row["value"], row["low"], row["high"])
    return [None if pd.isna(figure) else round(float(figure), 3) for figure in figures]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # an extra
        return "not installed"


def _interval(figures: list[float | None]) -> str:
    value, low, high = figures
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
