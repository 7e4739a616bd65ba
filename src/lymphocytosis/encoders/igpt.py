"""iGPT: a transformer that predicts the pixels of a picture one by one (paper, section 5).

Source: Chen et al. 2020, Generative pretraining from pixels (the paper's reference 10).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.parameters import IgptParameters

# Middle layers whose activations form the large embedding; iGPT's authors concatenate five.
MIDDLE_LAYERS = 5


class Block(nn.Module):
    """GPT-2's layer: causal self-attention, then two linear layers.

    torch's TransformerEncoderLayer computes the same, but its eval mode holds the whole attention
    matrix of every head in memory.
    """

    def __init__(self, width: int, heads: int) -> None:
        """Build the layer.

        Args:
            width: of the activations.
            heads: of the attention.
        """
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute the next activations.

        Args:
            hidden: (B, n, width).

        Returns:
            (B, n, width).
        """
        # (B, n, 3 width) -> three times (B, heads, n, width / heads)
        queries, keys, values = (
            self.attend(self.norm1(hidden)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        hidden = hidden + self.join(attended.transpose(1, 2).flatten(2))
        return hidden + self.narrow(F.gelu(self.widen(self.norm2(hidden))))


class IGPT(nn.Module):
    """Reads pictures, shrunk to side x side pixels of a palette, row by row; n = side x side."""

    palette: Tensor
    projection: Tensor

    def __init__(self, parameters: IgptParameters, small_dim: int) -> None:
        """Build the model; palette and projection are zeros until they are filled.

        Args:
            parameters: the block `pretext.igpt` of the parameters.
            small_dim: width of the small embedding.
        """
        super().__init__()
        width, layers = parameters.width, parameters.layers
        self.side = parameters.side
        self.start = nn.Parameter(torch.zeros(1, width))
        self.positions = nn.Parameter(torch.zeros(self.side**2, width))
        self.colours = nn.Embedding(parameters.colours, width)
        self.blocks = nn.ModuleList(Block(width, parameters.heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, parameters.colours, bias=False)
        # Five around the middle, fewer in a shallow model; never the first, which has no context.
        reach = MIDDLE_LAYERS // 2
        self.middle = range(max(1, layers // 2 - reach), min(layers, layers // 2 + reach + 1))
        self.register_buffer("palette", torch.zeros(parameters.colours, 3))
        self.register_buffer("projection", torch.zeros(small_dim, len(self.middle) * width))
        self._draw_weights()

    def _draw_weights(self) -> None:
        # As GPT-2: small, and smaller for layers that add to the residual stream.
        for name, values in self.named_parameters():
            if values.ndim > 1:
                adds = name.endswith(("join.weight", "narrow.weight"))
                nn.init.normal_(values, std=0.02 / (2 * len(self.blocks)) ** 0.5 if adds else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(values)

    def quantise(self, images: Tensor) -> Tensor:
        """Shrink pictures and map each pixel to the nearest colour of the palette.

        Args:
            images: (B, 3, H, W) float, in [0, 1].

        Returns:
            (B, n) int64, rows of the palette; the first of equally near colours.
        """
        pixels = pixels_of(images, self.side)
        # The usual way, by a matrix product, has rounding errors.
        apart = torch.cdist(
            pixels.flatten(0, 1), self.palette, compute_mode="donot_use_mm_for_euclid_dist"
        )
        return apart.argmin(dim=1).view(len(images), -1)

    def draw(self, colours: Tensor) -> Tensor:
        """Show quantised pictures.

        Args:
            colours: (B, n) int64, rows of the palette.

        Returns:
            (B, 3, side, side) float, in [0, 1].
        """
        return self.palette[colours].transpose(1, 2).unflatten(2, (self.side, self.side))

    def forward(self, colours: Tensor) -> Tensor:
        """Predict each pixel from those before it.

        Args:
            colours: (B, n) int64, rows of the palette.

        Returns:
            (B, n, colours of the palette) float, logits.
        """
        hidden = self._enter(colours)
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.predict(self.norm(hidden))
        return logits

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the large and the small embedding.

        Chen et al. average n^l = layer_norm(h^l), the input of layer l's attention, over positions.
        The middle layers do best, and they concatenate five. The small embedding is a random
        projection of the large one (`random_projection`).

        Args:
            images: (B, 3, H, W) float, in [0, 1].

        Returns:
            f_large (B, width x middle layers) and f_small (B, small_dim).
        """
        hidden = self._enter(self.quantise(images))
        blocks: Any = self.blocks[: self.middle.stop]
        pooled = []
        for layer, block in enumerate(blocks):
            if layer in self.middle:
                pooled.append(block.norm1(hidden).mean(dim=1))
            hidden = block(hidden)
        large = torch.cat(pooled, dim=1)
        return large, F.linear(large, self.projection)

    def _enter(self, colours: Tensor) -> Tensor:
        # Shifted by one: each position sees only the pixels before it.
        start = self.start.expand(len(colours), 1, -1)
        return torch.cat([start, self.colours(colours[:, :-1])], dim=1) + self.positions


def pixels_of(images: Tensor, side: int) -> Tensor:
    """Shrink pictures by averaging, and read them row by row.

    Args:
        images: (B, 3, H, W) float.
        side: of the result, in pixels.

    Returns:
        (B, side x side, 3) float.
    """
    return F.adaptive_avg_pool2d(images, side).flatten(2).transpose(1, 2)
