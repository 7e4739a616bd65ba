import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from lightning_fabric import Fabric

from lymphocytosis.mil.bags import gather_bags
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.parameters import MilParameters
from lymphocytosis.progress import Progress

VIEWS = ["original", "horizontal", "vertical"]


@pytest.fixture(scope="session")
def mil():
    def build(**changes):
        small = {
            "classifier": "neural", "inputs": "both", "components": 0, "aggregator": "mean",
            "fusion": "concatenation", "embedding_width": 8, "hidden_widths": [6, 4],
            "dropout": 0.0, "log_count": False, "epochs": 3, "batch_size": 5,
            "learning_rate": 0.02, "weight_decay": 0.0, "monitor": "validation",
            "monitor_threshold": "fixed", "scheduler": {"factor": 0.5, "patience": 1},
            "logistic_c": 0.3,
        }  # fmt: skip
        return MilParameters(**(small | changes))

    return build


@pytest.fixture(scope="session")
def cohort():
    """Patients of unequal bags and their embeddings; the label shows in cells and count."""

    def build(n=24, dim=5, seed=0, signal=1.0):
        rng = np.random.default_rng(seed)
        label = np.arange(n) % 2
        count = rng.integers(1, 7, n)
        patients = pd.DataFrame(
            {
                "patient_id": [f"P{i:02d}" for i in range(n)],
                "person": [f"P{i:02d}" for i in range(n)],
                "subset": "train",
                "label": pd.array(label, dtype="Int8"),
                "age_years": rng.integers(30, 90, n) + 5 * label,
                "lymphocyte_count": np.exp(rng.normal(2 + 0.3 * label, 0.5)),
                "cell_count": count,
            }
        )
        patient, cell, view = zip(
            *((p, c, v) for p in range(n) for c in range(count[p]) for v in VIEWS), strict=True
        )
        vectors = rng.normal(size=(len(patient), dim)) + signal * label[list(patient), None]
        table = pa.table(
            {
                "patient_id": [f"P{p:02d}" for p in patient],
                "image_id": [f"{c:06d}.jpg" for c in cell],
                "view": list(view),
                "embedding": pa.FixedSizeListArray.from_arrays(
                    vectors.astype(np.float32).ravel(), dim
                ),
            }
        )
        return patients, table

    return build


@pytest.fixture(scope="session")
def suite_of(cohort, mil):
    """A suite of two splits: patients, bags, splits, classifiers, history."""

    def train(**changes):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        parts = {
            1: (np.arange(16), np.arange(16, 24)),
            2: (np.arange(8, 24), np.arange(8)),
        }
        splits = pd.concat(
            pd.DataFrame({"split": s, "patient_id": patients["patient_id"][part], "role": role})
            for s, both in parts.items()
            for role, part in zip(("train", "validation"), both, strict=True)
        )
        fabric = Fabric(accelerator="cpu", devices=1)
        trained = train_suite(bags, patients, splits, mil(**changes), 0, fabric, Progress(None))
        return patients, bags, splits, *trained

    return train
