"""Checks before any work that a pretext task has what it needs."""

from lymphocytosis.encoders.checks import check_encoder
from lymphocytosis.parameters import EncoderParameters, PretextParameters


def check_task(encoder: EncoderParameters, pretext: PretextParameters, image_size: int) -> None:
    """Refuse a task whose encoder, weights or library is missing.

    Args:
        encoder: the block `encoder` of the parameters; iGPT has no encoder.
        pretext: the block `pretext`.
        image_size: side of the pictures in pixels.

    Raises:
        UserError: one of them is missing, or the encoder can't be used.
    """
    if pretext.name != "igpt":
        check_encoder(encoder, image_size)
    if pretext.name in ("simclr", "vicreg"):
        # Imported late: it needs torch, which would delay the message for a mistyped name.
        from lymphocytosis.pretext.joint_embedding import import_lightly

        import_lightly(pretext.name)
