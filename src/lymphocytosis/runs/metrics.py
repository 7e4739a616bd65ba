"""A run's tables as single metrics, as MLflow wants them."""

import re

import pandas as pd

Metric = tuple[str, int, float]  # name, step, value


def metrics_of(entry: str, table: pd.DataFrame) -> list[Metric]:
    """Take the metrics out of a table.

    Args:
        entry: of the catalog: a history, table of results, or evaluation.
        table: its content.

    Returns:
        Name, step and value. Of a history: each epoch, as the mean over splits. Of results:
        balanced accuracy of each method. Of an evaluation: the scores of each method under AVG,
        with their intervals.
    """
    if entry.endswith("_history"):
        columns = [name for name in table if name not in ("epoch", "split", "kept")]
        means = table.groupby("epoch")[columns].mean().melt(ignore_index=False).dropna()
        found = [
            (f"{entry.removesuffix('_history')}/{name}", int(epoch), value)
            for epoch, name, value in means.itertuples()
        ]
    elif "results" in entry:
        columns = ["test_balanced_accuracy", "out_of_fold_balanced_accuracy"]
        scores = table.set_index("method")[columns].melt(ignore_index=False).dropna()
        found = [(f"{entry}/{method}/{name}", 0, v) for method, name, v in scores.itertuples()]
    else:
        rows = table[table["rule"].isna() | (table["rule"] == "AVG")]
        found = [
            (f"{entry}/{row['method']}/{row['metric']}{end}", 0, row[name])
            for row in rows.to_dict("records")
            for name, end in (("value", ""), ("low", "_low"), ("high", "_high"))
        ]
    # MLflow allows no other signs.
    return [
        (re.sub(r"[^\w\-. /]", "", name.replace(" + ", " and ")), step, float(value))
        for name, step, value in found
    ]
