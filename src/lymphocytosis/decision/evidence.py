"""Evidence: how well each method does on patients it never saw, with intervals.

Every score is computed within each repeat, on the held-out predictions of all patients, and then
averaged over repeats. Intervals come from a bootstrap over persons, with the same resamples for all
methods, so that differences between methods are paired.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.rules import decide_by_sa, summarise
from lymphocytosis.decision.thresholds import threshold_for_sensitivity

Floats = npt.NDArray[np.float64]

# Each rule and the column of its decisions. AVG: the mean prediction, or the only one, at 0.5.
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
    "difference", "difference_low", "difference_high", "difference_p", "patients", "repeats",
]  # fmt: skip
COMPARED = [
    "method", "rule", "metric", "first", "second",
    "difference", "difference_low", "difference_high", "patients", "repeats",
]  # fmt: skip
# Bins of the calibration error: about twenty patients each in a cohort of a hundred.
_BINS = 5


@dataclass(frozen=True)
class Method:
    """One method's predictions, repeats (r) by patients (p), in the same order for all methods.

    Attributes:
        probability: (r, p).
        decisions: (r, p) of 0 and 1 by rule.
    """

    probability: Floats
    decisions: dict[str, Floats]


def join_predictions(
    control_predictions: pd.DataFrame,
    classifier_predictions: pd.DataFrame,
    patients: pd.DataFrame,
    wanted_sensitivity: float,
) -> pd.DataFrame:
    """Put every method into one table, with a row for each repeat and patient.

    Args:
        control_predictions: as `predict_controls` returns them.
        classifier_predictions: size, system, repeat, fold, role, patient_id, split, view,
            probability.
        patients: patient_id, person, label, and others.
        wanted_sensitivity: of the referral threshold.

    Returns:
        method, repeat, fold, patient_id, person, label, probability, threshold (for a referral),
        decision (at 0.5), referral, sa_corrected and sa_as_printed (null for controls).
    """
    label = patients.set_index("patient_id")["label"]
    tables = [control_predictions]
    keys = ["size", "system", "repeat", "fold"]
    for (size, system, repeat, fold), rows in classifier_predictions.groupby(keys, sort=False):
        inner, held_out = (summarise(rows[rows["role"] == role]) for role in ("inner", "held_out"))
        threshold = threshold_for_sensitivity(
            label.loc[inner["patient_id"]].to_numpy(dtype=int),
            inner["mean"].to_numpy(),
            wanted_sensitivity,
        )
        tables.append(
            pd.DataFrame(
                {
                    "method": f"{size}, {system}",
                    "repeat": repeat,
                    "fold": fold,
                    "patient_id": held_out["patient_id"],
                    "probability": held_out["mean"],
                    "threshold": threshold,
                    "sa_corrected": decide_by_sa(held_out, "corrected")["decision"],
                    "sa_as_printed": decide_by_sa(held_out, "as_printed")["decision"],
                }
            )
        )
    joined = pd.concat(tables, ignore_index=True)
    whose = patients.set_index("patient_id").loc[joined["patient_id"], ["person", "label"]]
    return joined.assign(
        person=whose["person"].to_numpy(),
        label=whose["label"].to_numpy(),
        decision=joined["probability"] >= 0.5,
        referral=joined["probability"] >= joined["threshold"],
    ).astype(
        {
            "label": "int8",
            "decision": "int8",
            "referral": "int8",
            "sa_corrected": "Int8",
            "sa_as_printed": "Int8",
        }
    )


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
        referral for referrals), difference_p (of AUC: DeLong's), patients, repeats. For errors
        (Brier, calibration) lower is better.
    """
    label, persons, methods = by_method(nested_predictions)
    weights = draw_weights(persons, label, resamples, seed)
    baseline = _scores(methods[CLINICAL], label, weights)
    rows = []
    for method, predictions in methods.items():
        for (rule, metric), scores in _scores(predictions, label, weights).items():
            of_resamples = scores.mean(axis=0)
            low, high = ends(of_resamples, confidence)
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
                # Clinical values have no SA; it is compared with their decisions at 0.5.
                against = baseline[
                    (rule, metric) if (rule, metric) in baseline else ("AVG", metric)
                ]
                difference = of_resamples - against.mean(axis=0)
                low, high = ends(difference, confidence)
                row |= {"difference": difference[0], "difference_low": low, "difference_high": high}
                if metric == "auc":
                    pair = (predictions.probability, methods[CLINICAL].probability)
                    row["difference_p"] = delong(*pair, label)
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS).astype(
        {"spread": "float64", "rule": "str", "difference_p": "float64"}
    )


def by_method(
    nested_predictions: pd.DataFrame,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.object_], dict[str, Method]]:
    """Arrange predictions by method, repeat and patient.

    Args:
        nested_predictions: as `measure` takes them.

    Returns:
        (p,) labels and (p,) persons of the patients, sorted by patient_id; and the methods by name.
    """
    patients = nested_predictions.drop_duplicates("patient_id").set_index("patient_id").sort_index()
    methods = {}
    for method, rows in nested_predictions.groupby("method", sort=False):
        rules = {rule: column for rule, column in RULES.items() if rows[column].notna().all()}
        columns = list(dict.fromkeys(["probability", *rules.values()]))
        wide = rows.pivot_table(columns, "repeat", "patient_id")
        found = {c: wide[c][patients.index].to_numpy(dtype=float) for c in columns}
        methods[str(method)] = Method(
            found["probability"], {rule: found[column] for rule, column in rules.items()}
        )
    return (
        patients["label"].to_numpy(dtype=np.int64),
        patients["person"].to_numpy(dtype=object),
        methods,
    )


