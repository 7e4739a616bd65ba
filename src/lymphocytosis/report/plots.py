"""Curves as SVG paths, and as the tables that stand beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphocytosis.decision.curves import (
    FALSE_POSITIVE_RATES,
    RECALLS,
    calibration_bins,
    net_benefit,
    precisions,
    sensitivities,
)

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
# Of a plot's inner square, in SVG's units.
SIDE = 240
_BINS = 5
# A decision curve asks about thresholds that a clinician might choose.
_THRESHOLDS = np.linspace(0.02, 0.9, 89)
_SHOWN = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def draw_plots(
    methods: Mapping[str, Floats], label: Labels, confidence: float
) -> list[dict[str, Any]]:
    """Draw ROC, precision and recall, calibration, and decision curves.

    Args:
        methods: probabilities (r, p) by method, at most four.
        label: (p,) 0 or 1.
        confidence: level of the intervals.

    Returns:
        For each plot: title, text (what it shows), x and y (what the axes show), ticks of both,
        lines (name, style, path, and points or bars), guides (name and path), and a table with a
        header.
    """
    ones = np.ones((1, len(label)))
    share = float(label.mean())
    roc = {n: sensitivities(p, label, ones)[0] for n, p in methods.items()}
    precision = {n: precisions(p, label, ones)[0] for n, p in methods.items()}
    groups = min(_BINS, len(label))
    bins = {n: calibration_bins(p, label, groups, confidence) for n, p in methods.items()}
    benefit = {n: net_benefit(p, label, _THRESHOLDS) for n, p in methods.items()}
    refer_all = net_benefit(np.ones((1, len(label))), label, _THRESHOLDS)
    unit, top = (0.0, 1.0), (-0.1, max(0.1, share * 1.1))
    shown = refer_all >= top[0]  # the curve falls without bound
    return [
        {
            "title": "ROC",
            "text": "How many tumoral patients are found, against how many reactive ones are "
            "referred for it. The higher the curve, the better; the dotted line is chance.",
            "x": "1 - specificity",
            "y": "sensitivity",
            "lines": [
                _line(i, n, FALSE_POSITIVE_RATES, y, unit) for i, (n, y) in enumerate(roc.items())
            ],
            "guides": [{"name": "chance", "path": _path([0, 1], [0, 1], unit)}],
            "ticks": _ticks(unit),
            "header": ["1 - specificity", *roc],
            "table": [
                [f"{x:.1f}", *(f"{np.interp(x, RECALLS, y[1:]):.3f}" for y in roc.values())]
                for x in _SHOWN
            ],
        },
        {
            "title": "Precision and recall",
            "text": "Which share of the referred patients is tumoral, against how many tumoral "
            f"ones are found. The dotted line is the share of tumoral patients here, {share:.2f}.",
            "x": "recall (sensitivity)",
            "y": "precision",
            "lines": [_line(i, n, RECALLS, y, unit) for i, (n, y) in enumerate(precision.items())],
            "guides": [{"name": "refer all", "path": _path([0, 1], [share, share], unit)}],
            "ticks": _ticks(unit),
            "header": ["recall", *precision],
            "table": [
                [f"{x:.1f}", *(f"{np.interp(x, RECALLS, y):.3f}" for y in precision.values())]
                for x in _SHOWN
            ],
        },
        {
            "title": "Calibration",
            "text": "Whether patients with a probability of, say, 70 % are tumoral in 70 % of "
            f"cases: {groups} groups of equal size, with {100 * confidence:g} % intervals. The "
            "dotted line is a perfect match.",
            "x": "predicted probability",
            "y": "observed share of tumoral",
            "lines": [
                _line(i, n, b.predicted, b.observed, unit)
                | {
                    "points": _points(b.predicted, b.observed, unit),
                    "bars": [
                        _path([x, x], [low, high], unit)
                        for x, low, high in zip(b.predicted, b.low, b.high, strict=True)
                    ],
                }
                for i, (n, b) in enumerate(bins.items())
            ],
            "guides": [{"name": "perfect", "path": _path([0, 1], [0, 1], unit)}],
            "ticks": _ticks(unit),
            "header": ["method", "predicted", "observed", "interval", "patients"],
            "table": [
                [n, f"{x:.3f}", f"{y:.3f}", f"{low:.3f} to {high:.3f}", str(size)]
                for n, b in bins.items()
                for x, y, low, high, size in zip(*b, strict=True)
            ],
        },
        {
            "title": "Decision curve",
            "text": "What referring is worth. The threshold is the probability from which you "
            "would just refer: at 0.2, missing one tumoral patient is as bad as four needless "
            "referrals. Net benefit is the share of tumoral patients found, less the needless "
            "referrals at that price. Referring nobody is worth 0.",
            "x": "threshold probability",
            "y": "net benefit",
            "lines": [_line(i, n, _THRESHOLDS, y, top) for i, (n, y) in enumerate(benefit.items())],
            "guides": [
                {"name": "refer all", "path": _path(_THRESHOLDS[shown], refer_all[shown], top)},
                {"name": "refer none", "path": _path([0, 1], [0, 0], top)},
            ],
            "ticks": _ticks(top),
            "header": ["threshold", *benefit, "refer all", "refer none"],
            "table": [
                [
                    f"{t:.1f}",
                    *(
                        f"{np.interp(t, _THRESHOLDS, y):.3f}"
                        for y in (*benefit.values(), refer_all)
                    ),
                    "0.000",
                ]
                for t in _SHOWN
            ],
        },
    ]


def _line(
    number: int, name: str, x: Floats, y: Floats, y_range: tuple[float, float]
) -> dict[str, Any]:
    path = _path(x, y, y_range)
    return {"name": name, "style": number, "path": path, "points": [], "bars": []}


def _place(x: float, y: float, y_range: tuple[float, float]) -> tuple[float, float]:
    low, high = y_range
    # What is below the plot's floor stays on it.
    return SIDE * x, SIDE * (1 - (max(y, low) - low) / (high - low))


def _points(
    xs: Sequence[float] | Floats, ys: Sequence[float] | Floats, y_range: tuple[float, float]
) -> list[tuple[str, str]]:
    places = (_place(float(x), float(y), y_range) for x, y in zip(xs, ys, strict=True))
    return [(f"{x:.1f}", f"{y:.1f}") for x, y in places]


def _path(
    xs: Sequence[float] | Floats, ys: Sequence[float] | Floats, y_range: tuple[float, float]
) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in _points(xs, ys, y_range))


def _ticks(y_range: tuple[float, float]) -> dict[str, list[tuple[str, str]]]:
    low, high = y_range
    step = 0.2 if high - low > 0.5 else 0.1
    levels = [i * step for i in range(-10, 11) if low <= i * step + 1e-9 and i * step <= high]
    return {
        "x": [(f"{SIDE * x:.1f}", f"{x:.1f}") for x in (0, 0.2, 0.4, 0.6, 0.8, 1)],
        "y": [(f"{_place(0, y, y_range)[1]:.1f}", f"{y:.1f}") for y in levels],
    }
