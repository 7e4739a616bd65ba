"""A pretrained model as plain values, and back."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lymphocytosis.encoders.autoencoder import AutoEncoder
from lymphocytosis.encoders.encoder import Encoder
from lymphocytosis.encoders.igpt import IGPT
from lymphocytosis.encoders.pooled import PooledEncoder
from lymphocytosis.errors import UserError, brief
from lymphocytosis.model_files import MISFITS, fill
from lymphocytosis.parameters import (
    JOINT_EMBEDDING,
    EncoderParameters,
    IgptParameters,
    ImageParameters,
    PretextParameters,
)

# Of models that were packed before these keys existed.
_UNTOLD = {"pool": ("mean",), "layers": (1,), "zooms": (1.0,)}

Embedder = AutoEncoder | PooledEncoder | IGPT

KINDS: dict[type[nn.Module], str] = {
    AutoEncoder: "autoencoder",
    PooledEncoder: "pooled",
    IGPT: "igpt",
}

# The blocks of `pretext` that belong to certain tasks only.
_OWN_BLOCKS = {
    "jitter": JOINT_EMBEDDING,
    "simclr": ("simclr",),
    "vicreg": ("vicreg",),
    "dino": ("dino",),
    "lejepa": ("lejepa",),
    "igpt": ("igpt",),
}


@dataclass(frozen=True)
class Origin:
    """Where a pretrained model's weights come from.

    Attributes:
        task: `pretext.name`.
        images: `pretext.images`, the pictures that it was trained on.
        weights: `encoder.weights`, the initial weights.
    """

    task: str
    images: str
    weights: str


def pack(
    embedder: type[Embedder],
    state: dict[str, Any],
    encoder: EncoderParameters,
    image: ImageParameters,
    pretext: PretextParameters,
    seed: int,
) -> dict[str, Any]:
    """Bundle a state dict with everything needed to rebuild and trace the model.

    Args:
        embedder: the model's class.
        state: the model's state dict.
        encoder: the block `encoder` of its parameters.
        image: the block `image`.
        pretext: the block `pretext`; other tasks' blocks are left out.
        seed: the run's seed.

    Returns:
        Tensors and plain values only.
    """
    others = {block for block, tasks in _OWN_BLOCKS.items() if pretext.name not in tasks}
    parameters = {
        "encoder": encoder.model_dump(mode="json"),
        "image": image.model_dump(mode="json"),
        "pretext": pretext.model_dump(mode="json", exclude=others),
        "seed": seed,
    }
    return {"kind": KINDS[embedder], "parameters": parameters, "state_dict": state}


def without_training(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only training needs: a decoder, and the path of initial weights.

    Args:
        checkpoint: what `pack` returned.

    Returns:
        A model with the same embeddings, to the bit, and another fingerprint if it was changed. Of
        a file of initial weights, the name remains.

    Raises:
        UserError: the values are no pretrained model's.
    """
    kind, state = _kind_of(checkpoint), checkpoint["state_dict"]
    try:
        encoder = dict(checkpoint["parameters"]["encoder"])
        encoder["weights"] = Path(encoder["weights"]).name
        if kind == KINDS[AutoEncoder]:
            kind = KINDS[PooledEncoder]
            kept = {name: v for name, v in state.items() if not name.startswith("decoder.")}
            # A 1x1 convolution as a linear layer; pictures are used as they are.
            narrow = {"narrow.weight": state["narrow.weight"].flatten(1)}
            state = kept | narrow | {"mean": torch.zeros(3, 1, 1), "std": torch.ones(3, 1, 1)}
    except MISFITS as error:
        raise _misfit(error) from error
    parameters = {**checkpoint["parameters"], "encoder": encoder}
    return {"kind": kind, "parameters": parameters, "state_dict": state}


