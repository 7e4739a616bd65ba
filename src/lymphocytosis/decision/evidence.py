"""Evidence: how well each method does on patients it never saw, and how sure that is.

Every figure is computed within each repeat, on the held-out predictions of all patients, and then
averaged over repeats. Intervals come from a bootstrap over persons, the same resamples for all
methods, so that a difference between two methods is a paired one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lymphocytosis.decision.controls import CLINICAL

Floats = npt.NDArray[np.float64]

# Rule of a method, and the column of its decisions. AVG is the mean prediction at 0.5; where there
# is one prediction a patient, it is the mean.
RULES = {
    "AVG": "decision",
    "SA corrected": "sa_corrected",
    "SA as printed": "sa_as_printed",
    "referral": "referral",
}
OF_DECISIONS = ("balanced_accuracy", "sensitivity", "specificity")
OF_PROBABILITIES = ("auc", "brier", "calibration_error")
COLUMNS = [
    "method", "rule", "metric", "value", "low", "high", "spread",
    "difference", "difference_low", "difference_high", "patients", "repeats",
]  # fmt: skip
# Bins of the calibration error: some twenty patients each in a cohort of a hundred.
_BINS = 5


@dataclass(frozen=True)
class Method:
    """One method's predictions, repeats (r) by patients (p), patients in one order for all methods.

    Attributes:
        probability: (r, p).
        decisions: (r, p) of 0 and 1 for each rule that the method has.
    """

    probability: Floats
    decisions: dict[str, Floats]


def measure(
    nested_predictions: pd.DataFrame, resamples: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Score every method by every rule, with intervals, and compare it with clinical values alone.

    Args:
        nested_predictions: method, repeat, patient_id, person, label, probability, and a column of
            decisions for each of `RULES` (null where a method has no such rule).
        resamples: of the bootstrap.
        confidence: level of the intervals.
        seed: of the bootstrap.

    Returns:
        method, rule (null for what needs no decisions), metric, value, low, high (the interval over
        persons), spread (standard deviation over repeats, null with one), difference,
        difference_low, difference_high (from the clinical logistic regression under AVG, or under
        referral for referrals), patients, repeats. Of an error (Brier, calibration) less is better.
    """
    label, persons, methods = _arrays(nested_predictions)
    # The patients as they are come first, then the resamples.
    weights = np.vstack(
        [np.ones((1, len(label))), resample_persons(persons, label, resamples, seed)]
    )
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    baseline = _scores(methods[CLINICAL], label, weights)
    rows = []
    for method, predictions in methods.items():
        for (rule, metric), scores in _scores(predictions, label, weights).items():
            of_resamples = scores.mean(axis=0)
            low, high = np.percentile(of_resamples[1:], tails)
            row: dict[str, object] = {
                "method": method,
                "rule": rule,
                "metric": metric,
                "value": of_resamples[0],
                "low": low,
                "high": high,
                "spread": scores[:, 0].std(ddof=1) if len(scores) > 1 else None,
                "patients": len(label),
                "repeats": len(scores),
            }
            if method != CLINICAL:
                # Clinical values know no SA; their decisions at 0.5 are its counterpart.
                against = baseline[
                    (rule, metric) if (rule, metric) in baseline else ("AVG", metric)
                ]
                difference = of_resamples - against.mean(axis=0)
                low, high = np.percentile(difference[1:], tails)
                row |= {"difference": difference[0], "difference_low": low, "difference_high": high}
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS).astype({"spread": "float64", "rule": "str"})


def resample_persons(
    persons: npt.NDArray[np.object_], label: npt.NDArray[np.int64], resamples: int, seed: int
) -> Floats:
    """Draw persons with replacement, and say how often each patient was drawn.

    Persons are drawn within their class, so that every resample has as many of each as the cohort.
    Patients who may be one person are drawn together.

    Args:
        persons: (p,) the person of each patient.
        label: (p,) 0 or 1.
        resamples: how many resamples.
        seed: of the draw.

    Returns:
        (resamples, p) counts.
    """
    generator = np.random.default_rng(seed)
    _, first, number = np.unique(persons, return_index=True, return_inverse=True)
    # Two patients who may be one person may have two labels; the person counts to the first's.
    class_of_person = label[first]
    counts = np.zeros((resamples, len(first)))
    for value in (0, 1):
        members = np.flatnonzero(class_of_person == value)
        if len(members):
            share = np.full(len(members), 1 / len(members))
            counts[:, members] = generator.multinomial(len(members), share, size=resamples)
    return counts[:, number]


