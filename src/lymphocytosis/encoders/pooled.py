"""An encoder with pooling and a linear layer, for `frozen` and joint-embedding tasks."""

from collections.abc import Callable

import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.compute import drawing_from
from lymphocytosis.encoders.encoder import Encoder, build_encoder
from lymphocytosis.errors import UserError, brief
from lymphocytosis.parameters import EncoderParameters

# Of a feature map (B, d, h, w) and its class token (B, d). A constant map has no spread, and there
# the root has no finite slope.
_POOLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": lambda features, _: features.mean(dim=(2, 3)),
    "spread": lambda features, _: (features.var(dim=(2, 3), correction=0) + 1e-6).sqrt(),
    "token": lambda _, token: token,
}


class PooledEncoder(nn.Module):
    """Normalise pictures as the encoder expects, pool its features, then apply a linear layer.

    Mean and standard deviation are buffers, so that the state dict contains them and embedding uses
    the same ones as pretraining.

    Attributes:
        dim: width of the large embedding.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder, parameters: EncoderParameters, image_size: int) -> None:
        """Put the parts together; without other `mean` and `std`, pictures are not normalised.

        Args:
            encoder: gives (B, encoder.dim, h, w).
            parameters: the block `encoder` of the parameters; its `pool`, `layers`, `zooms` and
                `small_dim` are used.
            image_size: side of the pictures in pixels.

        Raises:
            UserError: the encoder has no class token, or fewer layers.
        """
        super().__init__()
        self.encoder = encoder
        self.pool, self.layers, self.zooms = parameters.pool, parameters.layers, parameters.zooms
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))
        self.dim = encoder.dim
        if (self.pool, self.layers) != (("mean",), (1,)):
            try:
                with torch.inference_mode():
                    blank = torch.zeros(1, 3, image_size, image_size)
                    self.dim = self.eval()._pool(blank).shape[1]
            except Exception as error:  # timm's families raise many kinds
                pool, layers = ", ".join(self.pool), ", ".join(map(str, self.layers))
                raise UserError(
                    f"encoder.pool [{pool}] and encoder.layers [{layers}] can't be used with "
                    f"encoder.name {parameters.name!r} ({brief(error)}). Choose others: pool "
                    "[mean] and layers [1] always work."
                ) from error
            self.train()
        self.dim *= len(self.zooms)
        self.narrow = nn.Linear(self.dim, parameters.small_dim)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the large and the small embedding.

        Args:
            images: (B, 3, H, W) float, in [0, 1].

        Returns:
            f_large (B, dim): of each zoom, of each layer, the feature map's mean or standard
            deviation over positions or the class token, side by side; and
            f_small = W f_large + b (B, small_dim).
        """
        images = (images - self.mean) / self.std
        large = torch.cat([self._pool(enlarge(images, zoom)) for zoom in self.zooms], dim=1)
        return large, self.narrow(large)

    def _pool(self, images: Tensor) -> Tensor:
        return torch.cat(
            [
                _POOLS[pool](features, token)
                for features, token in self.encoder.layers(
                    images, self.layers, "token" in self.pool
                )
                for pool in self.pool
            ],
            dim=1,
        )


def enlarge(images: Tensor, share: float) -> Tensor:
    """Enlarge the middle of pictures to their whole size.

    Args:
        images: (B, C, S, S) float.
        share: of the side that is kept, above 0 and at most 1; 1 changes nothing.

    Returns:
        (B, C, S, S) float; the middle of a mirrored picture is the mirrored middle.
    """
    side = images.shape[2]
    margin = round(side * (1 - share) / 2)
    if not margin:
        return images
    middle = images[..., margin : side - margin, margin : side - margin]
    return F.interpolate(middle, size=(side, side), mode="bilinear", align_corners=False)


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
        UserError: no such model, its weights are not available, or it can't be pooled as asked.
    """
    with drawing_from(seed):
        pooled = PooledEncoder(build_encoder(parameters, image_size), parameters, image_size)
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
