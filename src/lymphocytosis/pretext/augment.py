"""What pretraining does to pictures: flips and turns, and the jitter of joint-embedding tasks."""

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional as F

from lymphocytosis.encoders.pictures import on_device
from lymphocytosis.parameters import JitterParameters

# Rec. 601: how bright an eye finds red, green and blue.
LUMA = (0.299, 0.587, 0.114)


def flip_and_turn(pixels: Tensor, upright_weight: float, generator: torch.Generator) -> Tensor:
    """Flip and turn each picture of a batch by its own draw (paper, section 3.1).

    Exact: no pixel changes.

    Args:
        pixels: (B, S, S, 3) uint8, square pictures, on any device.
        upright_weight: how often no turn is drawn, against 1 for 90, 180 and 270 degrees each.
        generator: the source of the draws, on the CPU.

    Returns:
        (B, S, S, 3) uint8.
    """
    weights = torch.tensor([upright_weight, 1.0, 1.0, 1.0])
    n = len(pixels)
    turns = torch.multinomial(weights, n, replacement=True, generator=generator)
    across, down = torch.randint(0, 2, (n, 2), generator=generator).bool().unbind(dim=1)
    # A flip, then quarter turns, is a transposition or none, then flips or none: three choices
    # for a whole batch, where a GPU would wait for each picture.
    odd = turns % 2 == 1
    rows = torch.where(odd, across ^ (turns == 1), down ^ (turns == 2))
    columns = torch.where(odd, down ^ (turns == 3), across ^ (turns == 2))
    chosen = on_device(torch.stack([odd, rows, columns]), pixels.device)[..., None, None, None]
    # Rows stay rows in memory: convolutions round otherwise, and slower, on transposed pixels.
    pixels = torch.where(chosen[0], pixels.transpose(1, 2).contiguous(), pixels)
    pixels = torch.where(chosen[1], pixels.flip(1), pixels)
    return torch.where(chosen[2], pixels.flip(2), pixels)


def jitter(images: Tensor, strengths: JitterParameters, generator: torch.Generator) -> Tensor:
    """Change place, colour, stain and sharpness of each picture a little, by its own draws.

    No crop: the cell, in the middle, stays whole. torchvision's functions take one draw for a whole
    batch, and its transforms draw from torch's global generator.

    Args:
        images: (B, 3, S, S) float, in [0, 1].
        strengths: the block `pretext.jitter` of the parameters.
        generator: the source of the draws, on the CPU.

    Returns:
        (B, 3, S, S) float, in [0, 1].
    """

    def drawn(channels: int, spread: float) -> Tensor:
        """Numbers for each picture from -spread to spread, (B, channels, 1, 1)."""
        uniform = torch.rand(len(images), channels, 1, 1, generator=generator)
        return ((2 * uniform - 1) * spread).to(images)

    images = move(images, drawn(2, strengths.shift), 1 + drawn(1, strengths.scale))
    images = recolour(
        images,
        1 + drawn(1, strengths.brightness),
        1 + drawn(1, strengths.contrast),
        1 + drawn(1, strengths.saturation),
    )
    images = restain(images, 1 + drawn(3, strengths.stain), drawn(3, strengths.stain))
    radius = ceil(3 * strengths.blur)
    return blur(images, drawn(1, strengths.blur).abs(), radius).clamp(0, 1)


def move(images: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Enlarge pictures about their middle and move them; edges are filled by reflection.

    Args:
        images: (B, 3, S, S) float.
        shift: (B, 2, 1, 1), to the left and up, as a share of the side.
        scale: (B, 1, 1, 1), above 1 to enlarge.

    Returns:
        (B, 3, S, S) float.
    """
    turns = torch.eye(2, device=images.device) / scale[:, 0]  # (B, 2, 2)
    maps = torch.cat([turns, 2 * shift[:, :, 0]], dim=2)  # from -1 to 1 is the whole side
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def recolour(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Scale brightness, then contrast about the mean grey, then saturation about each grey.

    Args:
        images: (B, 3, S, S) float, in [0, 1].
        brightness: (B, 1, 1, 1), 1 for no change, as the next two.
        contrast: (B, 1, 1, 1).
        saturation: (B, 1, 1, 1).

    Returns:
        (B, 3, S, S) float, in [0, 1].
    """
    luma = torch.tensor(LUMA, device=images.device)[:, None, None]
    images = (images * brightness).clamp(0, 1)
    mean_grey = (images * luma).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    images = torch.lerp(mean_grey, images, contrast).clamp(0, 1)
    grey = (images * luma).sum(dim=1, keepdim=True)
    return torch.lerp(grey, images, saturation).clamp(0, 1)


def restain(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale and move each channel's optical density, which the amount of stain is proportional to.

    After Tellez et al. 2018 (IEEE TMI 37(9):2126), who do so to haematoxylin, eosin and a third
    stain; of the stains of blood smears no such separation is settled, so channels stand for them.

    Args:
        images: (B, 3, S, S) float, in [0, 1].
        scale: (B, 3, 1, 1), 1 for no change.
        shift: (B, 3, 1, 1), 0 for no change.

    Returns:
        (B, 3, S, S) float, up to 1 unless moved to less than no density.
    """
    density = -torch.log((255 * images + 1) / 256)  # black has a finite one
    return (256 * torch.exp(-(scale * density + shift)) - 1) / 255


def blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each picture by a Gaussian of its own width.

    Args:
        images: (B, 3, S, S) float.
        sigma: (B, 1, 1, 1), in pixels, 0 or more.
        radius: pixels to each side beyond which the Gaussian is cut, below S.

    Returns:
        (B, 3, S, S) float.
    """
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    # softmax makes the weights of a picture sum to 1; so small a width changes nothing.
    weights = torch.softmax(-((offsets / sigma[:, 0, 0].clamp(min=1e-3)) ** 2) / 2, dim=1)
    across = weights.repeat_interleave(3, dim=0)[:, None, None, :]  # (3B, 1, 1, 2 radius + 1)
    padded = F.pad(images, (radius,) * 4, mode="reflect").flatten(0, 1)[None]
    blurred = F.conv2d(padded, across, groups=len(across))
    return F.conv2d(blurred, across.transpose(2, 3), groups=len(across)).view_as(images)
