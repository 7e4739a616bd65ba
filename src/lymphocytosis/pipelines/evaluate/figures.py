"""Figures of the evaluate pipeline."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lymphocytosis.decision import curves
from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import by_method, draw_weights
from lymphocytosis.decision.learning_curves import foretell
from lymphocytosis.decision.referral_evidence import calibrate_by_others
from lymphocytosis.figures import BLUE, DARK, GREY, ORANGE, entitle, in_style
from lymphocytosis.parameters import EvaluationParameters
from lymphocytosis.pipelines.sizes import SIZES

# Enough for a band's edge; each needs a curve for every repeat.
_RESAMPLES = 200
_BINS = 5
# Near 1 a needless referral costs so much that a single patient moves the curve.
_THRESHOLDS = np.linspace(0, 0.9, 91)
# Training patients whose score is foretold.
_LATER = 500
# What a reader compares, by what a method's name ends with; told apart in grey too.
_LOOKS: dict[str, dict[str, Any]] = {
    "age and count": {"color": DARK, "linestyle": "--"},
    "pictures": {"color": ORANGE, "linestyle": "-"},
    "pictures + clinical": {"color": BLUE, "linestyle": "-"},
}


def _compared(size: str) -> dict[str, str]:
    """The methods that a panel compares, by their short names."""
    return {name: CLINICAL if "age" in name else f"{size}, {name}" for name in _LOOKS}


def _patients(label: npt.NDArray[np.int64], repeats: int) -> str:
    return (
        f"{len(label)} labelled patients ({(label == 0).sum()} reactive, {(label == 1).sum()} "
        f"tumoral), each held out in {repeats} repeat{'s' if repeats > 1 else ''}"
    )


@in_style
def plot_curves(
    nested_predictions: pd.DataFrame, scores: pd.DataFrame, evaluation: EvaluationParameters
) -> Figure:
    """Draw ROC and precision-recall curves.

    Args:
        nested_predictions: method, repeat, patient_id, person, label, probability, and others.
        scores: the evaluation table, for the areas under the curves.
        evaluation: tells the intervals' level and the seed.

    Returns:
        The figure, a row an embedding size: means over repeats, with bands over resampled persons
        for age and count, and for pictures with clinical values.
    """
    label, persons, methods = by_method(nested_predictions)
    weights = draw_weights(persons, label, _RESAMPLES, evaluation.seed)
    tails = [50 * (1 - evaluation.confidence), 50 * (1 + evaluation.confidence)]
    area = scores[scores["metric"] == "auc"].set_index("method")
    figure = Figure(figsize=(7.6, 8.6))
    for (roc, precision), size in zip(figure.subplots(2, 2), SIZES, strict=True):
        for name, method in _compared(size).items():
            probability = methods[method].probability
            value, low, high = area.loc[method, ["value", "low", "high"]]
            text = f"{name}: AUC {value:.3f} ({low:.3f} to {high:.3f})"
            for axis, x, drawn in (
                (roc, curves.FALSE_POSITIVE_RATES, curves.sensitivities),
                (precision, curves.RECALLS, curves.precisions),
            ):
                curve, *others = drawn(probability, label, weights)
                axis.plot(x, curve, label=text, **_LOOKS[name])
                if name != "pictures":  # three bands would hide each other
                    edges = np.percentile(others, tails, axis=0)
                    axis.fill_between(x, *edges, color=_LOOKS[name]["color"], alpha=0.13, lw=0)
        roc.plot([0, 1], [0, 1], ":", color=GREY)
        roc.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"ROC, {size} embedding")
        share = label.mean()
        precision.axhline(share, linestyle=":", color=GREY)
        precision.text(0.02, share - 0.02, f"share of tumoral: {share:.2f}", va="top", fontsize=8)
        precision.set(xlabel="recall (sensitivity)", ylabel="precision")
        precision.set_title(f"Precision and recall, {size} embedding")
        for axis in (roc, precision):
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        roc.legend(loc="lower right", fontsize=7)
    entitle(
        figure,
        "How well each method orders the patients",
        f"{_patients(label, evaluation.repeats)}. Curves: means over repeats. Bands and intervals: "
        f"{evaluation.confidence:.0%}, over persons.",
    )
    return figure


@in_style
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
    label, _, methods = by_method(nested_predictions)
    shown = {method: name for size in SIZES for name, method in _compared(size).items()}
    figure = Figure(figsize=(2.35 * len(shown), 3.4))
    panels: list[Axes] = list(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0])
    for axis, (method, name) in zip(panels, shown.items(), strict=True):
        axis.plot([0, 1], [0, 1], ":", color=GREY)
        probability = methods[method].probability
        intercept, slope = curves.calibration_line(probability, label)
        if np.isfinite(slope):
            axis.text(0.98, 0.02, f"intercept {intercept:+.2f}\nslope {slope:.2f}", ha="right",
                      fontsize=7)  # fmt: skip
        colour = _LOOKS[name]["color"]
        _draw_bins(axis, probability, label, evaluation, "o-", colour, "as predicted")
        judged = referral_predictions[referral_predictions["method"] == method]
        if (judged["kept"] != "none").mean() > 0.5:
            kept = [judged["kept"] == "platt", judged["kept"] == "beta"]
            calibrated = np.select(kept, [judged["platt"], judged["beta"]], judged["probability"])
            wide = judged.assign(probability=calibrated).pivot_table(
                "probability", "repeat", "patient_id"
            )
            _draw_bins(axis, wide.to_numpy(), label, evaluation, "s--", "black", "calibrated")
            axis.legend(loc="upper left", fontsize=7)
        axis.set_title(method.replace(", ", ",\n"))
        axis.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal", xlabel="predicted share")
    panels[0].set_ylabel("observed share of tumoral")
    entitle(
        figure,
        "Are the probabilities right?",
        f"{_patients(label, evaluation.repeats)}. {_BINS} bins of equal size. Bars: "
        f"{evaluation.confidence:.0%} intervals of one repeat's bin. Intercept and slope are best "
        "at 0 and 1.",
    )
    return figure


def _draw_bins(
    axis: Axes,
    probability: curves.Floats,
    label: npt.NDArray[np.int64],
    evaluation: EvaluationParameters,
    line: str,
    colour: str,
    text: str,
) -> None:
    bins = curves.calibration_bins(probability, label, _BINS, evaluation.confidence)
    axis.vlines(bins.predicted, bins.low, bins.high, color=colour, alpha=0.5, linewidth=1.2)
    axis.plot(bins.predicted, bins.observed, line, color=colour, label=text, mfc="white")


@in_style
def plot_net_benefit(nested_predictions: pd.DataFrame, evaluation: EvaluationParameters) -> Figure:
    """Draw decision curves: what referring by each method is worth (see `net_benefit`).

    Args:
        nested_predictions: method, repeat, fold, patient_id, person, label, probability, and
            others.
        evaluation: tells the number of repeats.

    Returns:
        The figure, a panel an embedding size.
    """
    drawn = [method for size in SIZES for method in _compared(size).values()]
    shown = nested_predictions[nested_predictions["method"].isin(drawn)]
    label, _, methods = by_method(calibrate_by_others(shown))
    everybody = np.ones((1, len(label)))
    figure = Figure(figsize=(8.2, 4))
    for axis, size in zip(figure.subplots(1, 2, sharey=True), SIZES, strict=True):
        worth = {
            name: curves.net_benefit(methods[method].probability, label, _THRESHOLDS)
            for name, method in _compared(size).items()
        }
        for name, of_method in worth.items():
            axis.plot(_THRESHOLDS, of_method, label=name, **_LOOKS[name])
        of_all = curves.net_benefit(everybody, label, _THRESHOLDS)
        axis.plot(_THRESHOLDS, of_all, ":", color=DARK, label="refer all")
        axis.axhline(0, color=GREY, linewidth=1, label="refer none")
        share = label.mean()
        axis.set(xlim=(0, 0.9), ylim=(-0.15 * share, 1.05 * share), title=f"{size} embedding")
        axis.set_xlabel("threshold: probability from which on to refer")
    figure.axes[0].set_ylabel("net benefit (share of all patients)")
    figure.axes[1].legend(loc="lower left", bbox_to_anchor=(0.01, 0.14))
    entitle(
        figure,
        "What a referral by each method is worth",
        f"{_patients(label, evaluation.repeats)}. Probabilities calibrated (Platt) on the other "
        "folds. At a threshold of 0.2, missing a tumoral patient counts as four needless "
        "referrals. The higher the curve, the better.",
    )
    return figure


@in_style
def plot_learning_curves(learning_curves: pd.DataFrame, evaluation: EvaluationParameters) -> Figure:
    """Draw balanced accuracy over the number of training patients, and over cells of a patient.

    Args:
        learning_curves: varied, number, method, metric, value, low, high, and others.
        evaluation: tells the intervals' level.

    Returns:
        The figure, with a band for pictures with clinical values.
    """
    scores = learning_curves[learning_curves["metric"] == "balanced_accuracy"]
    figure = Figure(figsize=(8.2, 4))
    patients, cells = figure.subplots(1, 2, sharey=True)
    for axis, varied in ((patients, "patients"), (cells, "cells")):
        for name, look in _LOOKS.items():
            method = CLINICAL if "age" in name else name
            chosen = scores[(scores["varied"] == varied) & (scores["method"] == method)]
            rows = chosen.sort_values("number")
            marker = "" if (varied, method) == ("cells", CLINICAL) else "o"
            axis.plot(rows["number"], rows["value"], label=name, marker=marker, **look)
            if name == "pictures + clinical":
                axis.fill_between(
                    rows["number"], rows["low"], rows["high"], color=look["color"], alpha=0.13, lw=0
                )
    patients.set(xlabel="training patients", ylabel="balanced accuracy", title="More patients")
    cells.set(xlabel="cells of a patient, at most (logarithmic)", title="More cells")
    cells.set_xscale("log", base=2)
    cells.xaxis.set_major_formatter("{x:.0f}")
    cells.legend(loc="lower right")
    count, repeats = scores[["patients", "repeats"]].iloc[0]
    curve = scores[(scores["varied"] == "patients") & (scores["method"] == "pictures + clinical")]
    later = foretell(curve["number"].to_numpy(), curve["value"].to_numpy(), _LATER)
    entitle(
        figure,
        "What more patients and more cells bring",
        f"{count} labelled patients, held out; {repeats} repeats. A regression on the mean of a "
        "patient's embedded cells, a stand-in for the trained classifiers. Band: "
        f"{evaluation.confidence:.0%}, over persons. More cells: of held-out patients only. A "
        f"power law foretells {later:.2f} for pictures + clinical with {_LATER} patients.",
    )
    return figure


@in_style
def plot_differences(scores: pd.DataFrame, evaluation: EvaluationParameters) -> Figure:
    """Draw a forest plot: each method's score, and its difference from age and count.

    Args:
        scores: the evaluation table: method, rule, metric, value, difference, and others.
        evaluation: tells the intervals' level.

    Returns:
        The figure, a row a method, a panel a metric: balanced accuracy (of AVG) and AUC.
    """
    names = list(scores["method"].unique())
    groups = {
        "Age and count": [name for name in names if name.startswith("clinical, ")],
        "Pictures": [name for name in names if name.endswith(", pictures")],
        "Pictures + clinical": [name for name in names if name.endswith("pictures + clinical")],
    }
    known = [name for group in groups.values() for name in group]
    groups["Controls, which should predict nothing"] = [name for name in names if name not in known]
    rows = [(head, name) for head, group in groups.items() for name in ("", *group)]
    figure = Figure(figsize=(11.5, 1.6 + 0.24 * len(rows)))
    panels = figure.subplots(1, 2, sharey=True)
    for axis, metric, title in zip(
        panels, ("balanced_accuracy", "auc"), ("Balanced accuracy (AVG)", "AUC"), strict=True
    ):
        of_metric = scores[(scores["metric"] == metric) & (scores["rule"].fillna("AVG") == "AVG")]
        of_method = of_metric.set_index("method").to_dict(orient="index")
        axis.axvline(0, color=DARK, linewidth=1)
        at_right: dict[str, Any] = {
            "xycoords": axis.get_yaxis_transform(), "textcoords": "offset points", "fontsize": 8,
            "va": "center",
        }  # fmt: skip
        for points, head in ((8, "score"), (46, "difference")):
            axis.annotate(head, (1, -0.9), (points, 0), weight="bold", **at_right)
        for at, (head, name) in enumerate(rows):
            if not name:
                continue
            row = of_method[name]
            axis.annotate(f"{row['value']:.3f}", (1, at), (8, 0), **at_right)
            if name == CLINICAL:
                axis.annotate("reference", (1, at), (46, 0), **at_right)
                continue
            difference, low, high = (row[f"difference{end}"] for end in ("", "_low", "_high"))
            look = _look(low, high, head.startswith("Controls"))
            axis.plot([low, high], [at, at], color=look["color"])
            axis.plot(difference, at, **look)
            text = f"{difference:+.3f} ({low:+.3f} to {high:+.3f})".replace("-", "\N{MINUS SIGN}")
            axis.annotate(text, (1, at), (46, 0), **at_right)
        axis.set(title=title, xlabel="difference from age and count (logistic regression)")
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(rows)), [name or head for head, name in rows])
    for text, (_, name) in zip(panels[0].get_yticklabels(), rows, strict=True):
        text.set_weight("normal" if name else "bold")
    panels[0].set_ylim(len(rows) - 0.4, -1.4)
    figure.legend(
        handles=[Line2D([], [], label=label, **look) for label, look in _MEANINGS.items()],
        loc="outside lower right", ncols=4,
    )  # fmt: skip
    patients, repeats = scores[["patients", "repeats"]].iloc[0]
    entitle(
        figure,
        "What the pictures add to age and count",
        f"{patients} labelled patients, held out; {repeats} repeats. Intervals: "
        f"{evaluation.confidence:.0%}, over persons, paired.",
    )
    return figure


_MEANINGS: dict[str, dict[str, Any]] = {
    "better than age and count": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "not told apart": {"color": DARK, "marker": "o", "mfc": "white", "linestyle": "-"},
    "worse": {"color": ORANGE, "marker": "s", "linestyle": "-"},
    "control": {"color": GREY, "marker": "D", "mfc": "white", "linestyle": "-"},
}


def _look(low: float, high: float, control: bool) -> dict[str, Any]:
    if control:
        return _MEANINGS["control"]
    if low > 0:
        return _MEANINGS["better than age and count"]
    return _MEANINGS["worse" if high < 0 else "not told apart"]
