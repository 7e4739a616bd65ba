"""How well methods do in groups of patients: by age, sex and lymphocyte count."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import draw_weights, ends, weighted_auc
from lymphocytosis.decision.results import exact_interval, interval

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

COLUMNS = [
    "method", "trait", "group", "metric", "value", "low", "high",
    "difference", "difference_low", "difference_high", "reactive", "tumoral", "repeats",
]  # fmt: skip
ALL = "all patients"
# Lower ends of the groups. Below 10 x 10^9 per litre the count by itself says little.
AGES = (0, 50, 70)
COUNTS = (0, 10, 30)
# Specificities at which the sensitivity is told.
SPECIFICITIES = (0.9, 0.95)


def measure_subgroups(
    nested_predictions: pd.DataFrame,
    patients: pd.DataFrame,
    resamples: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Score clinical values, pictures and both in each group of patients.

    Args:
        nested_predictions: method, repeat, patient_id, person, label, probability, decision, and
            others.
        patients: patient_id, age_years, sex (null where unknown), lymphocyte_count (10^9 per
            litre).
        resamples: of the bootstrap.
        confidence: level of the intervals.
        seed: of the bootstrap.

    Returns:
        method; trait and group, as `groups_of` names them; metric; value, a mean over repeats; low
        and high; difference, difference_low and difference_high, of balanced_accuracy and auc from
        those of clinical values, paired, with a bootstrap's interval over persons (null for other
        metrics); reactive and tumoral, the numbers of patients; repeats. Metrics: sensitivity and
        specificity at a probability of 0.5, with exact intervals (Clopper-Pearson, of one repeat's
        patients); balanced_accuracy, as in `results.interval`; auc, with a bootstrap's over
        persons; sensitivity_at_90 and sensitivity_at_95, at the lowest threshold whose specificity
        is at least that among these very patients, with a bootstrap's. A value is null where there
        is no patient of a class that it needs.
    """
    known = patients.set_index("patient_id")
    methods = [
        name
        for name in nested_predictions["method"].unique()
        if name == CLINICAL or name.endswith(("pictures", "pictures + clinical"))
    ]
    of_methods = nested_predictions[nested_predictions["method"].isin(methods)]
    wide = of_methods.pivot_table(["probability", "decision"], ["method", "repeat"], "patient_id")
    whose = of_methods.drop_duplicates("patient_id").set_index("patient_id")
    rows = []
    for trait, group, inside in groups_of(known.loc[wide["probability"].columns]):
        ids = inside.index[inside]
        label = whose.loc[ids, "label"].to_numpy(dtype=np.int64)
        weights = draw_weights(
            whose.loc[ids, "person"].to_numpy(dtype=object), label, resamples, seed
        )
        reactive, tumoral = (int((label == value).sum()) for value in (0, 1))
        if reactive and tumoral:
            # A resample of persons may hold no patient of a class, where two share a person.
            of_class = (weights[:, label == value].sum(axis=1) for value in (0, 1))
            weights = weights[np.all([found > 0 for found in of_class], axis=0)]
        resampled = {}
        for method in sorted(methods, key=lambda name: name != CLINICAL):
            probability, decision = (
                wide[c].loc[method][ids].to_numpy(dtype=float) for c in ("probability", "decision")
            )
            own = _of_probabilities(probability, label, weights)
            scores = _of_decisions(decision, label, confidence)
            scores |= {name: _with_ends(found, confidence) for name, found in own.items()}
            own["balanced_accuracy"] = _balanced_accuracy(decision, label, weights)
            resampled[method] = own
            for metric, figures in scores.items():
                compared = (np.nan, np.nan, np.nan)
                if method != CLINICAL and metric in ("balanced_accuracy", "auc"):
                    gain = own[metric] - resampled[CLINICAL][metric]
                    compared = _with_ends(gain, confidence)
                rows.append(
                    (
                        *(method, trait, group, metric, *figures, *compared),
                        *(reactive, tumoral, decision.shape[0]),
                    )
                )
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[4:10], "float64"))


