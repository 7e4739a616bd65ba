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
    """A classifier's output for b bags with n instances.

    Attributes:
        logits: (b,) float; their sigmoid is the probability of equation 14.
        experts: (e, b) float, the logits of the fused parts; e is 0 with concatenation.
        weights: (n,) float, each instance's weight in its bag.
    """

    logits: Tensor
    experts: Tensor
    weights: Tensor


@torch.inference_mode()
def predict_bags(
    model: Any, bags: Bags, chosen: Indices, batch_size: int, fabric: Fabric
) -> tuple[Floats, Floats]:
    """Predict bags in eval mode; a prediction does not depend on the other bags of its batch.

    Args:
        model: a classifier, on the device of `fabric`.
        bags: every bag, on the same device.
        chosen: (b,) the bags to predict.
        batch_size: bags in a batch.
        fabric: precision.

    Returns:
        (b,) float64 probabilities of a tumoral lymphocytosis; and (n,) float64 weights of the bags'
        n instances, bag by bag.
    """
    model.eval()
    with fabric.autocast():
        outputs = [
            model(pack(bags, chosen[start : start + batch_size]))
            for start in range(0, len(chosen), batch_size)
        ]
    return probabilities_and_weights(outputs)


def probabilities_and_weights(outputs: list[Output]) -> tuple[Floats, Floats]:
    """Turn a classifier's outputs into arrays.

    Args:
        outputs: of batches, in order; may be empty.

    Returns:
        (b,) probabilities of all bags and (n,) weights of all instances, float64.
    """
    if not outputs:
        return np.empty(0), np.empty(0)
    logits, weights = (
        torch.cat([part.float() for part in parts]).cpu().double()
        for parts in ((o.logits for o in outputs), (o.weights for o in outputs))
    )
    return torch.sigmoid(logits).numpy(), weights.numpy()


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