def _arrays(
    nested: pd.DataFrame,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.object_], dict[str, Method]]:
    patients = nested.drop_duplicates("patient_id").set_index("patient_id").sort_index()
    methods = {}
    for method, rows in nested.groupby("method", sort=False):

        def by_patient(column: str, rows: pd.DataFrame = rows) -> Floats:
            wide = rows.pivot_table(column, "repeat", "patient_id")
            return wide[patients.index].to_numpy(dtype=float)

        methods[str(method)] = Method(
            by_patient("probability"),
            {r: by_patient(column) for r, column in RULES.items() if rows[column].notna().all()},
        )
    return (
        patients["label"].to_numpy(dtype=np.int64),
        patients["person"].to_numpy(dtype=object),
        methods,
    )


def _scores(
    method: Method, label: npt.NDArray[np.int64], weights: Floats
) -> dict[tuple[str | None, str], Floats]:
    """Rule and metric, and the scores (r, s) under weights (s, p)."""
    scores: dict[tuple[str | None, str], Floats] = {}
    of_class = [weights * (label == value) for value in (0, 1)]
    for rule, decisions in method.decisions.items():
        right = (decisions == label).astype(float)
        specificity, sensitivity = (right @ w.T / w.sum(axis=1) for w in of_class)
        scores[rule, "balanced_accuracy"] = (specificity + sensitivity) / 2
        scores[rule, "sensitivity"] = sensitivity
        scores[rule, "specificity"] = specificity
    error = (method.probability - label) ** 2
    scores[None, "auc"] = weighted_auc(method.probability, label, weights)
    scores[None, "brier"] = error @ weights.T / weights.sum(axis=1)
    scores[None, "calibration_error"] = calibration_error(method.probability, label, weights)
    return scores


def weighted_auc(probability: Floats, label: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Area under the ROC curve: the share of pairs that are in the right order, ties half.

    Args:
        probability: (r, p).
        label: (p,) 0 or 1.
        weights: (s, p), how often each patient counts.

    Returns:
        (r, s).
    """
    positive, negative = weights[:, label == 1], weights[:, label == 0]
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    areas = []
    for of_repeat in probability:
        apart = of_repeat[label == 1][:, None] - of_repeat[label == 0]
        ordered = (np.sign(apart) + 1) / 2
        areas.append(((positive @ ordered) * negative).sum(axis=1) / pairs)
    return np.array(areas)


def calibration_error(probability: Floats, label: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Expected calibration error: how far predicted and observed shares lie apart, bin by bin.

    Patients are sorted by probability and cut into five bins of equal size; each bin counts by its
    weight.

    Args:
        probability: (r, p).
        label: (p,) 0 or 1.
        weights: (s, p), how often each patient counts.

    Returns:
        (r, s).
    """
    errors = []
    for of_repeat in probability:
        gaps = [
            np.abs(weights[:, bin_] @ (of_repeat[bin_] - label[bin_]))
            for bin_ in np.array_split(np.argsort(of_repeat, kind="stable"), _BINS)
        ]
        errors.append(np.sum(gaps, axis=0) / weights.sum(axis=1))
    return np.array(errors)


def warn(evaluation: pd.DataFrame) -> list[str]:
    """Say in plain words what a user must not overlook.

    Args:
        evaluation: as `measure` returns it.

    Returns:
        One text each; none where there is nothing to warn of.
    """
    warnings = []
    compared = evaluation[evaluation["metric"].isin(["balanced_accuracy", "auc"])]
    pictures = compared[compared["method"].str.endswith("pictures + clinical")]
    better = pictures[(pictures["difference_low"] > 0) & (pictures["rule"] != "referral")]
    if len(pictures) and better.empty:
        best = pictures[(pictures["metric"] == "auc")].sort_values("difference").iloc[-1]
        warnings.append(
            "The pictures add nothing that could be shown: no method with pictures and clinical "
            "values is surely better than age and lymphocyte count alone. The best, "
            f"{best['method']}, has an AUC of {best['value']:.3f}, a difference of "
            f"{best['difference']:+.3f} ({best['difference_low']:+.3f} to "
            f"{best['difference_high']:+.3f}). Do not prefer it to age and count on this evidence."
        )
    chance = {
        "bag size": "The number of pictures of a patient alone tells the diagnosis: {}. That is no "
        "biology. A method that sums over cells, or sees padding, would learn it; the ones here "
        "average.",
        "date format": "The way a birth date is written alone tells the diagnosis: {}. The rows "
        "come from two sources. No method here sees it; make sure that none of yours does.",
        "row order": "The order of rows in the table alone tells the diagnosis: {}. The table was "
        "sorted or joined by class. No method here sees it; make sure that none of yours does.",
    }
    for method, text in chance.items():
        above = _above_chance(compared[compared["method"] == method])
        if above:
            warnings.append(text.format(above))
    for method in compared.loc[
        compared["method"].str.endswith("shuffled labels"), "method"
    ].unique():
        # The AUC alone: where one class is commoner, a classifier that learned nothing calls the
        # usual patients by it, and these are mostly its own.
        rows = compared[(compared["method"] == method) & (compared["metric"] == "auc")]
        # Each repeat shuffles anew; the interval over patients does not hold how shuffles differ.
        error = rows["spread"].fillna(0) / np.sqrt(rows["repeats"])
        above = _above_chance(rows[rows["value"] - 2 * error > 0.5])
        if above:
            warnings.append(
                f"{method}: a classifier trained on shuffled labels does better than chance: "
                f"{above}. Something tells it the diagnosis of held-out patients; trust no other "
                "row before that is found."
            )
    return warnings


def _above_chance(rows: pd.DataFrame) -> str:
    """The figures whose interval lies above one half, in words; empty where there is none."""
    # AUC needs no threshold; balanced accuracy also sees what differs from fold to fold.
    judged = rows[(rows["metric"] == "auc") | (rows["rule"] == "AVG")]
    names = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}
    return ", ".join(
        f"{names[row['metric']]} {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        for row in judged[judged["low"] > 0.5].to_dict(orient="records")
    )


