"""Checks before any work that the encoder can be used."""

from importlib.util import find_spec

from lymphocytosis.encoders.names import check_name, family_of
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import PACKAGED_WEIGHTS, EncoderParameters


def check_encoder(parameters: EncoderParameters, image_size: int) -> None:
    """Refuse an encoder that can't be used, or weights that don't fit it.

    Args:
        parameters: the block `encoder` of the parameters.
        image_size: side of the pictures in pixels.

    Raises:
        UserError: no such model, it can't be used, or its weights are missing or don't fit.
    """
    check_name(parameters.name)
    # Importing torch takes seconds. The paper's family accepts pictures of any size, and the
    # weights of a package fit their model.
    packaged = parameters.weights == "package" and find_spec(PACKAGED_WEIGHTS[parameters.name])
    fits = packaged or parameters.weights == "random"
    if fits and family_of(parameters.name) == "efficientnet":
        return
    import torch

    from lymphocytosis.encoders.encoder import Encoder
    from lymphocytosis.encoders.weights import initial_state

    with torch.device("meta"):  # shapes without values
        encoder = Encoder(parameters.name, image_size)
    initial_state(parameters, encoder.model, image_size)


def check_plain(parameters: EncoderParameters, who: str) -> None:
    """Refuse pooling, layers or zooms where they would have no effect.

    Args:
        parameters: the block `encoder` of the parameters.
        who: does not use them, for the message.

    Raises:
        UserError: one of them differs from what is used.
    """
    given = (parameters.pool, parameters.layers, parameters.zooms)
    if given != (("mean",), (1,), (1.0,)):
        pool, layers, zooms = ("[" + ", ".join(map(str, values)) + "]" for values in given)
        raise UserError(
            f"{who} uses the mean of the last layer, of the whole picture. Set encoder.pool to "
            f"[mean], encoder.layers to [1] and encoder.zooms to [1.0]; they are {pool}, {layers} "
            f"and {zooms}."
        )
