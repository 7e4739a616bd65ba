"""Figures of the evaluate pipeline."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import resample_persons
from lymphocytosis.parameters import EvaluationParameters

Floats = npt.NDArray[np.float64]
# Enough for a band's edge; each needs a curve for every method and repeat.
_RESAMPLES = 200
_GRID = np.linspace(0, 1, 101)
_BINS = 5
_COLOURS = ("#555555", "#0072b2", "#d55e00", "#56b4e9", "#e69f00")  # told apart by the colour-blind


def _shown(nested_predictions: pd.DataFrame) -> list[str]:
    """Clinical values, pictures, both: what a reader compares."""
    names = nested_predictions["method"].unique()
    return [CLINICAL, *(n for n in names if n.endswith(("pictures", "pictures + clinical")))]


def plot_curves(nested_predictions: pd.DataFrame, evaluation: EvaluationParameters) -> Figure:
    """Draw ROC and precision-recall curves with their bands.

    Args:
        nested_predictions: method, repeat, patient_id, person, label, probability, and others.
        evaluation: tells the intervals' level and the seed.

    Returns:
        The figure: means over repeats; bands over resampled persons.
    """
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    roc, precision = figure.subplots(1, 2)
    patients = nested_predictions.drop_duplicates("patient_id").set_index("patient_id")
    label = patients["label"].to_numpy(dtype=np.int64)
    resampled = resample_persons(
        patients["person"].to_numpy(dtype=object), label, _RESAMPLES, evaluation.seed
    )
    weights = np.vstack([np.ones((1, len(label))), resampled])
    tails = [50 * (1 - evaluation.confidence), 50 * (1 + evaluation.confidence)]
    for name, colour in zip(_shown(nested_predictions), _COLOURS, strict=False):
        rows = nested_predictions[nested_predictions["method"] == name]
        wide = rows.pivot_table("probability", "repeat", "patient_id")
        curves = [_curves(p, label, weights) for p in wide[patients.index].to_numpy(dtype=float)]
        for axis, drawn in zip((roc, precision), np.mean(curves, axis=0), strict=True):
            low, high = np.percentile(drawn[1:], tails, axis=0)
            axis.plot(_GRID, drawn[0], color=colour, label=name)
            axis.fill_between(_GRID, low, high, color=colour, alpha=0.12, linewidth=0)
    roc.plot([0, 1], [0, 1], ":", color="grey")
    roc.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC")
    precision.axhline(label.mean(), linestyle=":", color="grey")
    precision.set(xlabel="recall (sensitivity)", ylabel="precision", title="precision and recall")
    for axis in (roc, precision):
        axis.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    roc.legend(loc="lower right", fontsize="small")
    return figure


def _curves(probability: Floats, label: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """(2, s, 101): sensitivity at each 1 - specificity, precision at each sensitivity."""
    order = np.argsort(-probability, kind="stable")
    ordered, truth = probability[order], label[order]
    # A threshold can't part patients of equal probability.
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    found = np.cumsum(weights[:, order] * truth, axis=1)[:, last]
    wrong = np.cumsum(weights[:, order] * (1 - truth), axis=1)[:, last]
    roc, precision = [], []
    for true, false in zip(found, wrong, strict=True):
        sensitivity = np.append(0, true / true[-1])
        roc.append(np.interp(_GRID, np.append(0, false / false[-1]), sensitivity))
        # At no recall precision is that of the first patient found.
        at = np.searchsorted(sensitivity[1:], np.maximum(_GRID - 1e-9, 1e-9)).clip(
            max=len(true) - 1
        )
        precision.append(true[at] / (true + false)[at])
    return np.array([roc, precision])


def plot_calibration(
    nested_predictions: pd.DataFrame,
    referral_predictions: pd.DataFrame,
    evaluation: EvaluationParameters,
) -> Figure:
    """Draw observed against predicted shares of tumoral patients, in bins of equal size.

    Args:
        nested_predictions: method, repeat, patient_id, label, probability, and others.
        referral_predictions: the same, with probabilities calibrated by what was fitted on the
            other folds, and which calibration was kept.
        evaluation: tells the intervals' level.

    Returns:
        The figure, a panel a method; bars are binomial (Wilson) intervals of one repeat's bin. The
        calibrated curve is drawn where most folds kept a calibration.
    """
    names = _shown(nested_predictions)
    figure = Figure(figsize=(2.7 * len(names), 3.2), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, len(names), sharey=True, squeeze=False)[0])
    for axis, name, colour in zip(panels, names, _COLOURS, strict=False):
        axis.plot([0, 1], [0, 1], ":", color="grey")
        rows = nested_predictions[nested_predictions["method"] == name]
        _draw_bins(axis, rows, evaluation.confidence, "o-", colour, "as predicted")
        judged = referral_predictions[referral_predictions["method"] == name]
        if (judged["kept"] != "none").mean() > 0.5:
            kept = [judged["kept"] == "platt", judged["kept"] == "beta"]
            calibrated = np.select(kept, [judged["platt"], judged["beta"]], judged["probability"])
            rows = judged.assign(probability=calibrated)
            _draw_bins(axis, rows, evaluation.confidence, "s--", "black", "calibrated")
            axis.legend(loc="lower right", fontsize="x-small")
        axis.set_title(name.replace(", ", ",\n"), fontsize="small")
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="predicted")
    panels[0].set_ylabel("observed share of tumoral")
    return figure


def _draw_bins(
    axis: Axes, rows: pd.DataFrame, confidence: float, line: str, colour: str, label: str
) -> None:
    from scipy.stats import binomtest

    points = []
    for _, repeat in rows.groupby("repeat"):
        ordered = repeat.sort_values("probability", kind="stable")
        parts = np.array_split(ordered[["probability", "label"]].to_numpy(dtype=float), _BINS)
        points.append([(*part.mean(axis=0), len(part)) for part in parts])
    predicted, observed, size = np.mean(points, axis=0).T
    for x, o, n in zip(predicted, observed, size, strict=True):
        interval = binomtest(round(o * n), round(n)).proportion_ci(confidence, "wilson")
        axis.plot([x, x], [interval.low, interval.high], color=colour, alpha=0.6)
    axis.plot(predicted, observed, line, color=colour, markersize=4, label=label)


def plot_differences(evaluation: pd.DataFrame) -> Figure:
    """Draw each method's paired difference from clinical values alone, with its interval.

    Args:
        evaluation: method, rule, metric, difference, difference_low, difference_high, and others.

    Returns:
        The figure, a row a method and rule.
    """
    compared = evaluation[evaluation["difference"].notna()]
    figure = Figure(figsize=(11, 1.2 + 0.26 * len(compared) / 6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, metric, title in (
        (left, "balanced_accuracy", "balanced accuracy"),
        (right, "auc", "AUC"),
    ):
        rows = compared[compared["metric"] == metric].iloc[::-1]
        names = rows["method"] + rows["rule"].map(lambda r: "" if pd.isna(r) else f"  ({r})")
        for at, row in enumerate(rows.to_dict(orient="records")):
            sure = row["difference_low"] > 0
            colour = "#0072b2" if sure else "#d55e00" if row["difference_high"] < 0 else "#555555"
            axis.plot([row["difference_low"], row["difference_high"]], [at, at], color=colour)
            axis.plot(row["difference"], at, "o", color=colour, markersize=4)
        axis.axvline(0, linestyle=":", color="grey")
        axis.set_yticks(range(len(rows)), list(names), fontsize="x-small")
        axis.set_title(f"{title}: difference from\n{CLINICAL}", fontsize="small")
        axis.set_ylim(-0.7, len(rows) - 0.3)
    return figure
