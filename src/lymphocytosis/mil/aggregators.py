"""Aggregators: from a bag's embedded instances to one vector.

Bags are packed, not padded: one matrix holds all instances of a batch, and `bag` gives the bag of
each.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

# Keeps the gradient of the square root finite: the variance of a bag of one cell is 0.
_SMALL = 1e-6
_HEADS = 4


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


def softmax_of_bags(scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Turn scores into weights that sum to 1 in each bag.

    Args:
        scores: (n,) float.
        bag: (n,) int64, the bag of each instance.
        n_bags: b.

    Returns:
        (n,) float.
    """
    top = scores.new_full((n_bags,), -torch.inf).scatter_reduce(0, bag, scores.detach(), "amax")
    raised = (scores - top[bag]).exp()
    return raised / raised.new_zeros(n_bags).index_add(0, bag, raised)[bag]


class Mean(nn.Module):
    """The mean of a bag (paper, equation 10)."""

    out_width: int

    def __init__(self, width: int) -> None:
        """Make the aggregator.

        Args:
            width: W, the instances' width.
        """
        super().__init__()
        self.out_width = width

    def forward(self, instances: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Pool bags.

        Args:
            instances: (n, W) float.
            bag: (n,) int64, the bag of each instance, from 0.
            n_bags: b, the number of bags; each has at least one instance.

        Returns:
            (b, out_width) float.
        """
        return mean_of_bags(instances, bag, n_bags)


class MeanAndSpread(Mean):
    """The mean of a bag and its standard deviation: are the cells all alike?

    Uniform cells are a haematologist's key sign of a tumoral lymphocytosis.
    """

    def __init__(self, width: int) -> None:
        """Make the aggregator; see `Mean`."""
        super().__init__(width)
        self.out_width = 2 * width

    def forward(self, instances: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Pool bags; see `Mean.forward`."""
        mean = mean_of_bags(instances, bag, n_bags)
        # Not the mean of squares minus the squared mean, which loses precision in float32.
        variance = mean_of_bags((instances - mean[bag]).square(), bag, n_bags)
        spread = (variance + _SMALL).sqrt()
        return torch.cat([mean, spread], dim=1)


class Max(Mean):
    """The maximum of each feature."""

    def forward(self, instances: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Pool bags; see `Mean.forward`."""
        index = bag[:, None].expand_as(instances)
        start = instances.new_full((n_bags, instances.shape[1]), -torch.inf)
        return start.scatter_reduce(0, index, instances, "amax")


class Attention(nn.Module):
    """Weights from a small network (Ilse et al. 2018, equation 8): softmax of w' tanh(V h)."""

    out_width: int

    def __init__(self, width: int) -> None:
        """Make the aggregator.

        Args:
            width: W, the instances' width.
        """
        super().__init__()
        self.out_width = width
        hidden = max(8, width // 4)
        self.tanh = nn.Sequential(nn.Linear(width, hidden), nn.Tanh())
        self.score = nn.Linear(hidden, 1)

    def scores(self, instances: Tensor) -> Tensor:
        """Score instances.

        Args:
            instances: (n, W) float.

        Returns:
            (n,) float.
        """
        scores: Tensor = self.score(self.tanh(instances))
        return scores.squeeze(1)

    def forward(self, instances: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Pool bags; see `Mean.forward`."""
        weights = softmax_of_bags(self.scores(instances), bag, n_bags)
        member = F.one_hot(bag, n_bags).T.to(instances.dtype)  # (b, n)
        return (member * weights) @ instances


class GatedAttention(Attention):
    """Attention with a gate (Ilse et al. 2018, equation 9): w' (tanh(V h) * sigmoid(U h))."""

    def __init__(self, width: int) -> None:
        """Make the aggregator; see `Attention`."""
        super().__init__(width)
        self.gate = nn.Sequential(nn.Linear(width, self.score.in_features), nn.Sigmoid())

    def scores(self, instances: Tensor) -> Tensor:
        """Score instances; see `Attention.scores`."""
        scores: Tensor = self.score(self.tanh(instances) * self.gate(instances))
        return scores.squeeze(1)


class Transformer(nn.Module):
    """Self-attention among a bag's instances, read out by a class token.

    Like TransMIL (Shao et al. 2021), but with exact attention, since bags of blood cells are small,
    and without position encoding, since the cells have no position on a slide.
    """

    out_width: int

    def __init__(self, width: int) -> None:
        """Make the aggregator; see `Attention`.

        The token width is the instances' width, rounded up to a multiple of the number of heads.
        """
        super().__init__()
        self.out_width = -(-width // _HEADS) * _HEADS
        self.taken = nn.Linear(width, self.out_width)
        self.token = nn.Parameter(torch.zeros(self.out_width))
        self.norm = nn.LayerNorm(self.out_width)
        self.attention = nn.MultiheadAttention(self.out_width, _HEADS, batch_first=True)
        self.read_norm = nn.LayerNorm(self.out_width)
        self.read = nn.MultiheadAttention(self.out_width, _HEADS, batch_first=True)

    def forward(self, instances: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Pool bags; see `Mean.forward`."""
        sizes = torch.bincount(bag, minlength=n_bags)
        by_bag = torch.argsort(bag, stable=True)
        tokens = pad_sequence(
            list(self.taken(instances)[by_bag].split(sizes.tolist())), batch_first=True
        )  # (b, longest, W)
        padding = torch.arange(tokens.shape[1], device=bag.device) >= sizes[:, None]
        normed = self.norm(tokens)
        mixed, _ = self.attention(normed, normed, normed, padding, need_weights=False)
        cells = self.read_norm(tokens + mixed)
        query = self.token.expand(n_bags, 1, -1)
        pooled: Tensor = self.read(query, cells, cells, padding)[0]
        return pooled.squeeze(1)


Aggregator = Mean | Attention | Transformer
AGGREGATORS: dict[str, type[Aggregator]] = {
    "mean": Mean,
    "mean_and_spread": MeanAndSpread,
    "max": Max,
    "attention": Attention,
    "gated_attention": GatedAttention,
    "transformer": Transformer,
}
