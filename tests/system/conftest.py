"""Systems trained on a few patients, on two sizes of embeddings."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric

from lymphocytosis.encoders.autoencoder import AutoEncoder
from lymphocytosis.encoders.checkpoint import fingerprint, pack
from lymphocytosis.mil.bags import gather_bags
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.parameters import EncoderParameters, EnsembleParameters
from lymphocytosis.progress import Progress
from lymphocytosis.system.trained import gather_for, load_system
from tests.conftest import POOLED
from tests.mil.conftest import cohort, mil  # noqa: F401

FABRIC = Fabric(accelerator="cpu", devices=1)
ENSEMBLE = EnsembleParameters(
    sa_variant="corrected", size="large", wanted_sensitivity=0.95, error_rate=0.1
)


@pytest.fixture(scope="session")
def autoencoder(pretext_parameters, image_parameters):
    """A function that packs an encoder; nothing here builds it."""

    def build(seed=0):
        encoder = EncoderParameters(
            name="test_efficientnet",
            weights="random",
            small_dim=3,
            **POOLED,
        )
        state = {"weight": torch.full((2,), float(seed))}
        return pack(AutoEncoder, state, encoder, image_parameters(), pretext_parameters(), seed)

    return build


@pytest.fixture(scope="session")
def train(autoencoder, cohort, mil):  # noqa: F811
    """A function that trains a system; six of its 24 patients are test patients, without label."""

    def run(**changes):
        patients, large = cohort()
        _, small = cohort(dim=3)
        patients.loc[18:, "subset"] = "test"
        patients.loc[18:, "label"] = pd.NA
        made_by = {"autoencoder": fingerprint(autoencoder())}
        embeddings = {
            size: table.replace_schema_metadata(made_by)
            for size, table in (("large", large), ("small", small))
        }
        ids = patients["patient_id"].to_numpy()
        parts = {1: (np.arange(12), np.arange(12, 18)), 2: (np.arange(6, 18), np.arange(6))}
        splits = pd.concat(
            pd.DataFrame({"split": split, "patient_id": ids[part], "role": role})
            for split, both in parts.items()
            for role, part in zip(("train", "validation"), both, strict=True)
        )
        classifiers = {
            size: train_suite(
                gather_bags(table, patients), patients, splits, mil(epochs=1, **changes), 0,
                FABRIC, Progress(None),
            )[0]
            for size, table in embeddings.items()
        }  # fmt: skip
        return SimpleNamespace(
            patients=patients, embeddings=embeddings, splits=splits, classifiers=classifiers
        )

    return run


@pytest.fixture(scope="session")
def trained(train, autoencoder):
    """What a system was trained on, and itself; its bags of the large size beside it."""
    world = train(components=2, aggregator="attention")
    world.system = load_system(autoencoder(), world.classifiers, ENSEMBLE)
    world.suite = world.system.suites["large"]
    world.bags = gather_for(world.system, "large", world.embeddings["large"], world.patients)
    return world
