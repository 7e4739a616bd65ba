"""How well it does: the results in words, in tables and as curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import by_method
from lymphocytosis.decision.results import CLASSES, SCORED
from lymphocytosis.report.plots import draw_plots

Floats = npt.NDArray[np.float64]

ADVICE = ("refer", "do not refer", "look again")
_METRICS = {
    "balanced_accuracy": "AVG",
    "sensitivity": "AVG",
    "specificity": "AVG",
    "auc": "",
    "brier": "",
}
# What `evaluate` calls each method, and what a reader does.
_NAMES = {
    CLINICAL: "age and count",
    "clinical, gradient boosting": "age and count, by trees",
    "bag size": "number of pictures",
    "date format": "form of the birth date",
    "row order": "order of rows",
    "picture format": "file format",
    "picture size": "size of the files",
    "converted pictures": "share converted",
    "pictures": "pictures",
    "pictures + clinical": "pictures, age and count",
    "shuffled labels": "shuffled labels",
}


def name_method(method: str) -> str:
    """Say plainly what a method of `evaluate` looks at.

    Args:
        method: such as `large, pictures + clinical`.

    Returns:
        Such as `pictures, age and count (large)`.
    """
    size, _, system = method.partition(", ")
    if size in ("large", "small") and system in _NAMES:
        return f"{_NAMES[system]} ({size})"
    return _NAMES.get(method, method)


def kind_of(method: str, deciding: str) -> str:
    """Tell the method that decides (ours) from others that see pictures, and from controls."""
    if method == deciding:
        return "ours"
    return "other" if method.endswith((", pictures", ", pictures + clinical")) else "control"


def shown(value: float, low: float, high: float, sign: bool = False) -> str:
    """Show a figure with its interval.

    Args:
        value: the figure; nan where there is none.
        low: the interval's lower end.
        high: its upper end.
        sign: whether it is a difference.

    Returns:
        Such as `0.910 (0.861 to 0.954)`, or a dash.
    """
    if pd.isna(value):
        return "-"
    plus = "+" if sign else ""
    return f"{value:{plus}.3f} ({low:{plus}.3f} to {high:{plus}.3f})"


def percent(share: float) -> str:
    """Show a share in per cent."""
    return f"{100 * share:.0f} %"


def describe_evaluation(evaluation: pd.DataFrame, size: str, inputs: str) -> dict[str, Any]:
    """Describe what `evaluate` found, in words and as a table.

    Args:
        evaluation: as `evaluate` saves it.
        size: the embedding that decides.
        inputs: `mil.inputs` of the models that decide.

    Returns:
        deciding: the method that decides; words: sentences; rows: of each method name, kind (ours,
        other, control), scores by metric, and differences from age and count; patients; repeats.
    """
    rows = evaluation.fillna({"rule": ""}).to_dict("records")
    found = {(r["method"], r["metric"]): r for r in rows if r["rule"] == _METRICS.get(r["metric"])}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    deciding = f"{size}, pictures" + (" + clinical" if inputs == "both" else "")
    table = []
    for method in methods:
        of_method = {metric: found[method, metric] for metric in _METRICS}
        table.append(
            {
                "name": name_method(method),
                "kind": kind_of(method, deciding),
                "scores": [shown(r["value"], r["low"], r["high"]) for r in of_method.values()],
                "differences": [
                    shown(r["difference"], r["difference_low"], r["difference_high"], sign=True)
                    for r in (of_method["balanced_accuracy"], of_method["auc"])
                ],
            }
        )
    return {
        "deciding": deciding,
        "words": _in_words(found, deciding),
        "rows": table,
        "patients": rows[0]["patients"],
        "repeats": rows[0]["repeats"],
    }


def _in_words(found: Mapping[tuple[str, str], Mapping[Any, Any]], deciding: str) -> list[str]:
    if (deciding, "auc") not in found:
        return [f"The evaluation has no method {deciding!r}, which would decide."]
    of = {metric: found[deciding, metric] for metric in _METRICS}
    with_what = name_method(deciding).partition(" (")[0]
    said = [
        "Judged on patients that its models never saw, the method finds "
        f"{_share(of['sensitivity'])} of the tumoral patients and recognises "
        f"{_share(of['specificity'])} of the reactive ones, from {with_what}. "
        f"Its balanced accuracy is {_interval(of['balanced_accuracy'])}, "
        f"its AUC {_interval(of['auc'])}.",
    ]
    control = found.get((CLINICAL, "auc"))
    if control is not None:
        accuracy = found[CLINICAL, "balanced_accuracy"]
        said.append(
            "Age and lymphocyte count alone, without any picture, reach "
            f"{_interval(accuracy)} and an AUC of {_interval(control)}."
        )
        for metric, name in (("balanced_accuracy", "balanced accuracy"), ("auc", "AUC")):
            said.append(_compare(of[metric], name, deciding.endswith("clinical")))
    return said


def _share(row: Mapping[Any, Any]) -> str:
    value, low, high = (percent(row[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _interval(row: Mapping[Any, Any]) -> str:
    return shown(row["value"], row["low"], row["high"])


def _compare(row: Mapping[Any, Any], name: str, adds: bool) -> str:
    figures = shown(row["difference"], row["difference_low"], row["difference_high"], sign=True)
    said = f"The difference in {name}, {figures}, "
    if row["difference_low"] > 0:
        return (
            said
            + "is more than chance: the pictures "
            + ("add" if adds else "do better.")
            + (" to age and count." if adds else "")
        )
    if row["difference_high"] < 0:
        return said + "is more than chance: age and count alone do better."
    return said + "may be chance."


def describe_results(results: pd.DataFrame) -> dict[str, Any]:
    """Describe the results table, in words and as a table.

    Args:
        results: as `ensemble` saves it.

    Returns:
        words: sentences; rows: of each method its name, test and out-of-fold balanced accuracy;
        notes: what to know of the figures.
    """
    rows = results.to_dict("records")
    words = []
    for on, name in SCORED.items():
        counts = " and ".join(f"{rows[0][f'{on}_{value}']} {value}" for value in CLASSES)
        best = [row for row in rows if not pd.isna(row[f"{on}_balanced_accuracy"])]
        if best:
            values = [row[f"{on}_balanced_accuracy"] for row in best]
            least, most = f"{min(values):.3f}", f"{max(values):.3f}"
            reach = least if least == most else f"{least} to {most}"
            words.append(
                f"{name[0].upper()}{name[1:]} ({counts}): balanced accuracy {reach}, by method."
            )
        else:
            words.append(f"{name[0].upper()}{name[1:]}: no score, for want of labels.")
    return {
        "words": words,
        "rows": [
            {
                "name": row["method"],
                "scores": [
                    shown(*(row[f"{on}_{k}"] for k in ("balanced_accuracy", "low", "high")))
                    for on in SCORED
                ],
            }
            for row in rows
        ],
        "notes": list(dict.fromkeys(row["note"] for row in rows)),
    }


def plots_of_evaluation(
    nested_predictions: pd.DataFrame, deciding: str, confidence: float
) -> list[dict[str, Any]]:
    """Draw the curves of what decides, of its pictures alone, and of age and count.

    Args:
        nested_predictions: method, repeat, patient_id, label, probability, and others.
        deciding: the method that decides.
        confidence: level of the intervals.

    Returns:
        The plots; see `draw_plots`.
    """
    shown = dict.fromkeys([deciding, deciding.removesuffix(" + clinical"), CLINICAL])
    label, _, methods = by_method(nested_predictions[nested_predictions["method"].isin(shown)])
    of_shown = {name_method(m): methods[m].probability for m in shown if m in methods}
    return draw_plots(of_shown, label, confidence)


def plots_of_predictions(
    statistics: Mapping[str, pd.DataFrame], label: "pd.Series[int]", confidence: float
) -> list[dict[str, Any]]:
    """Draw the same where there is no evaluation, from the predictions that there are.

    Args:
        statistics: by the name of the embedding, patient_id, mean, and others.
        label: 0 or 1, by patient_id, where it is known.
        confidence: level of the intervals.

    Returns:
        The plots; none unless patients of both classes were predicted.
    """
    means = {
        f"{name} embedding": table.set_index("patient_id")["mean"]
        for name, table in statistics.items()
        if len(table)
    }
    if not means:
        return []
    known = label.index.intersection(next(iter(means.values())).index)
    truth = np.array(label.loc[known], dtype=np.int64)
    methods = {name: mean.loc[known].to_numpy(dtype=float)[None] for name, mean in means.items()}
    return draw_plots(methods, truth, confidence) if len(set(truth)) == 2 else []


def describe_subgroups(subgroups: pd.DataFrame, deciding: str) -> list[dict[str, Any]]:
    """Describe how the method that decides does in groups of patients.

    Args:
        subgroups: as `evaluate` saves them.
        deciding: the method that decides.

    Returns:
        For each group: name, patients of each class, scores by metric.
    """
    own = subgroups[subgroups["method"] == deciding]
    rows = []
    for (trait, group), of_group in own.groupby(["trait", "group"], sort=False):
        found = {row["metric"]: row for row in of_group.to_dict("records")}
        first = of_group.iloc[0]
        rows.append(
            {
                "name": f"{trait}: {group}" if trait else str(group),
                "patients": f"{first['reactive']} reactive, {first['tumoral']} tumoral",
                "scores": [_interval(found[m]) for m in _METRICS if m != "brier"],
            }
        )
    return rows


def confusion(
    label: Sequence[int], decision: Sequence[int], repeats: int = 1
) -> dict[str, dict[str, float]]:
    """Count decisions by class.

    Args:
        label: 0 or 1, of each patient in each repeat.
        decision: 0 or 1.
        repeats: how often each patient is among them.

    Returns:
        By class (reactive, tumoral): kept and referred, means over repeats.
    """
    pairs = pd.Series(list(zip(label, decision, strict=True))).value_counts().to_dict()
    return {
        name: {
            kind: pairs.get((value, said), 0) / repeats
            for said, kind in enumerate(("kept", "referred"))
        }
        for value, name in enumerate(CLASSES)
    }


def describe_advice(
    referral_evaluation: pd.DataFrame, referral_predictions: pd.DataFrame, deciding: str
) -> dict[str, Any] | None:
    """Describe the advice on held-out patients: confusion at the chosen threshold, and rates.

    Args:
        referral_evaluation: as `evaluate` saves it.
        referral_predictions: likewise.
        deciding: the method that decides.

    Returns:
        confusion; rates: title, figure; None where the advice of this method was not judged.
    """
    judged = referral_predictions[referral_predictions["method"] == deciding]
    if judged.empty:
        return None
    own = referral_evaluation["method"].eq(deciding) & referral_evaluation["calibration"].isna()
    rows = {row["metric"]: row for row in referral_evaluation[own].to_dict("records")}
    titles = {
        "sensitivity": "tumoral patients who are referred",
        "specificity": "reactive patients who are not",
        "undecided": "patients to look at again",
        "decided_balanced_accuracy": "balanced accuracy on the others",
        "coverage_tumoral": "sets that hold the diagnosis, tumoral patients",
        "coverage_reactive": "sets that hold the diagnosis, reactive patients",
    }
    return {
        "confusion": confusion(
            judged["label"].tolist(), judged["referral"].tolist(), judged["repeat"].nunique()
        ),
        "rates": [(title, _interval(rows[metric])) for metric, title in titles.items()],
        "look_again": float((judged["advice"] == "look again").mean()),
    }
