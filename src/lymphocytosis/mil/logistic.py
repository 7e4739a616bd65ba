"""A logistic regression on pooled bags: the simplest classifier."""

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.mil.aggregators import AGGREGATORS, Aggregator
from lymphocytosis.mil.bags import Bags, Batch, Indices, logged, pack
from lymphocytosis.mil.scores import Output, balanced_accuracy, predict_bags
from lymphocytosis.mil.turns import Job
from lymphocytosis.parameters import MilParameters


class LogisticClassifier(nn.Module):
    """A weighted sum of the pooled instances and the standardised clinical values.

    With late fusion, pictures and clinical values have separate regressions, and the logit is the
    mean of the two.
    """

    pooled_mean: Tensor
    clinical_mean: Tensor
    clinical_scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, mil: MilParameters, in_dim: int) -> None:
        """Build the classifier; `fit` or a state dict sets its weights.

        Args:
            mil: the block `mil` of the parameters.
            in_dim: D, the width of the instances.
        """
        super().__init__()
        self.mil = mil
        self.special_embedding = nn.Identity()
        self.aggregator: Aggregator = AGGREGATORS[mil.aggregator](in_dim)
        self.adds_up = mil.aggregator == "mean"
        width = self.aggregator.out_width
        self.register_buffer("pooled_mean", torch.zeros(width))
        self.register_buffer("clinical_mean", torch.zeros(2))
        self.register_buffer("clinical_scale", torch.ones(2))
        # One row per regression: concatenation has one, late fusion two.
        rows = 2 if mil.inputs == "both" and mil.fusion == "late" else 1
        self.register_buffer("weight", torch.zeros(rows, width + 2))
        self.register_buffer("bias", torch.zeros(rows))

    def forward(self, batch: Batch) -> Output:
        """Compute the logit of each bag's probability of a tumoral lymphocytosis.

        Args:
            batch: b bags.

        Returns:
            Logits, the experts' logits (late fusion).
        """
        return self.classify(self._pool(batch), batch.clinical)

    def classify(self, pooled: Tensor, clinical: Tensor) -> Output:
        """Classify pooled bags.

        Args:
            pooled: (b, out_width) float.
            clinical: (b, 2) float.

        Returns:
            As `forward`.
        """
        logits = self.weight @ self._features(pooled, clinical).T + self.bias[:, None]
        return Output(logits.mean(dim=0), logits if len(logits) > 1 else logits[:0])

    def _pool(self, batch: Batch) -> Tensor:
        pooled: Tensor = self.aggregator(batch.instances, batch.bag, len(batch.clinical))
        return pooled

    def _features(self, pooled: Tensor, clinical: Tensor) -> Tensor:
        values = logged(clinical, self.mil.log_count)
        scaled = (values - self.clinical_mean) / self.clinical_scale
        if self.mil.inputs == "pictures":
            scaled = torch.zeros_like(scaled)
        return torch.cat([pooled - self.pooled_mean, scaled], dim=1)

    def fit_clinical_scale(self, clinical: Tensor) -> None:
        """Learn to scale the clinical values to mean 0 and standard deviation 1.

        Args:
            clinical: (b, 2) float, age (years) and count (10^9 per litre) of the training bags.
        """
        values = logged(clinical, self.mil.log_count)
        self.clinical_mean.copy_(values.mean(dim=0))
        # A constant value must not cause a division by zero.
        spread = values.std(dim=0, correction=0)
        self.clinical_scale.copy_(torch.where(spread > 0, spread, 1.0))

    def fit(
        self, bags: Bags, train: Indices, validation: Indices, fabric: Fabric
    ) -> Job[pd.DataFrame]:
        """Fit the weights by scikit-learn; the validation patients have no influence.

        Each patient has the same weight, however many views it has.

        Args:
            bags: every bag, on the device of `fabric`.
            train: numbers of the training patients.
            validation: numbers of the validation patients.
            fabric: device.

        Yields:
            Never: the fit is a single step.

        Returns:
            A history of one row, with the columns of `NeuralClassifier.fit`.
        """
        self.to(fabric.device)
        learned_from, scored = bags.of_patients(train), bags.of_patients(validation)
        batch = pack(bags, learned_from)
        self.fit_clinical_scale(batch.clinical)
        self.pooled_mean.zero_()
        features = self._features(self._pool(batch), batch.clinical)
        self.pooled_mean.copy_(features[:, :-2].mean(dim=0))
        features[:, :-2] -= self.pooled_mean
        values = features.cpu().numpy().astype(np.float64)
        label = bags.label[bags.patient[learned_from]]
        share = np.full(len(label), 1 / len(set(bags.view)))
        seen = np.ones(self.weight.shape, dtype=bool)
        if len(seen) > 1:
            seen[0, -2:] = False
            seen[1, :-2] = False
        for row, columns in enumerate(seen):
            regression = LogisticRegression(
                C=self.mil.logistic_c, class_weight="balanced", max_iter=10_000, tol=1e-6
            )
            regression.fit(values[:, columns], label, share)
            found = torch.from_numpy(regression.coef_[0].astype(np.float32))
            self.weight[row, torch.from_numpy(columns)] = found.to(self.weight.device)
            self.bias[row] = float(regression.intercept_[0])
        loss = F.binary_cross_entropy_with_logits(self(batch).logits, batch.label)
        scores = {
            f"{part}_balanced_accuracy": balanced_accuracy(
                bags.label[bags.patient[chosen]],
                predict_bags(self, bags, chosen, self.mil.batch_size, fabric),
                self.mil.monitor_threshold,
            )
            for part, chosen in (("train", learned_from), ("validation", scored))
        }
        kept = {"epoch": 1, "loss": float(loss), **scores, "learning_rate": np.nan, "kept": True}
        return pd.DataFrame([kept])
        yield  # what makes this a job
