"""An encoder with pooling and a linear layer, for `frozen`, `simclr` and `vicreg`."""

import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from lymphocytosis.compute import drawing_from
from lymphocytosis.encoders.encoder import Encoder, build_encoder
from lymphocytosis.parameters import EncoderParameters


class PooledEncoder(nn.Module):
    """Normalise pictures as the encoder expects, pool its feature map, then apply a linear layer.

    Mean and standard deviation are buffers, so that the state dict contains them and embedding uses
    the same ones as pretraining.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder, small_dim: int) -> None:
        """Put the parts together; without other `mean` and `std`, pictures are not normalised.

        Args:
            encoder: gives (B, encoder.dim, h, w).
            small_dim: width of the small embedding.
        """
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))
        self.narrow = nn.Linear(encoder.dim, small_dim)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the large and the small embedding.

        Args:
            images: (B, 3, H, W) float, in [0, 1].

        Returns:
            f_large (B, encoder.dim), the feature map's spatial mean, and
            f_small = W f_large + b (B, small_dim).
        """
        large: Tensor = self.encoder((images - self.mean) / self.std).mean(dim=(2, 3))
        return large, self.narrow(large)


def build_pooled_encoder(
    parameters: EncoderParameters, image_size: int, seed: int
) -> PooledEncoder:
    """Build the encoder with its initial weights; the same seed gives the same random ones.

    Pretrained weights expect pictures normalised by the mean and standard deviation in timm's
    `pretrained_cfg`; with random weights pictures stay in [0, 1].

    Args:
        parameters: the block `encoder` of the parameters.
        image_size: side of the pictures in pixels.
        seed: of the random weights.

    Returns:
        The encoder, in train mode.

    Raises:
        UserError: no such model, or its weights are not available.
    """
    with drawing_from(seed):
        pooled = PooledEncoder(build_encoder(parameters, image_size), parameters.small_dim)
    if parameters.weights != "random":
        own = resolve_model_data_config(pooled.encoder.model)
        pooled.mean.copy_(torch.tensor(own["mean"])[:, None, None])
        pooled.std.copy_(torch.tensor(own["std"])[:, None, None])
    return pooled


def random_projection(from_dim: int, to_dim: int, seed: int) -> Tensor:
    """Draw a random projection, which approximately keeps the distances between vectors.

    By Johnson and Lindenstrauss (1984), a random projection to fewer dimensions shrinks all
    distances among n vectors by nearly the same factor, sqrt(to_dim / from_dim), with a relative
    error that falls with to_dim as sqrt(log(n) / to_dim). If to_dim is at least from_dim, it keeps
    every distance exactly.

    Args:
        from_dim: width of the vectors.
        to_dim: width of the projections.
        seed: of the draw.

    Returns:
        (to_dim, from_dim) float32; its rows are orthonormal, or its columns if there are fewer.
    """
    drawn = torch.empty(to_dim, from_dim)
    return nn.init.orthogonal_(drawn, generator=torch.Generator().manual_seed(seed))
