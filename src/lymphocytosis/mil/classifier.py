"""The patient classifier (paper, section 2.2 and figure 5)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.mil.bags import Batch


def mean_of_bags(instances: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Average each bag over its own instances (paper, equation 10): p_i = 1/N_i sum_j h_ij.

    Args:
        instances: (n, W) float.
        bag: (n,) int64, the bag of each instance, from 0.
        n_bags: b, the number of bags; each has at least one instance.

    Returns:
        (b, W) float.
    """
    member = F.one_hot(bag, n_bags).T.to(instances.dtype)  # (b, n)
    # A matrix product sums in a fixed order; a scatter on a GPU would not.
    return (member / member.sum(dim=1, keepdim=True)) @ instances


class SeededDropout(nn.Module):
    """Dropout that draws from its own generator, so that no other node's draws can change it."""

    def __init__(self, p: float, generator: torch.Generator) -> None:
        """Make the layer.

        Args:
            p: share of values set to zero in train mode.
            generator: the source of the draws, on the CPU.
        """
        super().__init__()
        self.p = p
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Drop values and scale the others, in train mode; in eval mode change nothing.

        Args:
            x: any shape, float.

        Returns:
            The same shape.
        """
        if not self.training or self.p == 0:
            return x
        kept = torch.rand(x.shape, generator=self.generator) >= self.p
        return x * kept.to(x.device) / (1 - self.p)


class PatientClassifier(nn.Module):
    """Special embedding, mean over the bag, clinical values, head with two hidden layers."""

    clinical_low: Tensor
    clinical_span: Tensor

    def __init__(
        self,
        in_dim: int,
        embedding_width: int,
        hidden_widths: Sequence[int],
        dropout: float,
        log_count: bool,
        generator: torch.Generator,
    ) -> None:
        """Build the classifier with Xavier weights and zero biases.

        Args:
            in_dim: D, the width of the instances.
            embedding_width: W, the width of f_special_embedding.
            hidden_widths: widths of the head's hidden layers.
            dropout: after each hidden layer.
            log_count: take the logarithm of the lymphocyte count.
            generator: the source of weights and dropout, on the CPU.
        """
        super().__init__()
        self.log_count = log_count
        self.special_embedding = nn.Sequential(
            nn.Linear(in_dim, embedding_width), nn.BatchNorm1d(embedding_width), nn.ReLU()
        )
        widths = [embedding_width + 2, *hidden_widths]
        layers: list[nn.Module] = []
        for taken, given in pairwise(widths):
            layers += [nn.Linear(taken, given), nn.ReLU(), SeededDropout(dropout, generator)]
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        self.register_buffer("clinical_low", torch.zeros(2))
        self.register_buffer("clinical_span", torch.ones(2))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def fit_clinical_scale(self, clinical: Tensor) -> None:
        """Learn the range of the clinical values; it becomes [0, 1].

        Args:
            clinical: (p, 2) float, the training patients' age (years) and count (10^9 per litre).
        """
        values = self._logged(clinical)
        low, high = values.amin(dim=0), values.amax(dim=0)
        # A value that is the same for all patients tells nothing, and must not divide by zero.
        span = torch.where(high > low, high - low, torch.ones_like(low))
        self.clinical_low.copy_(low)
        self.clinical_span.copy_(span)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logit of each bag's probability of a tumoral lymphocytosis.

        Args:
            batch: b bags.

        Returns:
            (b,) float; a sigmoid makes it the probability of equation 14.
        """
        embedded = self.special_embedding(batch.instances)
        pooled = mean_of_bags(embedded, batch.bag, len(batch.clinical))
        clinical = (self._logged(batch.clinical) - self.clinical_low) / self.clinical_span
        logits: Tensor = self.head(torch.cat([pooled, clinical], dim=1))
        return logits.squeeze(1)

    def _logged(self, clinical: Tensor) -> Tensor:
        if not self.log_count:
            return clinical
        return torch.stack([clinical[:, 0], clinical[:, 1].log()], dim=1)
