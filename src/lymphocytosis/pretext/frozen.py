"""No training: the pretrained encoder, unchanged (paper, section 2.1: ImageNet features)."""

import torch

from lymphocytosis.encoders.pooled import build_pooled_encoder, random_projection
from lymphocytosis.pretext.task import Task, TaskInputs

LOSS = "no loss: nothing is trained"


def build(given: TaskInputs) -> Task:
    """Build the task; see `build_task`. Its linear layer is a random projection."""
    encoder, seed = given.encoder, given.seed
    pooled = build_pooled_encoder(encoder, given.images.shape[1], seed)
    with torch.no_grad():
        pooled.narrow.weight.copy_(random_projection(pooled.dim, encoder.small_dim, seed))
        pooled.narrow.bias.zero_()
    return Task(pooled, pooled, 1, loss=None, show=lambda *_: {})
