"""Contrast two views of a picture with the views of other pictures.

Source: Chen et al. 2020, A simple framework for contrastive learning of visual representations.
"""

import numpy as np
import numpy.typing as npt

from lymphocytosis.compute import drawing_from
from lymphocytosis.encoders.pooled import build_pooled_encoder
from lymphocytosis.parameters import EncoderParameters, PretextParameters
from lymphocytosis.pretext.joint_embedding import import_lightly, joint_embedding_task
from lymphocytosis.pretext.task import Task

LOSS = "NT-Xent loss"


def build(
    encoder: EncoderParameters,
    pretext: PretextParameters,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    seed: int,
) -> Task:
    """Build the task; see `build_task`. It shows two views."""
    losses, heads = import_lightly("simclr")
    simclr = pretext.simclr
    pooled = build_pooled_encoder(encoder, images.shape[1], seed)
    with drawing_from(seed):
        head = heads.SimCLRProjectionHead(
            encoder.small_dim, simclr.hidden_width, simclr.output_width
        )
    criterion = losses.NTXentLoss(simclr.temperature)
    return joint_embedding_task(pooled, head, criterion, pretext, seed)
