"""The convolutional autoencoder (paper, section 2.1.1 and figure 2)."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.compute import drawing_from
from lymphocytosis.encoders.encoder import Encoder, build_encoder
from lymphocytosis.parameters import EncoderParameters

# Output channels of the decoder's five blocks, as in the authors' code.
DECODER_CHANNELS = (512, 64, 32, 8, 3)
BATCH_NORM_MOMENTUM = 0.01


class Decoder(nn.Module):
    """Five blocks of transposed convolution, BatchNorm and ReLU; the last ends in a sigmoid.

    Each block takes a side s to 2 s + 1 (7, 15, 31, 63, 127, 255 for pictures of 224); a bilinear
    resize then restores the size of the picture.
    """

    def __init__(self, in_channels: int, image_size: int) -> None:
        """Build the blocks.

        Args:
            in_channels: channels of the code.
            image_size: side of the picture to draw, in pixels.
        """
        super().__init__()
        channels = (in_channels, *DECODER_CHANNELS)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(taken, given, kernel_size=3, stride=2),
                nn.BatchNorm2d(given, momentum=BATCH_NORM_MOMENTUM),
                nn.Sigmoid() if given == channels[-1] else nn.ReLU(),
            )
            for taken, given in pairwise(channels)
        )
        self.image_size = image_size

    def forward(self, code: Tensor) -> Tensor:
        """Draw pictures.

        Args:
            code: (B, in_channels, h, w) float.

        Returns:
            (B, 3, image_size, image_size) float, in [0, 1].
        """
        for block in self.blocks:
            code = block(code)
        size = (self.image_size, self.image_size)
        return F.interpolate(code, size=size, mode="bilinear", align_corners=False)


class AutoEncoder(nn.Module):
    """An encoder, a 1x1 convolution that reduces the channels, and a decoder."""

    def __init__(self, encoder: Encoder, small_dim: int, image_size: int) -> None:
        """Put the parts together.

        Args:
            encoder: gives (B, encoder.dim, h, w).
            small_dim: channels of the code, the width of the small embedding.
            image_size: side of the pictures in pixels.
        """
        super().__init__()
        self.encoder = encoder
        self.narrow = nn.Conv2d(encoder.dim, small_dim, kernel_size=1)
        self.decoder = Decoder(small_dim, image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct pictures.

        Args:
            images: (B, 3, H, W) float, in [0, 1].

        Returns:
            (B, 3, H, W) float, in [0, 1].
        """
        reconstructed: Tensor = self.decoder(self.narrow(self.encoder(images)))
        return reconstructed

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the large and the small embedding (paper, section 2.1.2).

        Pooling and a 1x1 convolution commute, so the small embedding is computed after the pool:
        f_small = W f_large + b.

        Args:
            images: (B, 3, H, W) float, in [0, 1].

        Returns:
            f_large (B, encoder.dim) and f_small (B, small_dim).
        """
        large = self.encoder(images).mean(dim=(2, 3))
        return large, F.linear(large, self.narrow.weight[:, :, 0, 0], self.narrow.bias)


def build_autoencoder(encoder: EncoderParameters, image_size: int, seed: int) -> AutoEncoder:
    """Build the autoencoder; the same seed gives the same random weights.

    Args:
        encoder: the block `encoder` of the parameters.
        image_size: side of the pictures in pixels.
        seed: of the random weights.

    Returns:
        The autoencoder, in train mode.
    """
    with drawing_from(seed):
        return AutoEncoder(build_encoder(encoder, image_size), encoder.small_dim, image_size)
