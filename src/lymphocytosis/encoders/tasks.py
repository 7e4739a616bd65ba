"""The pretext tasks that train something, each as the training loop takes it."""

import os
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.compute import drawing_from
from lymphocytosis.encoders.augment import flip_and_turn, jitter
from lymphocytosis.encoders.igpt import IGPT, build_igpt
from lymphocytosis.encoders.pooled import PooledEncoder, build_pooled_encoder
from lymphocytosis.encoders.pretrain import Task, build_autoencoder
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters, PretextParameters


def build_task(
    encoder: EncoderParameters,
    pretext: PretextParameters,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    seed: int,
) -> Task:
    """Build what `pretext.name` names, with its initial weights.

    Args:
        encoder: the block `encoder` of the parameters.
        pretext: the block `pretext`; its name is not `frozen`, which trains nothing.
        images: (n, S, S, 3) uint8, the image store.
        rows: (m,) rows of `images` that are trained on.
        seed: of all that is random at the start.

    Returns:
        The task.

    Raises:
        UserError: a model, its weights or lightly can't be had, or there are too few pictures.
    """
    size = images.shape[1]
    if pretext.name == "autoencoder":
        return autoencoder_task(build_autoencoder(encoder, size, seed), pretext)
    if pretext.name == "igpt":
        return igpt_task(build_igpt(pretext.igpt, encoder.small_dim, images, rows, seed))
    if len(rows) < 2:
        raise UserError(f"pretext.name {pretext.name!r} compares pictures, and there is only one.")
    return joint_embedding_task(build_pooled_encoder(encoder, size, seed), pretext, seed)


def autoencoder_task(autoencoder: nn.Module, pretext: PretextParameters) -> Task:
    """Reconstruct pictures (paper, section 2.1.1).

    Args:
        autoencoder: pictures in, pictures out.
        pretext: the block `pretext` of the parameters.

    Returns:
        The task.
    """

    def loss(model: nn.Module, views: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        (target,) = views
        return F.mse_loss(model(target), target, reduction=pretext.reduction)

    def show(model: nn.Module, pictures: Tensor, epoch: str) -> dict[str, Tensor]:
        return {epoch: model(pictures)}

    return Task(autoencoder, autoencoder, 1, loss, show)


def igpt_task(igpt: IGPT) -> Task:
    """Predict each pixel of a shrunk, quantised picture from those before it (paper, section 5).

    Args:
        igpt: the model, with its palette.

    Returns:
        The task. It shows quantised pictures, and each pixel's likeliest colour given the true
        pixels before it.
    """

    def loss(model: nn.Module, views: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        colours = igpt.quantise(views[0])
        return F.cross_entropy(model(colours).flatten(0, 1), colours.flatten())

    def show(model: nn.Module, pictures: Tensor, epoch: str) -> dict[str, Tensor]:
        colours = igpt.quantise(pictures)
        likeliest = model(colours).argmax(dim=2)
        drawn = {"quantised": igpt.draw(colours), f"predicted, {epoch}": igpt.draw(likeliest)}
        return {title: F.interpolate(d, size=pictures.shape[2:]) for title, d in drawn.items()}

    return Task(igpt, igpt, 1, loss, show)


class JointEmbedding(nn.Module):
    """An encoder and the projection head that only its training needs."""

    def __init__(self, pooled: PooledEncoder, head: nn.Module) -> None:
        """Put the two together.

        Args:
            pooled: gives the small embedding (B, small_dim).
            head: takes it.
        """
        super().__init__()
        self.pooled = pooled
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Project pictures to where views are compared.

        Args:
            images: (B, 3, H, W) float, in [0, 1].

        Returns:
            (B, the head's output width) float.
        """
        projected: Tensor = self.head(self.pooled.embed(images)[1])
        return projected


def joint_embedding_task(pooled: PooledEncoder, pretext: PretextParameters, seed: int) -> Task:
    """Bring two views of a picture together, and keep different pictures apart.

    SimCLR: Chen et al. 2020, A simple framework for contrastive learning of visual representations.
    VICReg: Bardes et al. 2022, Variance-invariance-covariance regularization. Loss and projection
    head are lightly's. The head stands on the small embedding, which so is trained too, and is not
    kept: what is left is a map of the same form as the autoencoder's.

    Args:
        pooled: the encoder, with its initial weights.
        pretext: the block `pretext` of the parameters.
        seed: of the head's weights.

    Returns:
        The task.

    Raises:
        UserError: lightly is not installed.
    """
    losses, heads = import_lightly(pretext.name)
    small_dim = pooled.narrow.out_features
    with drawing_from(seed):
        if pretext.name == "simclr":
            criterion = losses.NTXentLoss(pretext.simclr.temperature)
            widths = pretext.simclr.hidden_width, pretext.simclr.output_width
            head = heads.SimCLRProjectionHead(small_dim, *widths)
        else:
            vicreg = pretext.vicreg
            criterion = losses.VICRegLoss(vicreg.invariance, vicreg.variance, vicreg.covariance)
            head = heads.VICRegProjectionHead(small_dim, vicreg.hidden_width, vicreg.output_width)

    def loss(model: nn.Module, views: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        first, second = (model(jitter(view, pretext.jitter, generator)) for view in views)
        compared: Tensor = criterion(first, second)
        return compared

    def show(model: nn.Module, pictures: Tensor, epoch: str) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        drawn = {}
        for title in ("view 1", "view 2"):
            turned = flip_and_turn(
                pictures.permute(0, 2, 3, 1), pretext.upright_weight, generator
            ).permute(0, 3, 1, 2)
            drawn[title] = jitter(turned, pretext.jitter, generator)
        return drawn

    return Task(JointEmbedding(pooled, head), pooled, 2, loss, show)


def import_lightly(task: str) -> tuple[ModuleType, ModuleType]:
    """Import lightly where it is needed: it is an extra of its own.

    Args:
        task: `pretext.name`, for the message.

    Returns:
        Its modules of losses and of heads.

    Raises:
        UserError: it is not installed.
    """
    # Before 1.6, importing it asks its makers' server for a newer version, unless this is set.
    os.environ.setdefault("LIGHTLY_DID_VERSION_CHECK", "True")
    try:
        from lightly import loss
        from lightly.models.modules import heads
    except ImportError:
        raise UserError(
            f"pretext.name is {task!r}, whose loss is lightly's, and lightly is not installed: "
            "pip install 'lymphocytosis[ssl]'"
        ) from None
    return loss, heads
