"""A logistic regression on pooled bags: the classifier with the fewest things to go wrong."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from lymphocytosis.mil.aggregators import AGGREGATORS, Aggregator
from lymphocytosis.mil.bags import Batch
from lymphocytosis.mil.classifier import Output, logged
from lymphocytosis.parameters import MilParameters


class LogisticClassifier(nn.Module):
    """Pool the instances, standardise the clinical values, and add both up with weights.

    With late fusion pictures and clinical values each have a regression of their own, and the logit
    is the mean of theirs.
    """

    pooled_mean: Tensor
    clinical_mean: Tensor
    clinical_scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, mil: MilParameters, in_dim: int) -> None:
        """Build the classifier; `fit` or a state dict gives it its values.

        Args:
            mil: the block `mil` of the parameters.
            in_dim: D, the width of the instances.
        """
        super().__init__()
        self.mil = mil
        self.aggregator: Aggregator = AGGREGATORS[mil.aggregator](in_dim)
        width = self.aggregator.out_width
        self.register_buffer("pooled_mean", torch.zeros(width))
        self.register_buffer("clinical_mean", torch.zeros(2))
        self.register_buffer("clinical_scale", torch.ones(2))
        # One row for each regression: concatenation has one, late fusion two.
        rows = 2 if mil.inputs == "both" and mil.fusion == "late" else 1
        self.register_buffer("weight", torch.zeros(rows, width + 2))
        self.register_buffer("bias", torch.zeros(rows))

    def forward(self, batch: Batch) -> Output:
        """Compute the logit of each bag's probability of a tumoral lymphocytosis.

        Args:
            batch: b bags.

        Returns:
            Logits, the experts' logits (late fusion), the instances' weights.
        """
        features, weights = self._features(batch)
        logits = self.weight @ features.T + self.bias[:, None]
        experts = logits if len(logits) > 1 else logits[:0]
        return Output(logits.mean(dim=0), experts, weights)

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pooled, weights = self.aggregator(batch.instances, batch.bag, len(batch.clinical))
        values = logged(batch.clinical, self.mil.log_count)
        clinical = (values - self.clinical_mean) / self.clinical_scale
        if self.mil.inputs == "pictures":
            clinical = torch.zeros_like(clinical)
        return torch.cat([pooled - self.pooled_mean, clinical], dim=1), weights

    def fit(self, batch: Batch, views: int) -> None:
        """Find the values, by scikit-learn; a patient weighs the same however many views it has.

        Args:
            batch: all training bags.
            views: the number of bags of a patient.
        """
        clinical = logged(batch.clinical, self.mil.log_count)
        self.clinical_mean.copy_(clinical.mean(dim=0))
        # A value that is the same for all patients tells nothing, and must not divide by zero.
        spread = clinical.std(dim=0, correction=0)
        self.clinical_scale.copy_(torch.where(spread > 0, spread, 1.0))
        self.pooled_mean.zero_()
        features, _ = self._features(batch)
        self.pooled_mean.copy_(features[:, :-2].mean(dim=0))
        features[:, :-2] -= self.pooled_mean
        seen = torch.ones_like(self.weight, dtype=torch.bool)
        if len(self.weight) > 1:
            seen[0, -2:] = False
            seen[1, :-2] = False
        for row, columns in enumerate(seen.numpy()):
            regression = LogisticRegression(
                C=self.mil.logistic_c, class_weight="balanced", max_iter=10_000, tol=1e-6
            )
            label = batch.label.numpy()
            share = np.full(len(label), 1 / views)
            regression.fit(features.numpy()[:, columns].astype(np.float64), label, share)
            self.weight[row, torch.from_numpy(columns)] = torch.from_numpy(
                regression.coef_[0].astype(np.float32)
            )
            self.bias[row] = float(regression.intercept_[0])
