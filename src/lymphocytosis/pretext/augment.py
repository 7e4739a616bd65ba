"""Augmentation for pretraining: flips, turns, and the jitter of joint-embedding tasks."""

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional as F

from lymphocytosis.encoders.pictures import on_device
from lymphocytosis.parameters import JitterParameters

# Rec. 601: perceived brightness of red, green and blue.
LUMA = (0.299, 0.587, 0.114)
ALL = slice(None)


def flip_and_turn(
    pixels: Tensor,
    upright_weight: float,
    generator: torch.Generator,
    size: int | None = None,
    own: slice = ALL,
) -> Tensor:
    """Flip and turn each picture of a batch at random (paper, section 3.1).

    Pixels are moved, not resampled.

    Args:
        pixels: (B, S, S, 3) uint8, square pictures, on any device.
        upright_weight: weight of no turn, against 1 each for 90, 180 and 270 degrees.
        generator: the source of randomness, on the CPU.
        size: pictures in the whole batch, if this is a part of it; draws are made for all.
        own: which of them these are.

    Returns:
        (B, S, S, 3) uint8.
    """
    weights = torch.tensor([upright_weight, 1.0, 1.0, 1.0])
    n = size or len(pixels)
    turns = torch.multinomial(weights, n, replacement=True, generator=generator)
    across, down = torch.randint(0, 2, (n, 2), generator=generator).bool().unbind(dim=1)
    # Any flips and quarter turns are an optional transposition, then optional flips: three steps
    # for the whole batch, instead of one wait of the GPU for each picture.
    odd = turns % 2 == 1
    rows = torch.where(odd, across ^ (turns == 1), down ^ (turns == 2))
    columns = torch.where(odd, down ^ (turns == 3), across ^ (turns == 2))
    chosen = torch.stack([odd, rows, columns])[:, own, None, None, None]
    chosen = on_device(chosen, pixels.device)
    # Contiguous: on transposed pixels convolutions are slower and round differently.
    pixels = torch.where(chosen[0], pixels.transpose(1, 2).contiguous(), pixels)
    pixels = torch.where(chosen[1], pixels.flip(1), pixels)
    return torch.where(chosen[2], pixels.flip(2), pixels)


def jitter(
    images: Tensor,
    strengths: JitterParameters,
    generator: torch.Generator,
    size: int | None = None,
    own: slice = ALL,
) -> Tensor:
    """Change position, colour, stain and sharpness of each picture slightly, at random.

    No crop, which would cut the cell. torchvision's functions use one draw for a whole batch, and
    its transforms draw from torch's global generator.

    Args:
        images: (B, 3, S, S) float, in [0, 1].
        strengths: the block `pretext.jitter` of the parameters.
        generator: the source of randomness, on the CPU.
        size: as in `flip_and_turn`, like the next one.
        own: likewise.

    Returns:
        (B, 3, S, S) float, in [0, 1].
    """
    n = size or len(images)

    def drawn(channels: int, spread: float) -> Tensor:
        """Uniform numbers from -spread to spread, (B, channels, 1, 1)."""
        uniform = torch.rand(n, channels, 1, 1, generator=generator)[own]
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
    images = blur(images, drawn(1, strengths.blur).abs(), radius).clamp(0, 1)
    if not strengths.background:
        return images
    uniform = torch.rand(n, 5, 1, 1, generator=generator)[own].to(images)
    hidden = hide_surroundings(images, 0.3 + 0.15 * uniform[:, :1], 0.6 + 0.4 * uniform[:, 1:4])
    return torch.where(uniform[:, 4:] < strengths.background, hidden, images)


def hide_surroundings(images: Tensor, radius: Tensor, colour: Tensor) -> Tensor:
    """Replace what lies outside a disc about the centre, where the cell is, by one colour.

    Args:
        images: (B, 3, S, S) float.
        radius: (B, 1, 1, 1), of the disc, as a share of the side; its edge is a twentieth wide.
        colour: (B, 3, 1, 1).

    Returns:
        (B, 3, S, S) float.
    """
    side = images.shape[2]
    along = (torch.arange(side, device=images.device) + 0.5) / side - 0.5
    distance = (along[:, None] ** 2 + along**2).sqrt()  # (S, S)
    shown = ((radius - distance) / 0.05 + 0.5).clamp(0, 1)
    return torch.lerp(colour.expand_as(images), images, shown.expand_as(images))


def move(images: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale pictures about their centre and shift them; edges are filled by reflection.

    Args:
        images: (B, 3, S, S) float.
        shift: (B, 2, 1, 1), to the left and up, as a share of the side.
        scale: (B, 1, 1, 1), above 1 to enlarge.

    Returns:
        (B, 3, S, S) float.
    """
    turns = torch.eye(2, device=images.device) / scale[:, 0]  # (B, 2, 2)
    maps = torch.cat([turns, 2 * shift[:, :, 0]], dim=2)  # -1 to 1 spans the whole side
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def recolour(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Scale brightness, then contrast about the mean grey, then saturation about each pixel's grey.

    Args:
        images: (B, 3, S, S) float, in [0, 1].
        brightness: (B, 1, 1, 1), 1 for no change, like the next two.
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
    """Scale and shift each channel's optical density, which is proportional to the amount of stain.

    After Tellez et al. 2018 (IEEE TMI 37(9):2126), who do this to haematoxylin, eosin and a third
    stain. The stains of blood smears have no established separation, so channels are used instead.

    Args:
        images: (B, 3, S, S) float, in [0, 1].
        scale: (B, 3, 1, 1), 1 for no change.
        shift: (B, 3, 1, 1), 0 for no change.

    Returns:
        (B, 3, S, S) float, up to 1 unless a density became negative.
    """
    density = -torch.log((255 * images + 1) / 256)  # finite for black
    return (256 * torch.exp(-(scale * density + shift)) - 1) / 255


def blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each picture by a Gaussian with its own width.

    Args:
        images: (B, 3, S, S) float.
        sigma: (B, 1, 1, 1), in pixels, 0 or more.
        radius: where the Gaussian is cut off, in pixels, below S.

    Returns:
        (B, 3, S, S) float.
    """
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    # softmax makes each picture's weights sum to 1; the smallest width changes nothing.
    weights = torch.softmax(-((offsets / sigma[:, 0, 0].clamp(min=1e-3)) ** 2) / 2, dim=1)
    across = weights.repeat_interleave(3, dim=0)[:, None, None, :]  # (3B, 1, 1, 2 radius + 1)
    padded = F.pad(images, (radius,) * 4, mode="reflect").flatten(0, 1)[None]
    blurred = F.conv2d(padded, across, groups=len(across))
    return F.conv2d(blurred, across.transpose(2, 3), groups=len(across)).view_as(images)