def unpack(checkpoint: dict[str, Any]) -> tuple[Embedder, ImageParameters]:
    """Rebuild the model.

    Args:
        checkpoint: what `pack` returned.

    Returns:
        The model, in eval mode, and the block `image` of its parameters.

    Raises:
        UserError: this is not a pretrained model, or the values don't fit it.
    """
    kind, image = _kind_of(checkpoint), image_of(checkpoint)
    try:
        encoder = encoder_of(checkpoint)
        model: Embedder
        if kind == "igpt":
            igpt = IgptParameters.model_validate(checkpoint["parameters"]["pretext"]["igpt"])
            # Sizes come from the file: allocate no more memory than its weights take.
            with torch.device("meta"):
                model = IGPT(igpt, encoder.small_dim)
        elif kind == "autoencoder":
            model = AutoEncoder(Encoder(encoder.name, image.size), encoder.small_dim, image.size)
        else:
            model = PooledEncoder(Encoder(encoder.name, image.size), encoder, image.size)
        fill(model, checkpoint["state_dict"], assign=kind == "igpt")
    except MISFITS as error:
        raise _misfit(error) from error
    return model.eval(), image


def encoder_of(checkpoint: dict[str, Any]) -> EncoderParameters:
    """Read the block `encoder` of a pretrained model's parameters.

    Args:
        checkpoint: what `pack` returned.

    Returns:
        The block; of models that were packed before some of its keys existed, what they meant.

    Raises:
        ValueError: the values are no such block.
    """
    return EncoderParameters.model_validate(_UNTOLD | checkpoint["parameters"]["encoder"])


def image_of(checkpoint: dict[str, Any]) -> ImageParameters:
    """Read how the pictures of a pretrained model must be cropped and resized.

    Args:
        checkpoint: what `pack` returned.

    Returns:
        The block `image` of its parameters.

    Raises:
        UserError: the values are no pretrained model's.
    """
    _kind_of(checkpoint)
    try:
        return ImageParameters.model_validate(checkpoint["parameters"]["image"])
    except MISFITS as error:
        raise _misfit(error) from error


def fingerprint(checkpoint: dict[str, Any]) -> str:
    """Compute a digest that identifies a pretrained model by its weights and parameters.

    Args:
        checkpoint: what `pack` returned.

    Returns:
        A digest.

    Raises:
        UserError: the values are no pretrained model's.
    """
    _kind_of(checkpoint)
    try:
        digest = sha256(repr(checkpoint["parameters"]).encode())
        for name, value in checkpoint["state_dict"].items():
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().data)
    except MISFITS as error:
        raise _misfit(error) from error
    return digest.hexdigest()


def origin(checkpoint: dict[str, Any]) -> Origin:
    """Read where a pretrained model's weights come from.

    Args:
        checkpoint: what `pack` returned.

    Returns:
        The task, its pictures, and the initial weights.

    Raises:
        UserError: the values are no pretrained model's.
    """
    _kind_of(checkpoint)
    try:
        encoder = encoder_of(checkpoint)
        pretext = checkpoint["parameters"]["pretext"]
        # Not validated as a whole: `pack` leaves out the blocks of other tasks.
        if not isinstance(pretext["name"], str) or pretext["images"] not in ("all", "train"):
            raise ValueError("its parameters have no valid pretext.name or pretext.images")
    except MISFITS as error:
        raise _misfit(error) from error
    return Origin(pretext["name"], pretext["images"], encoder.weights)


def _kind_of(checkpoint: dict[str, Any]) -> str:
    kind = checkpoint.get("kind")
    if kind not in KINDS.values():
        raise UserError(
            "The catalog entry 'autoencoder' holds another kind of model. Run ssl_pretrain again."
        )
    return str(kind)


def _misfit(error: Exception) -> UserError:
    return UserError(
        f"The catalog entry 'autoencoder' can't be rebuilt: {brief(error)}. Run ssl_pretrain again."
    )


def check_same_pictures(pretrained: ImageParameters, stored: ImageParameters) -> None:
    """Refuse to embed pictures with another crop or size than those of pretraining.

    Args:
        pretrained: the block `image` of pretraining.
        stored: that of the image store.

    Raises:
        UserError: crop or size differ.
    """
    for key in ("source_size", "crop", "size"):
        then, now = getattr(pretrained, key), getattr(stored, key)
        if then != now:
            raise UserError(
                f"The encoder was pretrained with image.{key} = {then}, and the image store "
                f"has {now}. Run ingest with {then}, or ssl_pretrain again."
            )
