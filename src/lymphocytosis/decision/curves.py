"""Curves of a method: ROC, precision and recall, calibration, net benefit.

Probabilities are of r repeats and p patients, in the same order in all repeats. Curves are means
over repeats.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lymphocytosis.decision.referral import most_likely

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

RECALLS = np.linspace(0, 1, 101)
# Twice 0: a curve begins at (0, 0) and rises before its first false positive.
FALSE_POSITIVE_RATES = np.append(0, RECALLS)


class CalibrationBins(NamedTuple):
    """Bins of equal size, from the least probable patients to the most probable.

    Attributes:
        predicted: (b,) mean probability.
        observed: (b,) share of tumoral patients.
        low: (b,) lower end of the share's Wilson interval.
        high: (b,) upper end.
        patients: (b,) number of patients.
    """

    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    patients: Labels


def sensitivities(probability: Floats, label: Labels, weights: Floats) -> Floats:
    """Compute the ROC curve: the sensitivity at each of `FALSE_POSITIVE_RATES`.

    Args:
        probability: (r, p).
        label: (p,) 0 or 1.
        weights: (s, p), how often each patient counts; ones for the curve itself, resamples for
            its band.

    Returns:
        (s, 102), from 0 to 1.
    """
    curves = []
    for of_repeat in probability:
        true, false = _counts(of_repeat, label, weights)
        pairs = zip(false / false[:, -1:], true / true[:, -1:], strict=True)
        curves.append([np.append(0, np.interp(RECALLS, x, y)) for x, y in pairs])
    return np.mean(curves, axis=0)


def precisions(probability: Floats, label: Labels, weights: Floats) -> Floats:
    """Compute the precision at each of `RECALLS`: that of the highest threshold that reaches it.

    Args:
        probability: (r, p).
        label: (p,) 0 or 1.
        weights: (s, p), how often each patient counts.

    Returns:
        (s, 101). At a recall of 0, that of the first tumoral patient found.
    """
    curves = []
    for of_repeat in probability:
        true, false = (counts[:, 1:] for counts in _counts(of_repeat, label, weights))
        recall = true / true[:, -1:]
        wanted = np.maximum(RECALLS - 1e-9, 1e-9)  # the sums are rounded
        at = [np.searchsorted(of_sample, wanted) for of_sample in recall]
        curves.append(np.take_along_axis(true / np.maximum(true + false, 1), np.array(at), axis=1))
    return np.mean(curves, axis=0)


def _counts(probability: Floats, label: Labels, weights: Floats) -> tuple[Floats, Floats]:
    """True and false positives (s, t) at thresholds from above the highest to the lowest."""
    order = np.argsort(-probability, kind="stable")
    ordered, truth = probability[order], label[order]
    # A threshold can't part patients of equal probability.
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    of_class = (np.cumsum(weights[:, order] * (truth == value), axis=1) for value in (1, 0))
    true, false = (np.pad(counts[:, last], ((0, 0), (1, 0))) for counts in of_class)
    return true, false


def calibration_bins(
    probability: Floats, label: Labels, bins: int, confidence: float
) -> CalibrationBins:
    """Compare predicted with observed shares of tumoral patients, in bins of equal size.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.

    Args:
        probability: (r, p).
        label: (p,) 0 or 1.
        bins: their number.
        confidence: level of the intervals.

    Returns:
        The bins. Intervals are those of one repeat's patients: repeats of the same patients make
        none narrower.
    """
    order = np.argsort(probability, axis=1, kind="stable")
    parts = np.array_split(np.arange(len(label)), bins)
    ordered = np.take_along_axis(probability, order, axis=1)
    predicted = np.array([ordered[:, part].mean() for part in parts])
    observed = np.array([label[order[:, part]].mean() for part in parts])
    patients = np.array([len(part) for part in parts])
    squared = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = (observed + squared / (2 * patients)) / (1 + squared / patients)
    variance = observed * (1 - observed) / patients + squared / (4 * patients**2)
    half = np.sqrt(squared * variance) / (1 + squared / patients)
    return CalibrationBins(predicted, observed, middle - half, middle + half, patients)


def calibration_line(probability: Floats, label: Labels) -> tuple[float, float]:
    """Fit log odds of a tumoral lymphocytosis = intercept + slope x predicted log odds.

    A slope below 1: the probabilities are too extreme. Source: Cox 1958, Two further applications
    of a model for binary regression.

    Args:
        probability: (r, p).
        label: (p,) 0 or 1.

    Returns:
        Intercept (0 is best) and slope (1 is best); nan if the probabilities part the classes, or
        are all equal: then there is no finite or no single answer.
    """
    inside = np.clip(probability, 1e-6, 1 - 1e-6)  # 0 and 1 have no log odds
    of_class = (inside[:, label == value] for value in (0, 1))
    (least_0, most_0), (least_1, most_1) = ((c.min(), c.max()) for c in of_class)
    if most_0 <= least_1 or most_1 <= least_0:
        return np.nan, np.nan
    design = np.column_stack([np.ones(inside.size), np.log(inside / (1 - inside)).ravel()])
    line, _ = most_likely(design, np.tile(label, len(probability)).astype(float))
    return float(line[0]), float(line[1])


def net_benefit(probability: Floats, label: Labels, thresholds: Floats) -> Floats:
    """Compute a decision curve: what referring at each threshold is worth.

    A threshold of t says that missing a tumoral patient is as bad as (1 - t) / t needless
    referrals. The unit is tumoral patients found, as a share of all patients; a needless referral
    costs t / (1 - t) of one. Referring all is a probability of 1 for everybody,
    `np.ones((1, p))`; referring none is worth 0.

    Source: Vickers and Elkin 2006, Decision curve analysis: a novel method for evaluating
    prediction models.

    Args:
        probability: (r, p), calibrated: it is compared with the threshold.
        label: (p,) 0 or 1.
        thresholds: (t,) from 0 to below 1.

    Returns:
        (t,) net benefits.
    """
    referred = probability[:, :, None] >= thresholds
    true, false = ((referred & (label == value)[:, None]).mean(axis=(0, 1)) for value in (1, 0))
    return true - false * thresholds / (1 - thresholds)
