"""Patient classifiers: two kinds with one interface.

Each is a torch module that maps a batch of bags to an `Output`, by `special_embedding` of the
instances, `aggregator`, and `classify`, which takes pooled bags. `adds_up` says whether a bag's
logit is the mean of the logits of its instances, each as a bag of its own. It also has
`fit_clinical_scale` and `fit`, a job that trains it and leaves it with the weights to keep.
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
        seed: of all random draws; a logistic regression has none.
        device: where it will be fitted; by default the CPU.

    Returns:
        The classifier, on the CPU.
    """
    if mil.classifier == "logistic":
        return LogisticClassifier(mil, in_dim)
    return NeuralClassifier(mil, in_dim, seed, device or torch.device("cpu"))
