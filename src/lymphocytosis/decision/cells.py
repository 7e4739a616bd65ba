"""Which of a patient's cells a reader should look at."""

import pandas as pd


def choose_cells(cells: pd.DataFrame, most: int) -> dict[str, pd.DataFrame]:
    """Choose the cells that moved the decision most, the most typical, and the least.

    Args:
        cells: of one patient: contribution to the logit, distance from the mean of the patient's
            embeddings, and others. Rows without a contribution are not chosen for theirs, nor
            those without a distance.
        most: how many of each kind.

    Returns:
        Rows of the table: toward_tumoral, contributions above 0, greatest first; toward_reactive,
        below 0, lowest first; typical, the nearest to the mean; least_typical, the furthest.
    """
    moving = cells[cells["contribution"].notna()].sort_values("contribution", kind="stable")
    near = cells[cells["distance"].notna()].sort_values(["distance", "contribution"], kind="stable")
    return {
        "toward_tumoral": moving[moving["contribution"] > 0][::-1][:most],
        "toward_reactive": moving[moving["contribution"] < 0][:most],
        "typical": near[:most],
        "least_typical": near[::-1][:most],
    }
