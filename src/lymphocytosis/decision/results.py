"""The results table, the paper's Table 1: one row per method."""

import numpy as np
import numpy.typing as npt
import pandas as pd

CLASSES = ("reactive", "tumoral")  # by label
SCORED = {"test": "test patients", "out_of_fold": "out of fold"}
APART = "out of fold: each labelled patient scored only by models that did not train on it"
OPTIMISTIC = "the checkpoints were chosen on the same patients, so these figures are too optimistic"


def score(decisions: pd.DataFrame, label: "pd.Series[int]") -> dict[str, float | int | None]:
    """Score the decisions whose labels are known.

    Args:
        decisions: patient_id, decision.
        label: the known labels, 0 or 1, by patient_id.

    Returns:
        balanced_accuracy; low and high, its 95 % interval; all None unless both classes occur.
        reactive and tumoral: the number of patients scored.
    """
    known = decisions[decisions["patient_id"].isin(label.index)]
    truth = label.loc[known["patient_id"]].to_numpy(dtype=int)
    right = truth == known["decision"].to_numpy(dtype=int)
    of_class = [right[truth == value] for value in (0, 1)]
    accuracy = low = high = None
    if all(map(len, of_class)):
        accuracy = sum(r.mean() for r in of_class) / 2
        low, high = interval(*of_class)
    return {
        "balanced_accuracy": accuracy,
        "low": low,
        "high": high,
        **{name: len(r) for name, r in zip(CLASSES, of_class, strict=True)},
    }


def exact_interval(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Compute the exact (Clopper-Pearson) interval of a share.

    Args:
        successes: of n.
        n: how many there are.
        confidence: level of the interval.

    Returns:
        The interval's ends; nan where there is nobody.
    """
    from scipy.stats import binomtest

    if not n:
        return float("nan"), float("nan")
    exact = binomtest(successes, n).proportion_ci(confidence)
    return float(exact.low), float(exact.high)


def interval(*right: npt.NDArray[np.bool_], confidence: float = 0.95) -> tuple[float, float]:
    """Compute the interval of a balanced accuracy, also for few patients.

    Each class has an exact (Clopper-Pearson) interval; the square-and-add rule combines the two,
    which are independent. A bootstrap would make two correct decisions of two certain, and Wilson's
    interval covers the truth too rarely near 1.

    Args:
        right: for each class, whether each patient's decision was correct.
        confidence: level of the interval.

    Returns:
        The interval's ends.

    Source:
        Newcombe 1998, Statistics in Medicine 17(8):873, method 10 (the rule, for a difference).
    """
    below = above = 0.0
    for of_class in right:
        share = of_class.mean()
        low, high = exact_interval(int(of_class.sum()), len(of_class), confidence)
        below += (share - low) ** 2
        above += (high - share) ** 2
    middle = sum(of_class.mean() for of_class in right)
    return (middle - below**0.5) / 2, (middle + above**0.5) / 2


def tabulate(
    patients: pd.DataFrame,
    test: dict[str, pd.DataFrame],
    out_of_fold: dict[str, pd.DataFrame],
    chosen: bool,
) -> pd.DataFrame:
    """Make the results table.

    Args:
        patients: patient_id, subset, label, and others.
        test: each method's decisions for the test patients.
        out_of_fold: each method's decisions for labelled patients, from models that did not train
            on them.
        chosen: whether the models' checkpoints were chosen on the out-of-fold patients.

    Returns:
        One row per method: method; test_patients; for labelled test patients and for out_of_fold
        ones, _balanced_accuracy, _low, _high (null without both classes), _reactive and _tumoral
        (the number scored); note.
    """
    label = patients.set_index("patient_id")["label"].dropna()
    rows = []
    for method, decisions in test.items():
        scores = {"test": score(decisions, label), "out_of_fold": score(out_of_fold[method], label)}
        rows.append(
            {
                "method": method,
                "test_patients": len(decisions),
                **{f"{on}_{name}": v for on, of in scores.items() for name, v in of.items()},
                "note": _note(scores["test"], chosen),
            }
        )
    figures = [f"{on}_{name}" for on in SCORED for name in ("balanced_accuracy", "low", "high")]
    return pd.DataFrame(rows).astype(dict.fromkeys(figures, "float64"))


def describe(results: pd.DataFrame) -> str:
    """Describe the results table in short lines, for a terminal.

    Args:
        results: as `tabulate` returns them.

    Returns:
        Lines of up to 50 characters, except for the note.
    """
    rows = results.to_dict(orient="records")
    lines = ["balanced accuracy, with its 95 % interval"]
    for on, name in SCORED.items():
        counts = {value: rows[0][f"{on}_{value}"] for value in CLASSES}
        if not any(counts.values()):
            lines.append(f"{name}: no label is known")
            continue
        lines.append(f"{name}: {', '.join(f'{n} {value}' for value, n in counts.items())}")
        for row in rows:
            value, low, high = (row[f"{on}_{k}"] for k in ("balanced_accuracy", "low", "high"))
            shown = "-" if pd.isna(value) else f"{value:.3f} ({low:.3f} to {high:.3f})"
            lines.append(f"  {row['method']:27}{shown}")
    lines.append(f"note: {rows[0]['note']}")
    return "\n".join(lines)


def _note(test: dict[str, float | int | None], chosen: bool) -> str:
    out_of_fold = f"{APART}; {OPTIMISTIC}" if chosen else APART
    if test["balanced_accuracy"] is not None:
        return out_of_fold
    if test["reactive"] or test["tumoral"]:
        return f"test labels are of one class only; {out_of_fold}"
    return f"test patients have no labels; {out_of_fold}"
