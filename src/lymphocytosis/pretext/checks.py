"""What a pretext task needs, refused before any work where it is not there."""

from lymphocytosis.encoders.checks import check_encoder
from lymphocytosis.parameters import EncoderParameters, PretextParameters


def check_task(encoder: EncoderParameters, pretext: PretextParameters, image_size: int) -> None:
    """Refuse a task whose encoder, weights or library is not there.

    Args:
        encoder: the block `encoder` of the parameters; iGPT has no encoder.
        pretext: the block `pretext`.
        image_size: side of the pictures in pixels.

    Raises:
        UserError: one of them is not there, or the encoder can't be used.
    """
    if pretext.name != "igpt":
        check_encoder(encoder, image_size)
    if pretext.name in ("simclr", "vicreg"):
        # Only here: it imports torch, which an answer to a mistyped name must not wait for.
        from lymphocytosis.pretext.joint_embedding import import_lightly

        import_lightly(pretext.name)
