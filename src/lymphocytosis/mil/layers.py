"""Layers of the neural classifier that torch does not have."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SeededDropout(nn.Module):
    """Dropout with its own generator, so that other random draws can't change it."""

    def __init__(self, p: float, generator: torch.Generator) -> None:
        """Make the layer.

        Args:
            p: share of values set to zero in train mode.
            generator: the source of randomness; best on the device of the values.
        """
        super().__init__()
        self.p = p
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """In train mode, drop values and scale the rest; in eval mode, change nothing.

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


def mixed_logits(experts: Tensor, gate: Tensor) -> Tensor:
    """Mix two probabilities, p = g p_1 + (1 - g) p_2; inputs and result are logits.

    Args:
        experts: (2, b) float, logits of p_1 and p_2.
        gate: (b,) float, logits of g.

    Returns:
        (b,) float, computed from logarithms so that no probability rounds to 0 or 1.
    """
    shares = F.logsigmoid(torch.stack([gate, -gate]))
    positive = torch.logsumexp(shares + F.logsigmoid(experts), dim=0)
    negative = torch.logsumexp(shares + F.logsigmoid(-experts), dim=0)
    return positive - negative