def compare(
    first: pd.DataFrame, second: pd.DataFrame, resamples: int, confidence: float, seed: int
) -> pd.DataFrame | None:
    """Compare two evaluations on the same folds, method by method.

    Args:
        first: nested predictions, as for `measure`.
        second: those of another recipe.
        resamples: of the bootstrap.
        confidence: level of the intervals.
        seed: of the bootstrap.

    Returns:
        For each method that both have: method, rule, metric, first, second (the scores),
        difference (second less first), difference_low, difference_high (the interval over persons),
        patients, repeats. None if the folds, or the patients' labels, differ.
    """
    folds = [
        table.drop_duplicates(["repeat", "patient_id"])
        .set_index(["repeat", "patient_id"])[["fold", "label", "person"]]
        .sort_index()
        for table in (first, second)
    ]
    if not folds[0].equals(folds[1]):
        return None
    label, persons, methods = by_method(first)
    others = by_method(second)[2]
    weights = draw_weights(persons, label, resamples, seed)
    rows = []
    for method in (method for method in methods if method in others):
        old, new = (_scores(one[method], label, weights) for one in (methods, others))
        for rule, metric in (key for key in old if key in new):
            before, after = (scores[rule, metric].mean(axis=0) for scores in (old, new))
            low, high = ends(after - before, confidence)
            row = (method, rule, metric, before[0], after[0], after[0] - before[0], low, high)
            rows.append((*row, len(label), len(old[rule, metric])))
    return pd.DataFrame(rows, columns=COMPARED)


def draw_weights(
    persons: npt.NDArray[np.object_], label: npt.NDArray[np.int64], resamples: int, seed: int
) -> Floats:
    """Weigh patients as they are, and then as often as each resample draws them.

    Persons are drawn with replacement within their class, so that every resample has the class
    sizes of the cohort. Patients who may be the same person are drawn together.

    Args:
        persons: (p,) the person of each patient.
        label: (p,) 0 or 1.
        resamples: how many resamples.
        seed: of the draws.

    Returns:
        (1 + resamples, p); the first row holds ones, the others counts.
    """
    generator = np.random.default_rng(seed)
    _, first, number = np.unique(persons, return_index=True, return_inverse=True)
    # Patients of one person may have different labels; the first one's counts.
    class_of_person = label[first]
    counts = np.ones((1 + resamples, len(first)))
    for value in (0, 1):
        members = np.flatnonzero(class_of_person == value)
        if len(members):
            share = np.full(len(members), 1 / len(members))
            counts[1:, members] = generator.multinomial(len(members), share, size=resamples)
    return counts[:, number]


def ends(figures: Floats, confidence: float) -> tuple[float, float]:
    """Take the bootstrap's interval of a figure.

    Args:
        figures: (1 + resamples,) under the weights of `draw_weights`.
        confidence: level of the interval.

    Returns:
        The percentiles of the resamples' figures.
    """
    low, high = np.percentile(figures[1:], [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def _scores(
    method: Method, label: npt.NDArray[np.int64], weights: Floats
) -> dict[tuple[str | None, str], Floats]:
    """Scores (r, s) under weights (s, p), by rule and metric."""
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
    """Area under the ROC curve: the share of pairs in the right order, with ties as half.

    Args:
        probability: (r, p).
        label: (p,) 0 or 1.
        weights: (s, p), how often each patient counts.

    Returns:
        (r, s).
    """
    positive, negative = weights[:, label == 1], weights[:, label == 0]
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    areas = [
        ((positive @ ordered) * negative).sum(axis=1) / pairs
        for ordered in (_in_order(of_repeat, label) for of_repeat in probability)
    ]
    return np.array(areas)


def _in_order(probability: Floats, label: npt.NDArray[np.int64]) -> Floats:
    """Of each pair of a tumoral and a reactive patient: 1 in the right order, 0.5 for a tie."""
    ordered: Floats = (np.sign(probability[label == 1][:, None] - probability[label == 0]) + 1) / 2
    return ordered


def delong(first: Floats, second: Floats, label: npt.NDArray[np.int64]) -> float:
    """Test whether two methods' AUCs differ, by DeLong's variance of correlated areas.

    Each patient's share in the areas is averaged over repeats first, so that repeats never count as
    more patients. Persons with several patients are not accounted for; the bootstrap does that.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Comparing the areas under two or more correlated
    receiver operating characteristic curves.

    Args:
        first: (r, p) probabilities.
        second: (r, p) of the same patients.
        label: (p,) 0 or 1; at least two patients of each class.

    Returns:
        Two-sided p; 1 where the methods order all patients alike; nan with fewer patients.
    """
    if min((label == value).sum() for value in (0, 1)) < 2:
        return float("nan")
    shares = [_shares_in_area(probability, label) for probability in (first, second)]
    of_tumoral, of_reactive = (a - b for a, b in zip(*shares, strict=True))
    variance = sum(part.var(ddof=1) / len(part) for part in (of_tumoral, of_reactive))
    if variance == 0:
        return 1.0 if of_tumoral.mean() == 0 else 0.0
    return float(2 * norm.sf(abs(of_tumoral.mean()) / variance**0.5))


def _shares_in_area(probability: Floats, label: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Of each tumoral patient the share of reactive ones below it, and the other way round."""
    ordered = np.mean([_in_order(of_repeat, label) for of_repeat in probability], axis=0)
    return ordered.mean(axis=1), ordered.mean(axis=0)


def calibration_error(probability: Floats, label: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Expected calibration error: the distance of predicted and observed shares, bin by bin.

    Patients are sorted by probability and cut into five bins of equal size, each with the weight of
    its patients.

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
