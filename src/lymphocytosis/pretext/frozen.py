"""No training: the pretrained encoder, unchanged (paper, section 2.1: ImageNet features)."""

import numpy as np
import numpy.typing as npt
import torch

from lymphocytosis.encoders.pooled import build_pooled_encoder, random_projection
from lymphocytosis.parameters import EncoderParameters, PretextParameters
from lymphocytosis.pretext.task import Task

LOSS = "no loss: nothing is trained"


def build(
    encoder: EncoderParameters,
    pretext: PretextParameters,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    seed: int,
) -> Task:
    """Build the task; see `build_task`. Its linear layer is a random projection."""
    pooled = build_pooled_encoder(encoder, images.shape[1], seed)
    with torch.no_grad():
        pooled.narrow.weight.copy_(random_projection(pooled.encoder.dim, encoder.small_dim, seed))
        pooled.narrow.bias.zero_()
    return Task(pooled, pooled, 1, loss=None, show=lambda *_: {})
