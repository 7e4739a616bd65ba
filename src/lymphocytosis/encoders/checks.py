"""What a run asks of an encoder, refused before any work where it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lymphocytosis.encoders.names import check_name
from lymphocytosis.parameters import EncoderParameters

if TYPE_CHECKING:
    from lymphocytosis.encoders.encoder import Encoder


def check_encoder(parameters: EncoderParameters, image_size: int) -> Encoder:
    """Refuse, before any work, an encoder that can't be used or weights that don't fit it.

    Args:
        parameters: the block `encoder` of the parameters.
        image_size: side of the pictures in pixels.

    Returns:
        The encoder on torch's meta device: shapes without values.

    Raises:
        UserError: no such model, it can't be used, or its weights are not there or don't fit.
    """
    check_name(parameters.name)
    # Only here: importing torch takes seconds, which a mistyped name must not wait for.
    import torch

    from lymphocytosis.encoders.encoder import Encoder
    from lymphocytosis.encoders.weights import initial_state

    with torch.device("meta"):
        encoder = Encoder(parameters.name, image_size)
    initial_state(parameters, encoder.model, image_size)
    return encoder
