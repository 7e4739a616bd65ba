import numpy as np
import pandas as pd
import pytest

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.learning_curves import foretell, measure_learning_curves


@pytest.fixture(scope="module")
def found():
    """Curves of 40 patients whose cells tell the label, each a little; age and count don't."""
    rng = np.random.default_rng(0)
    count = 40
    label = np.arange(count) % 2
    sizes = rng.integers(5, 21, count)
    owner = np.repeat(np.arange(count), sizes)
    cells = rng.normal(size=(len(owner), 3)) + 0.8 * (label[owner, None] - 0.5)
    patients = pd.DataFrame(
        {
            "patient_id": [f"P{n:02}" for n in range(count)],
            "person": [f"P{n:02}" for n in range(count)],
            "label": pd.array(label, "Int8"),
            "age_years": rng.integers(20, 90, count),
            "lymphocyte_count": rng.uniform(4, 90, count),
        }
    )
    folds = pd.concat(
        pd.DataFrame(
            {"repeat": r, "fold": rng.permutation(count) % 4 + 1, "patient_id": patients.patient_id}
        )
        for r in (1, 2)
    )
    table = measure_learning_curves(cells.astype(np.float32), owner, patients, folds, 1, 0.95, 0)
    return sizes, table.set_index(["varied", "number", "method", "metric"])


def test_numbers_are_shares_of_a_folds_training_patients_and_powers_of_two_of_cells(found):
    sizes, table = found
    numbers = {v: table.loc[v].index.unique("number").tolist() for v in ("patients", "cells")}
    assert numbers["cells"] == [1, 2, 4, 8, 16, sizes.max()]
    assert max(numbers["patients"]) == 30  # of 40, three folds in four
    assert len(numbers["patients"]) == 6


def test_all_patients_and_all_cells_are_the_same_point(found):
    sizes, table = found
    whole = table.loc["patients", 30]["value"]
    pd.testing.assert_series_equal(whole, table.loc["cells", sizes.max()]["value"])


def test_more_cells_and_more_patients_help_pictures_and_leave_age_and_count_alone(found):
    sizes, table = found
    areas = table.xs("auc", level="metric")["value"]
    pictures = areas.xs("pictures", level="method")
    assert pictures["cells", 1] < pictures["cells", 4] < pictures["cells", sizes.max()]
    assert pictures["patients"].iloc[0] < pictures["patients"].iloc[-1]
    assert np.ptp(areas.xs(CLINICAL, level="method")["cells"]) == pytest.approx(0)


def test_values_lie_in_their_intervals(found):
    _, table = found
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()


def test_a_power_law_is_continued():
    numbers = np.array([15, 30, 60, 100])
    assert foretell(numbers, 1 - 0.9 * numbers**-0.4, 500) == pytest.approx(1 - 0.9 * 500**-0.4)
    assert foretell(numbers, np.ones(4), 500) == pytest.approx(0.999)
