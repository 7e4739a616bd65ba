"""Leaks: does anything that is no medicine tell the diagnosis? All tests together err in 5 %.

There are two tests, of traces and of shuffled labels. Each takes one half of the error rate, so its
p is doubled. Within a test, every figure is compared with the greatest of all figures that chance
gives, so that many controls raise no more false alarms than one. Both hold for few patients too.

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
# From this p on a leak is told as certain; between both as one that may be.
CERTAIN = 0.01
ROW_ORDER = "row order"
SHUFFLED = "shuffled labels"
SAME = "the same for all patients"
_TESTS = 2
_DRAWS = 2000


@dataclass(frozen=True)
class _Figure:
    """How far a control is from chance.

    Attributes:
        control: whose.
        found: the figure in words.
        sizes: (1 + draws,) its distance from chance in standard deviations, with the true labels
            and then with each draw.
        most: the distance that it would have, were it perfect.
    """

    control: str
    found: str
    sizes: Floats
    most: float


def judge_traces(
    label: npt.NDArray[np.int64], traces: Mapping[str, Mapping[str, Floats]], seed: int
) -> pd.DataFrame:
    """Test by permuted labels whether the traces of how data came here tell the label.

    The figure is the area under the ROC curve of a trace's values, in either direction. The order
    of rows has a second one, the share of neighbours of one class, which sees blocks of rows.

    Args:
        label: (p,) 0 or 1; each patient another person.
        traces: of each control its columns by name, each (p,).
        seed: of the permutations.

    Returns:
        control; found, its most conspicuous figure in words; p; and least_p, the p that it would
        have if its values parted the classes.
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

    The figure is the area under the ROC curve within a fold, averaged over folds. Each fold
    shuffles anew, and a shuffle is as often like the truth as unlike it. So chance is to turn the
    areas of some folds around one half. To permute the labels would not do: where pictures do show
    the diagnosis, every shuffle is lucky or unlucky.

    Args:
        nested_predictions: method, repeat, fold, label, probability, and others.
        seed: of the draws.

    Returns:
        As `judge_traces`; control is the method. Folds of one class do not count.
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
    # Mean and variance of a sum of ranks that are drawn without replacement.
    middle = positive * (n + 1) / 2
    spread = np.sqrt(positive * (n - positive) / n * ranks.var(ddof=1))
    sums = labels @ ranks
    ordered = np.sort(ranks)
    most = max(ordered[-int(positive) :].sum() - middle, middle - ordered[: int(positive)].sum())
    beyond = abs(sums[0] - middle) / (positive * (n - positive))
    found = f"AUC {0.5 + beyond:.3f}{name}"
    return _Figure(control, found, np.abs(sums - middle) / spread, most / spread)


def _beyond(fold: pd.DataFrame) -> float:
    """How far the area under the ROC curve within a fold is from one half; NaN with one class."""
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
    """Each control's most conspicuous figure, among what chance gives to all of them together."""
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
    # What is equal but for rounding is as great.
    as_great = (chance >= size - 1e-9).sum()
    return min(1.0, _TESTS * (1 + as_great) / (1 + len(chance)))
