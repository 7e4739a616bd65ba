"""Pull two views of a picture together, without collapse to the same embedding for all.

Source: Bardes et al. 2022, VICReg: variance-invariance-covariance regularization.
"""

import numpy as np
import numpy.typing as npt

from lymphocytosis.compute import drawing_from
from lymphocytosis.encoders.pooled import build_pooled_encoder
from lymphocytosis.parameters import EncoderParameters, PretextParameters
from lymphocytosis.pretext.joint_embedding import import_lightly, joint_embedding_task
from lymphocytosis.pretext.task import Task

LOSS = "VICReg loss"


def build(
    encoder: EncoderParameters,
    pretext: PretextParameters,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    seed: int,
) -> Task:
    """Build the task; see `build_task`. It shows two views."""
    losses, heads = import_lightly("vicreg")
    vicreg = pretext.vicreg
    pooled = build_pooled_encoder(encoder, images.shape[1], seed)
    with drawing_from(seed):
        head = heads.VICRegProjectionHead(
            encoder.small_dim, vicreg.hidden_width, vicreg.output_width
        )
    criterion = losses.VICRegLoss(vicreg.invariance, vicreg.variance, vicreg.covariance)
    return joint_embedding_task(pooled, head, criterion, pretext, seed)
