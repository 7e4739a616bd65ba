import numpy as np
import pandas as pd
import pytest
import torch

from lymphocytosis.end_to_end.bags import gather_pictures
from lymphocytosis.parameters import BagImagesParameters, EncoderParameters, MilParameters
from tests.conftest import POOLED

SIZE = 40
ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8, **POOLED)


@pytest.fixture(scope="session")
def encoder():
    return ENCODER


@pytest.fixture(scope="session")
def mil():
    def build(**changes):
        small = {
            "classifier": "neural", "inputs": "both", "components": 0, "aggregator": "mean",
            "fusion": "concatenation", "weight_decay": 0.0, "logistic_c": 0.3,
            "embedding_width": 8, "hidden_widths": [6, 4], "dropout": 0.0,
            "log_count": False, "epochs": 3, "batch_size": 5, "learning_rate": 0.02,
            "monitor": "validation", "monitor_threshold": "fixed",
            "scheduler": {"factor": 0.5, "patience": 1},
        }  # fmt: skip
        return MilParameters(**(small | changes))

    return build


@pytest.fixture(scope="session")
def bag_images():
    def build(**changes):
        small = {
            "chunk": 8, "batch_bags": 6, "epochs": 2, "learning_rate": 0.01,
            "encoder_learning_rate": 0.001, "weight_decay": 0.01,
        }  # fmt: skip
        return BagImagesParameters(**(small | changes))

    return build


@pytest.fixture(scope="session")
def cohort(store_of, image_parameters):
    """Patients whose label shows in their cells' colour: patients, cells, the image store."""

    def build(n=16, seed=0):
        rng = np.random.default_rng(seed)
        label = np.arange(n) % 2
        count = rng.integers(1, 4, n)
        patients = pd.DataFrame(
            {
                "patient_id": [f"P{i:02d}" for i in range(n)],
                "subset": "train",
                "label": pd.array(label, dtype="Int8"),
                "age_years": rng.integers(30, 90, n),
                "lymphocyte_count": np.exp(rng.normal(2, 0.5, n)),
                "cell_count": count,
            }
        )
        # Rows of the store in no order of patients: nothing may rely on it.
        owner = rng.permutation(np.repeat(np.arange(n), count))
        cells = pd.DataFrame(
            {
                "patient_id": patients["patient_id"].to_numpy()[owner],
                "image_id": [f"{k:03d}.png" for k in range(len(owner))],
                "row": pd.array(np.arange(len(owner)), dtype="Int64"),
            }
        )
        left_out = {"patient_id": "P00", "image_id": "999.png", "row": pd.NA}
        cells.loc[len(owner)] = left_out
        pixels = np.empty((len(owner), SIZE, SIZE, 3), np.uint8)
        pixels[:] = rng.integers(60, 120, pixels.shape)
        pixels[label[owner] == 1, :, :, 0] += 120
        return patients, cells, store_of(pixels, cells, image_parameters())

    return build


@pytest.fixture(scope="session")
def bags_of(cohort):
    def build(**changes):
        patients, cells, images = cohort(**changes)
        return patients, gather_pictures(images, cells, patients)

    return build


@pytest.fixture
def undisturbed():
    """Fails a test that draws from torch's global generator."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)
