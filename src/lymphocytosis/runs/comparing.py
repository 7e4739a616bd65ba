"""In what two runs differ, in words and short tables."""

from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd

from lymphocytosis.decision.evidence import compare
from lymphocytosis.parameters import leaves
from lymphocytosis.runs.history import Run
from lymphocytosis.runs.manifest import File, Manifest

_RESULTS = "08_reporting/results.csv"
_NESTED = "07_model_output/nested_predictions.parquet"
# Of the metrics that `compare` returns, those that are shown, with the rule they are taken under.
_SHOWN = {
    ("AVG", "balanced_accuracy"): "balanced accuracy",
    (None, "auc"): "AUC",
    (None, "brier"): "Brier score (lower is better)",
}
_LONGEST = 60


def say_differences(first: Run, second: Run) -> list[str]:
    """Say in what two runs differ: code, packages, parameters, inputs, outputs, results.

    Args:
        first: the one to compare with.
        second: the other.

    Returns:
        Lines of up to 80 characters, except for long names.
    """
    if first.manifest is None or second.manifest is None:
        lines = ["Only results are compared: a run without a manifest does not say more."]
    else:
        lines = _of_manifests(first.manifest, second.manifest)
    return [*lines, *_results(first, second), *_evaluations(first, second)]


def _of_manifests(first: Manifest, second: Manifest) -> list[str]:
    return [
        *_changed("code", first.code, second.code),
        *_changed("packages", first.packages, second.packages),
        *_changed("parameters", leaves(first.parameters), leaves(second.parameters)),
        # What one loaded the other may have made.
        *_files(
            "inputs",
            {**_also(first.outputs, second.inputs), **first.inputs},
            {**_also(second.outputs, first.inputs), **second.inputs},
        ),
        *_files("outputs", first.outputs, second.outputs),
    ]


def _also(made: dict[str, File], loaded: dict[str, File]) -> dict[str, File]:
    return {name: file for name, file in made.items() if name in loaded}


def _changed(title: str, first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    names = [name for name in first | second if first.get(name) != second.get(name)]
    if not names:
        return [f"{title}: the same"]
    lines = [f"{title}:"]
    for name in names:
        old, new = (_short(values.get(name, "-")) for values in (first, second))
        lines.append(f"  {name}: {old} -> {new}")
    return lines


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"


def _files(title: str, first: dict[str, File], second: dict[str, File]) -> list[str]:
    both = first.keys() & second.keys()
    differ = sorted(name for name in both if first[name].sha256 != second[name].sha256)
    lines = [f"{title}: {len(both)} in both, of which {len(differ)} differ"]
    for what, names in (
        ("differ", differ),
        ("only in A", sorted(first.keys() - both)),
        ("only in B", sorted(second.keys() - both)),
    ):
        if names:
            lines += wrap(
                f"{what}: {', '.join(names)}",
                width=80,
                initial_indent="  ",
                subsequent_indent="    ",
                break_long_words=False,
            )
    return lines


def _results(first: Run, second: Run) -> list[str]:
    tables = []
    for run in (first, second):
        if _RESULTS not in run.folders:
            return []
        table = pd.read_csv(run.folders[_RESULTS] / Path(_RESULTS).name).set_index("method")
        tables.append(table)
    lines = ["", "results: balanced accuracy      test: A       B    out of fold: A       B"]
    for method in [method for method in tables[0].index if method in tables[1].index]:
        shown = [
            "-" if pd.isna(value := table[f"{on}_balanced_accuracy"][method]) else f"{value:.3f}"
            for on in ("test", "out_of_fold")
            for table in tables
        ]
        lines.append(f"  {method:30}{shown[0]:>7}{shown[1]:>8}{shown[2]:>18}{shown[3]:>8}")
    return lines


def _evaluations(first: Run, second: Run) -> list[str]:
    if _NESTED not in first.folders or _NESTED not in second.folders:
        return []
    old, new = (
        pd.read_parquet(run.folders[_NESTED] / Path(_NESTED).name) for run in (first, second)
    )
    block = {} if first.manifest is None else first.manifest.parameters["evaluation"]
    confidence = block.get("confidence", 0.95)
    table = compare(old, new, block.get("resamples", 2000), confidence, block.get("seed", 0))
    if table is None:
        return ["", "evaluations: not on the same folds of the same patients; nothing is paired"]
    patients, repeats = table[["patients", "repeats"]].iloc[0]
    lines = [
        "",
        f"evaluations, on the same folds: {patients} patients, {repeats} repeat(s)",
        f"  {'A':>33}{'B':>8}   B less A, {confidence:.0%} interval",
    ]
    for method, rows in table.groupby("method", sort=False):
        lines.append(f"  {method}")
        for row in rows.to_dict("records"):
            # pandas may give None as nan
            key = (row["rule"] if isinstance(row["rule"], str) else None, row["metric"])
            if key in _SHOWN:
                low, high = row["difference_low"], row["difference_high"]
                lines.append(
                    f"    {_SHOWN[key]:24}{row['first']:>7.3f}{row['second']:>8.3f}   "
                    f"{row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
                )
    return lines
