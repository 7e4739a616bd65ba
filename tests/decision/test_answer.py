import pandas as pd
import pytest

from lymphocytosis.decision.answer import answer


@pytest.fixture
def told():
    """The answers on P1, P2 and P3, by their IDs."""
    statistics = pd.DataFrame(
        {
            "patient_id": ["P1", "P2", "P3"], "mean": [0.7, 0.2, 0.5], "std": [0.1, 0.0, 0.3],
            "max": [0.9, 0.2, 0.9], "min": [0.5, 0.2, 0.1],
        }
    )  # fmt: skip
    others = {
        "small AVG": pd.DataFrame({"patient_id": ["P1", "P2", "P3"], "decision": [1, 0, 0]}),
        "large SA": pd.DataFrame({"patient_id": ["P3", "P2", "P1"], "decision": [0, 1, 1]}),
    }
    patients = pd.DataFrame(
        {
            "patient_id": ["P0", "P1", "P2", "P3"], "person": ["P0", "P1", "P0", "P3"],
            "cell_count": [9, 1, 2, 3],
        }
    )  # fmt: skip
    cells = pd.DataFrame(
        {
            "patient_id": ["P0", "P1", "P1", "P1", "P2", "P2", "P3", "P3", "P3"],
            "status": [
                "left_out", "converted", "left_out", "left_out", "taken", "taken", "taken", "taken",
                "taken",
            ],
        }
    )  # fmt: skip
    return answer(statistics, others, patients, cells).set_index("ID")


def test_decision_probability_spread_and_cells(told):
    expected = {
        "decision": ["tumoral", "reactive", "tumoral"], "probability": [0.7, 0.2, 0.5],
        "spread": [0.1, 0.0, 0.3], "cells": [1, 2, 3],
    }  # fmt: skip
    for column, values in expected.items():
        assert told[column].to_dict() == dict(zip(["P1", "P2", "P3"], values, strict=True))


def test_warnings_name_other_decisions_pictures_and_persons(told):
    assert told["warnings"].to_dict() == {
        "P1": "2 of 3 pictures left out; 1 of 3 pictures converted",
        "P2": "large SA: tumoral; may be the same person as P0",
        "P3": "small AVG, large SA: reactive",
    }
