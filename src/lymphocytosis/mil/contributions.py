"""How much each instance adds to the logit of its bag, or takes from it."""

import torch
from torch import Tensor

from lymphocytosis.mil.bags import Batch
from lymphocytosis.mil.classifiers import Classifier

# Instances in a batch of bags that each lack one: 4 MB at the paper's width.
_ROWS = 1024


@torch.inference_mode()
def contributions(classifier: Classifier, batch: Batch) -> Tensor:
    """Compute each instance's signed contribution to the logit of its bag.

    Where a bag's logit is the mean of its instances' own logits (`adds_up`), a contribution is an
    instance's own logit divided by the size of the bag; these add up to the bag's logit. For other
    classifiers it is the bag's logit minus that of the bag without the instance, and for the only
    instance of a bag, the bag's logit.

    Args:
        classifier: in eval mode.
        batch: b bags of n instances in all, on the classifier's device. Under autocast the small
            differences would be lost.

    Returns:
        (n,) float32; positive if the instance raises the probability of a tumoral lymphocytosis.
    """
    embedded = classifier.special_embedding(batch.instances)
    bag = batch.bag
    if classifier.adds_up:
        # The mean of a bag of one instance is this instance.
        own = classifier.classify(embedded, batch.clinical[bag]).logits
        return own / torch.tensor(batch.size, device=own.device)[bag]
    pooled = classifier.aggregator(embedded, bag, len(batch.size))
    whole = classifier.classify(pooled, batch.clinical).logits
    parts = [
        logit - _leave_each_out(classifier, instances, clinical)
        if len(instances) > 1
        else logit[None]
        for logit, instances, clinical in zip(
            whole, embedded.split(batch.size), batch.clinical, strict=True
        )
    ]
    return torch.cat(parts)


def _leave_each_out(classifier: Classifier, instances: Tensor, clinical: Tensor) -> Tensor:
    """Logits (n,) of a bag of embedded instances (n, W) without the first, the second, ..."""
    n, device = len(instances), instances.device
    others = torch.arange(n - 1, device=device)
    logits = []
    for left_out in torch.arange(n, device=device).split(max(1, _ROWS // n)):
        kept = others + (others >= left_out[:, None])  # (b, n - 1)
        bag = torch.arange(len(left_out), device=device).repeat_interleave(n - 1)
        pooled = classifier.aggregator(instances[kept.flatten()], bag, len(left_out))
        logits.append(classifier.classify(pooled, clinical.expand(len(left_out), 2)).logits)
    return torch.cat(logits)
