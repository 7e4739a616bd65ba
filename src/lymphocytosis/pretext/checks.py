"""Checks before any work that a pretext task has what it needs."""

from lymphocytosis.encoders.checks import check_encoder, check_plain
from lymphocytosis.parameters import JOINT_EMBEDDING, EncoderParameters, PretextParameters


def check_task(encoder: EncoderParameters, pretext: PretextParameters, image_size: int) -> None:
    """Refuse a task whose encoder, weights or library is missing.

    Args:
        encoder: the block `encoder` of the parameters; iGPT has no encoder.
        pretext: the block `pretext`.
        image_size: side of the pictures in pixels.

    Raises:
        UserError: one of them is missing, or the encoder can't be used.
    """
    if pretext.name in ("igpt", "autoencoder"):
        check_plain(encoder, f"pretext.name {pretext.name!r}")
    if pretext.name != "igpt":
        check_encoder(encoder, image_size)
    if (encoder.pool, encoder.layers) != (("mean",), (1,)):
        import torch

        from lymphocytosis.encoders.encoder import Encoder
        from lymphocytosis.encoders.pooled import PooledEncoder

        with torch.device("meta"):  # shapes without values
            PooledEncoder(Encoder(encoder.name, image_size), encoder, image_size)
    if pretext.name in JOINT_EMBEDDING:
        # Imported late: it needs torch, which would delay the message for a mistyped name.
        from lymphocytosis.pretext.joint_embedding import import_lightly

        import_lightly(pretext.name)
