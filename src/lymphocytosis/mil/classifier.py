"""The patient classifier (paper, section 2.2 and figure 5)."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.mil.aggregators import AGGREGATORS, Aggregator, Mean, equal_weights
from lymphocytosis.mil.bags import Batch
from lymphocytosis.mil.embedded_mean import embedded_mean
from lymphocytosis.parameters import MilParameters

_CPU = torch.device("cpu")


class Output(NamedTuple):
    """What a classifier says of b bags with n instances.

    Attributes:
        logits: (b,) float; a sigmoid makes them the probability of equation 14.
        experts: (e, b) float, the logits of the parts that were fused; none with concatenation.
        weights: (n,) float, each instance's share in its bag.
    """

    logits: Tensor
    experts: Tensor
    weights: Tensor


class SeededDropout(nn.Module):
    """Dropout that draws from its own generator, so that no other node's draws can change it."""

    def __init__(self, p: float, generator: torch.Generator) -> None:
        """Make the layer.

        Args:
            p: share of values set to zero in train mode.
            generator: the source of the draws; best on the device of the values.
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
        source = self.generator.device
        kept = torch.rand(x.shape, generator=self.generator, device=source) >= self.p
        return x * kept.to(x.device) / (1 - self.p)


class PatientClassifier(nn.Module):
    """Special embedding, aggregator, clinical values, head (paper, figure 5: mean, concatenation).

    Fusions of pictures and clinical values:

    - concatenation: the head takes the pooled bag beside the clinical values (paper, equation 11).
    - late: the head takes the pooled bag, a linear layer the clinical values; their logits add up.
    - mixture: the same two experts, and a gate that sees both inputs: p = g p_1 + (1 - g) p_2
      (Sahasrabudhe et al. 2021).
    """

    clinical_low: Tensor
    clinical_span: Tensor

    def __init__(
        self,
        mil: MilParameters,
        in_dim: int,
        generator: torch.Generator,
        device: torch.device = _CPU,
    ) -> None:
        """Build the classifier with Xavier weights and zero biases.

        Args:
            mil: the block `mil` of the parameters.
            in_dim: D, the width of the instances.
            generator: the source of weights and dropout, on the CPU.
            device: where the classifier will be trained. On a GPU dropout draws there, by the same
                seed, so that no step waits for numbers from the CPU.
        """
        super().__init__()
        self.log_count = mil.log_count
        drawn_from = generator
        if device.type != "cpu":
            drawn_from = torch.Generator(device).manual_seed(generator.initial_seed())
        self.fusion = mil.fusion if mil.inputs == "both" else None
        self.special_embedding = nn.Sequential(
            nn.Linear(in_dim, mil.embedding_width),
            nn.BatchNorm1d(mil.embedding_width),
            nn.ReLU(inplace=True),
        )
        self.aggregator: Aggregator = AGGREGATORS[mil.aggregator](mil.embedding_width)
        pooled_width = self.aggregator.out_width
        widths = [pooled_width + 2 * (self.fusion == "concatenation"), *mil.hidden_widths]
        layers: list[nn.Module] = []
        for taken, given in pairwise(widths):
            layers += [nn.Linear(taken, given), nn.ReLU(), SeededDropout(mil.dropout, drawn_from)]
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        if self.fusion in ("late", "mixture"):
            self.clinical_head = nn.Linear(2, 1)
        if self.fusion == "mixture":
            self.gate = nn.Linear(pooled_width + 2, 1)
        self.register_buffer("clinical_low", torch.zeros(2))
        self.register_buffer("clinical_span", torch.ones(2))
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.xavier_uniform_(module.in_proj_weight, generator=generator)
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def fit_clinical_scale(self, clinical: Tensor) -> None:
        """Learn the range of the clinical values; it becomes [0, 1].

        Args:
            clinical: (p, 2) float, the training patients' age (years) and count (10^9 per litre).
        """
        values = logged(clinical, self.log_count)
        low, high = values.amin(dim=0), values.amax(dim=0)
        # A value that is the same for all patients tells nothing, and must not divide by zero.
        span = torch.where(high > low, high - low, torch.ones_like(low))
        self.clinical_low.copy_(low)
        self.clinical_span.copy_(span)

    def forward(self, batch: Batch) -> Output:
        """Compute the logit of each bag's probability of a tumoral lymphocytosis.

        Args:
            batch: b bags.

        Returns:
            Logits, the experts' logits, the instances' weights.
        """
        pooled, weights = self._pool(batch)
        values = logged(batch.clinical, self.log_count)
        clinical = (values - self.clinical_low) / self.clinical_span
        if self.fusion == "concatenation":
            pooled = torch.cat([pooled, clinical], dim=1)
        of_pictures = self.head(pooled).squeeze(1)
        if self.fusion not in ("late", "mixture"):
            return Output(of_pictures, of_pictures.new_empty(0, len(of_pictures)), weights)
        of_clinical = self.clinical_head(clinical).squeeze(1)
        experts = torch.stack([of_pictures, of_clinical])
        if self.fusion == "late":
            return Output(experts.sum(dim=0), experts, weights)
        gate = self.gate(torch.cat([pooled, clinical], dim=1)).squeeze(1)
        return Output(mixed_logits(experts, gate), experts, weights)

    def _pool(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embed and pool; (b, out_width) and the instances' weights (n,)."""
        n_bags = len(batch.clinical)
        if (
            self.training
            and type(self.aggregator) is Mean
            and batch.instances.is_cpu
            and not torch.is_autocast_enabled("cpu")
        ):
            pooled = embedded_mean(self.special_embedding, batch.instances, batch.size)
            return pooled, equal_weights(batch.bag, n_bags)
        pooled, weights = self.aggregator(
            self.special_embedding(batch.instances), batch.bag, n_bags
        )
        return pooled, weights


def mixed_logits(experts: Tensor, gate: Tensor) -> Tensor:
    """Mix two probabilities, p = g p_1 + (1 - g) p_2, all given and returned as logits.

    Args:
        experts: (2, b) float, logits of p_1 and p_2.
        gate: (b,) float, logits of g.

    Returns:
        (b,) float. Sums of logarithms, so that no probability rounds to 0 or 1.
    """
    shares = F.logsigmoid(torch.stack([gate, -gate]))
    positive = torch.logsumexp(shares + F.logsigmoid(experts), dim=0)
    negative = torch.logsumexp(shares + F.logsigmoid(-experts), dim=0)
    return positive - negative


def logged(clinical: Tensor, log_count: bool) -> Tensor:
    """Take the logarithm of the lymphocyte count, where the parameters say so.

    Args:
        clinical: (p, 2) float: age in years, count in 10^9 per litre.
        log_count: `mil.log_count`.

    Returns:
        (p, 2) float.
    """
    if not log_count:
        return clinical
    return torch.stack([clinical[:, 0], clinical[:, 1].log()], dim=1)
