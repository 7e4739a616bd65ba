"""Patient classifiers: two kinds, built, fitted and asked in the same way.

Each is a torch module from a batch of bags to what it says of them. Besides, it has
`fit_clinical_scale` and `fit`, a job that leaves it with the weights to keep.
"""

import torch

from lymphocytosis.mil.logistic import LogisticClassifier
from lymphocytosis.mil.neural import NeuralClassifier
from lymphocytosis.parameters import MilParameters

Classifier = NeuralClassifier | LogisticClassifier


def build_classifier(
    mil: MilParameters, in_dim: int, seed: int, device: torch.device | None = None
) -> Classifier:
    """Build a classifier; the same seed gives the same weights and the same dropout.

    Args:
        mil: the block `mil` of the parameters.
        in_dim: width of the instances.
        seed: of all that is drawn; a logistic regression draws nothing.
        device: where it will be fitted; by default the CPU.

    Returns:
        The classifier, on the CPU.
    """
    if mil.classifier == "logistic":
        return LogisticClassifier(mil, in_dim)
    return NeuralClassifier(mil, in_dim, seed, device or torch.device("cpu"))