def outline(evaluation: pd.DataFrame) -> str:
    """Put what matters most into short lines, to be read in a terminal.

    Args:
        evaluation: as `measure` returns it.

    Returns:
        A line a method: balanced accuracy of AVG and AUC, and their differences from clinical
        values alone.
    """
    lines = [f"{'':30}{'balanced accuracy':>30}{'AUC':>30}"]
    for method, rows in evaluation.groupby("method", sort=False):
        line = f"{method:30}"
        for metric in ("balanced_accuracy", "auc"):
            row = rows[(rows["metric"] == metric) & rows["rule"].fillna("AVG").eq("AVG")].iloc[0]
            gain = "" if pd.isna(row["difference"]) else f" ({row['difference']:+.3f})"
            line += f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]{gain:9}".rjust(30)
        lines.append(line.rstrip())
    return "\n".join(lines)


def describe_evaluation(evaluation: pd.DataFrame, warnings: list[str], seen: str) -> str:
    """Put the evaluation into Markdown.

    Args:
        evaluation: as `measure` returns it.
        warnings: as `warn` returns them.
        seen: which pictures the encoder was trained on.

    Returns:
        Warnings, what was done, and three tables: scores, referrals, differences.
    """
    first = evaluation.iloc[0]
    lines = [f"- **{text}**" for text in warnings]
    lines += [
        "",
        f"{first['patients']} patients, each predicted by models that never saw them, "
        f"{first['repeats']} time(s) over. In brackets the interval over patients; after +- the "
        "standard deviation over repeats, which differ in folds and seeds. Clinical values are age "
        "and lymphocyte count. AVG: positive where the mean prediction is 0.5 or more. " + seen,
        "",
    ]
    records = evaluation.fillna({"rule": ""}).to_dict(orient="records")
    found = {(r["method"], r["rule"], r["metric"]): r for r in records}
    decided = list(dict.fromkeys((r["method"], r["rule"]) for r in records if r["rule"]))
    scores, referrals, differences = [], [], []
    for method, rule in decided:
        of_decisions = [_cell(found[method, rule, metric]) for metric in OF_DECISIONS]
        if rule == "referral":
            referrals.append([method, *of_decisions])
        else:
            # What needs no decision is said once for each method.
            of_probabilities = [
                _cell(found[method, "", metric]) if rule == "AVG" else ""
                for metric in OF_PROBABILITIES
            ]
            scores.append([method, rule, *of_decisions, *of_probabilities])
        if method != CLINICAL:
            of_auc = _difference(found[method, "", "auc"]) if rule == "AVG" else ""
            accuracy = _difference(found[method, rule, "balanced_accuracy"])
            differences.append([method, rule, accuracy, of_auc])
    names = ["balanced accuracy", "sensitivity", "specificity"]
    lines += _table(["method", "rule", *names, "AUC", "Brier", "calibration error"], scores)
    lines += ["", "Referral: at the threshold chosen inside the training folds.", ""]
    lines += _table(["method", *names], referrals)
    lines += ["", f"Difference from: {CLINICAL}.", ""]
    lines += _table(["method", "rule", "balanced accuracy", "AUC"], differences)
    return "\n".join(lines).strip() + "\n"


def _cell(row: Mapping[Any, Any]) -> str:
    spread = "" if pd.isna(row["spread"]) else f" +- {row['spread']:.3f}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]{spread}"


def _difference(row: Mapping[Any, Any]) -> str:
    low, high = row["difference_low"], row["difference_high"]
    return f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
