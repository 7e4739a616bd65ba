"""The results table, the paper's Table 1: a row a method."""

import pandas as pd

FLATTERS = (
    "each labelled patient scored only by models that did not train on it; "
    "their checkpoints were chosen on these very patients, so these figures flatter"
)


def score(decisions: pd.DataFrame, label: "pd.Series[int]") -> tuple[float | None, int]:
    """Score decisions wherever labels are known (scikit-learn's balanced accuracy).

    Args:
        decisions: patient_id, decision.
        label: the known labels, 0 or 1, by patient_id.

    Returns:
        Balanced accuracy, None unless both classes are there; and the number of patients scored.
    """
    from sklearn.metrics import balanced_accuracy_score  # 2 s: not at every start of Kedro

    known = decisions[decisions["patient_id"].isin(label.index)]
    truth = label.loc[known["patient_id"]].astype(int)
    if truth.nunique() < 2:
        return None, len(known)
    return float(balanced_accuracy_score(truth, known["decision"])), len(known)


def tabulate(
    patients: pd.DataFrame,
    test: dict[str, pd.DataFrame],
    out_of_fold: dict[str, pd.DataFrame],
) -> pd.DataFrame:
    """Make the results table.

    Args:
        patients: patient_id, subset, label, and others.
        test: each method's decisions for the test patients.
        out_of_fold: each method's decisions for labelled patients, from models that did not train
            on them.

    Returns:
        A row a method: method; test_balanced_accuracy (null without labels), test_patients and
        test_labelled (how many of them have a label); out_of_fold_balanced_accuracy and
        out_of_fold_patients; note.
    """
    label = patients.set_index("patient_id")["label"].dropna()
    rows = []
    for method, decisions in test.items():
        test_score, test_labelled = score(decisions, label)
        fold_score, fold_patients = score(out_of_fold[method], label)
        rows.append(
            {
                "method": method,
                "test_balanced_accuracy": test_score,
                "test_patients": len(decisions),
                "test_labelled": test_labelled,
                "out_of_fold_balanced_accuracy": fold_score,
                "out_of_fold_patients": fold_patients,
                "note": _note(test_score, test_labelled),
            }
        )
    return pd.DataFrame(rows).astype(
        {"test_balanced_accuracy": "float64", "out_of_fold_balanced_accuracy": "float64"}
    )


def describe(results: pd.DataFrame) -> str:
    """Put the results table into words and short lines, to be read in a terminal.

    Args:
        results: as `tabulate` returns them.

    Returns:
        Several lines of text.
    """
    lines = [f"{'balanced accuracy':24}{'test':>9}{'out of fold':>14}"]
    for row in results.to_dict(orient="records"):
        test, fold = (
            "-" if pd.isna(row[name]) else f"{row[name]:.3f}"
            for name in ("test_balanced_accuracy", "out_of_fold_balanced_accuracy")
        )
        lines.append(f"{row['method']:24}{test:>9}{fold:>14}")
    first = results.iloc[0]
    lines.append(
        f"test: {first['test_patients']} patients, {first['test_labelled']} with a known label; "
        f"out of fold: {first['out_of_fold_patients']} patients"
    )
    lines.append(f"note: {first['note']}")
    return "\n".join(lines)


def _note(test_score: float | None, test_labelled: int) -> str:
    if test_score is None and test_labelled:
        return f"test labels are of one class only; out of fold: {FLATTERS}"
    if test_score is None:
        return f"test patients have no labels; out of fold: {FLATTERS}"
    return f"out of fold: {FLATTERS}"
