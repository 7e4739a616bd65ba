"""Encoders with random weights: what they cost does not depend on the values."""

from lymphocytosis.parameters import EncoderParameters


def plain_encoder(name: str, small_dim: int) -> EncoderParameters:
    """Parameters of an encoder whose last feature map is averaged.

    Args:
        name: a timm model.
        small_dim: width of the small embedding.

    Returns:
        The block `encoder`.
    """
    return EncoderParameters(
        name=name, weights="random", small_dim=small_dim, pool=("mean",), layers=(1,), zooms=(1.0,)
    )
