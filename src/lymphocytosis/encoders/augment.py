"""The flips and quarter turns of pretraining (paper, section 3.1). Exact: no pixel changes."""

import torch
from torch import Tensor


def flip_and_turn(pixels: Tensor, upright_weight: float, generator: torch.Generator) -> Tensor:
    """Flip and turn each picture of a batch by its own draw.

    Args:
        pixels: (B, S, S, 3) uint8, square pictures.
        upright_weight: how often no turn is drawn, against 1 for 90, 180 and 270 degrees each.
        generator: the source of the draws.

    Returns:
        (B, S, S, 3) uint8.
    """
    weights = torch.tensor([upright_weight, 1.0, 1.0, 1.0])
    n = len(pixels)
    turns = torch.multinomial(weights, n, replacement=True, generator=generator).tolist()
    flips = torch.randint(0, 2, (n, 2), generator=generator).bool().tolist()
    changed = []
    for picture, quarter_turns, (across, down) in zip(pixels, turns, flips, strict=True):
        axes = [axis for axis, chosen in ((1, across), (0, down)) if chosen]
        changed.append(picture.flip(axes).rot90(quarter_turns))
    return torch.stack(changed)
