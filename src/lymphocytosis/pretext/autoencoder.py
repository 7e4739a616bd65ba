"""Reconstruct pictures (paper, section 2.1.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.pretext.task import Task, TaskInputs

LOSS = "reconstruction loss"


def build(given: TaskInputs) -> Task:
    """Build the task; see `build_task`. It shows reconstructions."""
    autoencoder = build_autoencoder(given.encoder, given.images.shape[1], given.seed)

    def loss(model: nn.Module, views: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        (target,) = views
        return F.mse_loss(model(target), target, reduction=given.pretext.reduction)

    def show(model: nn.Module, pictures: Tensor, epoch: str) -> dict[str, Tensor]:
        return {epoch: model(pictures)}

    return Task(autoencoder, autoencoder, 1, loss, show, given.pretext.reduction)