def groups_of(patients: pd.DataFrame) -> Iterator[tuple[str, str, "pd.Series[bool]"]]:
    """Group patients.

    Args:
        patients: age_years, sex, lymphocyte_count, by patient_id.

    Yields:
        A trait (`age in years`, `sex`, `10^9 lymphocytes per litre`; first, for all patients, an
        empty one), the group's name, and who belongs to it. Nobody is in no group of a trait, but
        those of unknown sex.
    """
    yield "", ALL, pd.Series(True, index=patients.index)
    bands = (
        ("age in years", patients["age_years"], AGES),
        ("10^9 lymphocytes per litre", patients["lymphocyte_count"], COUNTS),
    )
    for trait, values, starts in bands:
        for start, end in zip(starts, (*starts[1:], np.inf), strict=True):
            name = f"{start} or more" if end == np.inf else f"{start} to below {end}"
            yield trait, name if start else f"below {end}", (values >= start) & (values < end)
    for sex in ("F", "M"):
        yield "sex", sex, (patients["sex"] == sex).fillna(False).astype(bool)


def _of_decisions(
    decision: Floats, label: Labels, confidence: float
) -> dict[str, tuple[float, float, float]]:
    """Scores of decisions (r, p) at 0.5, by metric: value, low, high."""
    scores, right = {}, []
    for name, value in (("specificity", 0), ("sensitivity", 1)):
        of_class = (decision[:, label == value] == value).mean(axis=0)
        n = len(of_class)
        share = float(of_class.mean()) if n else np.nan
        # Repeats of the same patients make no interval narrower.
        found = round(share * n) if n else 0
        scores[name] = (share, *exact_interval(found, n, confidence))
        right.append(np.arange(n) < found)
    both = (scores["specificity"][0] + scores["sensitivity"][0]) / 2
    unknown = (np.nan, np.nan)
    of_both = interval(*right, confidence=confidence) if all(map(len, right)) else unknown
    return {"balanced_accuracy": (both, *of_both), **scores}


def _of_probabilities(probability: Floats, label: Labels, weights: Floats) -> dict[str, Floats]:
    """Scores (s,) of probabilities (r, p) under the weights (s, p) of resamples, by metric."""
    names = ["auc", *(f"sensitivity_at_{round(100 * s)}" for s in SPECIFICITIES)]
    if len(np.unique(label)) < 2:
        return dict.fromkeys(names, np.full(len(weights), np.nan))
    curves = [weighted_auc(probability, label, weights).mean(axis=0)]
    curves += [_sensitivity_at(s, probability, label, weights) for s in SPECIFICITIES]
    return dict(zip(names, curves, strict=True))


def _balanced_accuracy(decision: Floats, label: Labels, weights: Floats) -> Floats:
    """Balanced accuracy (s,) of decisions (r, p) under weights (s, p), a mean over repeats."""
    if len(np.unique(label)) < 2:
        return np.full(len(weights), np.nan)
    shares = []
    for value in (0, 1):
        of_class = weights * (label == value)
        right = (decision == value).mean(axis=0)
        shares.append(of_class @ right / of_class.sum(axis=1))
    return (shares[0] + shares[1]) / 2


def _with_ends(resampled: Floats, confidence: float) -> tuple[float, float, float]:
    """A figure (s,) under the weights of resamples: value, low, high."""
    return (float(resampled[0]), *ends(resampled, confidence))


def _sensitivity_at(
    specificity: float, probability: Floats, label: Labels, weights: Floats
) -> Floats:
    """Sensitivity (s,) at the lowest threshold with this specificity, a mean over repeats."""
    found = []
    for of_repeat in probability:
        thresholds = np.append(np.unique(of_repeat), np.inf)
        referred = of_repeat[:, None] >= thresholds  # (p, t)
        shares = []
        for value in (0, 1):
            of_class = weights[:, label == value]
            counts = of_class @ referred[label == value]
            shares.append(counts / of_class.sum(axis=1, keepdims=True))
        # The sums are rounded.
        enough = 1 - shares[0] >= specificity - 1e-9
        lowest = enough.argmax(axis=1)
        found.append(np.take_along_axis(shares[1], lowest[:, None], axis=1)[:, 0])
    return np.mean(found, axis=0)
