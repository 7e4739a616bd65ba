"""Leaks: do bag size, row order and the like predict the diagnosis?

The family-wise error rate of all tests is 5 %. There are two tests, of traces and of shuffled
labels; each gets half of the error rate, so its p is doubled. Within a test, every statistic is
compared with the largest of all statistics under chance, so that more controls cause no more false
alarms. Both tests are also valid for few patients.

Source: Westfall and Young 1993, Resampling-Based Multiple Testing (single-step maxT).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]

ERROR_RATE = 0.05
# Up to this p a leak is reported as certain; between it and the error rate, with "may".
CERTAIN = 0.01
ROW_ORDER = "row order"
SHUFFLED = "shuffled labels"
SAME = "the same for all patients"
_TESTS = 2
_DRAWS = 2000


@dataclass(frozen=True)
class _Figure:
    """One statistic of a control, and its distribution under chance.

    Attributes:
        control: name of the control.
        found: the statistic in words.
        sizes: (1 + draws,) distance from chance in standard deviations, for the true labels, then
            for each draw.
        most: the distance for a perfect predictor.
    """

    control: str
    found: str
    sizes: Floats
    most: float


def judge_traces(
    label: npt.NDArray[np.int64], traces: Mapping[str, Mapping[str, Floats]], seed: int
) -> pd.DataFrame:
    """Test by permuting labels whether traces of how the data were collected predict the label.

    The statistic is the area under the ROC curve of a trace's values, in either direction. The
    order of rows has a second one, which detects blocks: the share of neighbouring rows of one
    class.

    Args:
        label: (p,) 0 or 1; one patient of each person.
        traces: each control's columns by name, each (p,).
        seed: of the permutations.

    Returns:
        control; found, its most extreme statistic in words; p; and least_p, the p if the control's
        values separated the classes perfectly.
    """
    permuted = np.random.default_rng(seed).permuted(np.tile(label, (_DRAWS, 1)), axis=1)
    labels = np.vstack([label, permuted]).astype(float)
    figures = []
    for control, columns in traces.items():
        for name, values in columns.items():
            figures.append(_area(control, f" ({name})" if len(columns) > 1 else "", values, labels))
        if control == ROW_ORDER:
            figures.append(_neighbours(values, labels))
    return _judge(figures)


def judge_shuffles(nested_predictions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Test whether classifiers trained on shuffled labels do better than chance.

    The statistic is the area under the ROC curve within a fold, averaged over folds. Each fold
    shuffles its labels independently, and without a leak areas above and below 0.5 are equally
    likely. So the test draws random signs for the folds' distances from 0.5. Permuting labels would
    not be valid: if pictures do show the diagnosis, a shuffle resembles the true labels more or
    less by chance, which makes the predictions of all its patients good or bad together.

    Args:
        nested_predictions: method, repeat, fold, label, probability, and others.
        seed: of the draws.

    Returns:
        As `judge_traces`; control is the method. Folds with a single class are ignored.
    """
    shuffled = nested_predictions[nested_predictions["method"].str.endswith(SHUFFLED)]
    figures = []
    for method, of_method in shuffled.groupby("method", sort=False):
        beyond = np.array([_beyond(f) for _, f in of_method.groupby(["repeat", "fold"])])
        beyond = beyond[~np.isnan(beyond)]
        # The same draws for all methods: they share the shuffles.
        turns = np.random.default_rng(seed).choice([-1.0, 1.0], (_DRAWS, len(beyond)))
        scale = np.sqrt((beyond**2).sum()) or 1.0
        sizes = np.concatenate([[beyond.sum()], turns @ beyond]) / scale
        found = f"AUC {0.5 + beyond.mean():.3f} within folds"
        figures.append(_Figure(str(method), found, sizes, np.abs(beyond).sum() / scale))
    return _judge(figures)


def _area(control: str, name: str, values: Floats, labels: Floats) -> _Figure:
    if np.ptp(values) == 0:
        return _Figure(control, SAME, np.zeros(len(labels)), 0.0)
    ranks = rankdata(values)
    positive, n = labels[0].sum(), len(values)
    # Mean and standard deviation of a sum of ranks drawn without replacement.
    middle = positive * (n + 1) / 2
    spread = np.sqrt(positive * (n - positive) / n * ranks.var(ddof=1))
    sums = labels @ ranks
    ordered = np.sort(ranks)
    most = max(ordered[-int(positive) :].sum() - middle, middle - ordered[: int(positive)].sum())
    beyond = abs(sums[0] - middle) / (positive * (n - positive))
    found = f"AUC {0.5 + beyond:.3f}{name}"
    return _Figure(control, found, np.abs(sums - middle) / spread, most / spread)


def _beyond(fold: pd.DataFrame) -> float:
    """Area under the ROC curve within a fold, minus 0.5; NaN where the fold has one class."""
    positive = fold["label"].sum()
    negative = len(fold) - positive
    if not positive or not negative:
        return np.nan
    ranks = rankdata(fold["probability"])[fold["label"] == 1]
    return float((ranks.mean() - (positive + 1) / 2) / negative - 0.5)


def _neighbours(place: Floats, labels: Floats) -> _Figure:
    ordered = labels[:, np.argsort(place)]
    alike = (ordered[:, 1:] == ordered[:, :-1]).mean(axis=1)
    sizes = np.abs(alike - alike.mean()) / (alike.std() or 1.0)
    return _Figure(ROW_ORDER, f"{alike[0]:.0%} of neighbouring rows are of one class", sizes, 0.0)


def _judge(figures: list[_Figure]) -> pd.DataFrame:
    """Keep each control's most extreme statistic, with its p among all statistics under chance."""
    chance = np.max([f.sizes[1:] for f in figures], axis=0) if figures else np.empty(0)
    rows = [
        (f.control, f.found, _p(chance, f.sizes[0]), _p(chance, f.most), f.sizes[0])
        for f in figures
    ]
    table = pd.DataFrame(rows, columns=["control", "found", "p", "least_p", "size"])
    least = table.groupby("control", sort=False)["least_p"].min()
    first = table.sort_values("size", ascending=False, kind="stable").drop_duplicates("control")
    judged = first.set_index("control").loc[least.index].assign(least_p=least).reset_index()
    return judged[["control", "found", "p", "least_p"]]


def _p(chance: Floats, size: float) -> float:
    # Equal sizes may differ by rounding.
    as_great = (chance >= size - 1e-9).sum()
    return min(1.0, _TESTS * (1 + as_great) / (1 + len(chance)))
