"""A classifier's outputs for bags, and their scores."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from sklearn.metrics import balanced_accuracy_score, roc_curve
from torch import Tensor

from lymphocytosis.mil.bags import Bags, Indices, pack

Floats = npt.NDArray[np.float64]


class Output(NamedTuple):
    """A classifier's output for b bags.

    Attributes:
        logits: (b,) float; their sigmoid is the probability of equation 14.
        experts: (e, b) float, the logits of the fused parts; e is 0 with concatenation.
    """

    logits: Tensor
    experts: Tensor


@torch.inference_mode()
def predict_bags(
    model: Any, bags: Bags, chosen: Indices, batch_size: int, fabric: Fabric
) -> Floats:
    """Predict bags in eval mode, for scores: batch mates change no more than the last bits.

    Args:
        model: a classifier, on the device of `fabric`.
        bags: every bag, on the same device.
        chosen: (b,) the bags to predict, at least one.
        batch_size: bags in a batch.
        fabric: precision.

    Returns:
        (b,) float64 probabilities of a tumoral lymphocytosis.
    """
    model.eval()
    with fabric.autocast():
        logits = [
            model(pack(bags, chosen[start : start + batch_size])).logits
            for start in range(0, len(chosen), batch_size)
        ]
    return probabilities(torch.cat(logits))


def probabilities(logits: Tensor) -> Floats:
    """Turn logits into probabilities.

    Args:
        logits: of any shape, float, on any device.

    Returns:
        The same shape, float64.
    """
    return torch.sigmoid(logits.cpu().double()).numpy()


def balanced_accuracy(label: Indices, probability: Floats, threshold: str) -> float:
    """Score predictions (scikit-learn's balanced accuracy).

    Args:
        label: (n,) 0 or 1.
        probability: (n,) float64.
        threshold: fixed: positive from 0.5 on; fitted: from the value at which sensitivity and
            specificity are closest, as in the authors' code.

    Returns:
        The mean of sensitivity and specificity.
    """
    at = 0.5
    if threshold == "fitted":
        false_positive, true_positive, cuts = roc_curve(label, probability)
        at = float(cuts[np.argmin(np.abs(true_positive - (1 - false_positive)))])
    return float(balanced_accuracy_score(label, probability >= at))
