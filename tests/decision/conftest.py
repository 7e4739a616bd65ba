"""Made-up predictions and their evaluation."""

import numpy as np
import pandas as pd
import pytest

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import measure


def nested_predictions(signals, n=40, repeats=3, seed=0):
    """Made-up predictions: the higher a method's signal, the better it is."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    tables = []
    for method, signal in signals.items():
        for repeat in range(1, repeats + 1):
            logit = signal * (2 * label - 1) + rng.normal(size=n)
            probability = 1 / (1 + np.exp(-logit))
            ensemble = "," in method and method != CLINICAL
            tables.append(
                pd.DataFrame(
                    {
                        "method": method, "repeat": repeat, "fold": np.arange(n) % 5 + 1,
                        "patient_id": [f"P{i:02d}" for i in range(n)],
                        "person": [f"P{i - i % 2 * (i < 4):02d}" for i in range(n)],
                        "label": label, "probability": probability, "threshold": 0.3,
                        "decision": probability >= 0.5, "referral": probability >= 0.3,
                        "sa_corrected": (probability >= 0.6) if ensemble else None,
                        "sa_as_printed": (probability >= 0.4) if ensemble else None,
                    }
                )
            )  # fmt: skip
    types = dict.fromkeys(["label", "decision", "referral"], "int8")
    table = pd.concat(tables, ignore_index=True)
    return table.astype(types | dict.fromkeys(["sa_corrected", "sa_as_printed"], "Int8"))


@pytest.fixture(scope="session")
def nested():
    """A function that makes up predictions; see `nested_predictions`."""
    return nested_predictions


@pytest.fixture(scope="session")
def predictions():
    signals = {
        CLINICAL: 0.8, "bag size": 0.0, "large, pictures + clinical": 2.0,
        "large, shuffled labels": 0.0,
    }  # fmt: skip
    return nested_predictions(signals)


@pytest.fixture(scope="session")
def table(predictions):
    return measure(predictions, resamples=300, confidence=0.9, seed=1)
