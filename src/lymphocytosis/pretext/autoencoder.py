"""Reconstruct pictures (paper, section 2.1.1)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.parameters import EncoderParameters, PretextParameters
from lymphocytosis.pretext.task import Task

LOSS = "reconstruction loss"


def build(
    encoder: EncoderParameters,
    pretext: PretextParameters,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    seed: int,
) -> Task:
    """Build the task; see `build_task`. It shows reconstructions."""
    autoencoder = build_autoencoder(encoder, images.shape[1], seed)

    def loss(model: nn.Module, views: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        (target,) = views
        return F.mse_loss(model(target), target, reduction=pretext.reduction)

    def show(model: nn.Module, pictures: Tensor, epoch: str) -> dict[str, Tensor]:
        return {epoch: model(pictures)}

    return Task(autoencoder, autoencoder, 1, loss, show)
