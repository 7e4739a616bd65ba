import numpy as np
import pandas as pd

from lymphocytosis.decision.cells import choose_cells


def test_each_kind_by_hand():
    cells = pd.DataFrame(
        {
            "image_id": list("abcde"),
            "contribution": [0.3, -0.1, np.nan, 0.2, -0.4],
            "distance": [2.0, 1.0, 9.0, 3.0, np.nan],
        }
    )
    chosen = {kind: "".join(rows["image_id"]) for kind, rows in choose_cells(cells, 2).items()}
    assert chosen == {
        "toward_tumoral": "ad", "toward_reactive": "eb", "typical": "ba", "least_typical": "cd",
    }  # fmt: skip


def test_nothing_is_known():
    cells = pd.DataFrame({"contribution": [np.nan], "distance": [np.nan]})
    assert all(rows.empty for rows in choose_cells(cells, 3).values())
