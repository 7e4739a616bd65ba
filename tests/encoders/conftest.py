"""The pretext block at small sizes, for every test that trains or rebuilds a model."""

import pytest

from lymphocytosis.parameters import PretextParameters


@pytest.fixture(scope="session")
def pretext_parameters():
    """A function that returns the block `pretext`: the paper's task, small, with changes."""

    def build(**changes):
        small = {
            "name": "autoencoder", "images": "all", "epochs": 2, "batch_size": 4,
            "learning_rate": 0.002, "reduction": "mean", "upright_weight": 1.0, "keep": "last",
            "early_epoch": 1,
            "jitter": {
                "shift": 0.05, "scale": 0.1, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2,
                "stain": 0.1, "blur": 1.0,
            },
            "simclr": {"temperature": 0.1, "hidden_width": 16, "output_width": 8},
            "vicreg": {
                "invariance": 25.0, "variance": 25.0, "covariance": 1.0, "hidden_width": 16,
                "output_width": 16,
            },
            "igpt": {"side": 8, "colours": 16, "layers": 4, "width": 16, "heads": 2},
        }  # fmt: skip
        return PretextParameters(**(small | changes))

    return build
