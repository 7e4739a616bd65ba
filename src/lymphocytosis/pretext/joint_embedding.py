"""What joint-embedding tasks share: they pull the embeddings of views of a picture together.

Their losses and projection heads are lightly's. The head takes the small embedding, which is thus
trained too. The head itself is not kept: the embeddings have the form of the autoencoder's.
"""

import os
from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from lymphocytosis.compute import drawing_from
from lymphocytosis.encoders.pooled import PooledEncoder, build_pooled_encoder
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import (
    LejepaParameters,
    PretextParameters,
    SimclrParameters,
    VicregParameters,
)
from lymphocytosis.pretext.augment import flip_and_turn, jitter
from lymphocytosis.pretext.task import Show, Task, TaskInputs


class JointEmbedding(nn.Module):
    """An encoder and the projection head, which is only used in training."""

    def __init__(self, pooled: PooledEncoder, head: nn.Module) -> None:
        """Put the two together.

        Args:
            pooled: gives the small embedding (B, small_dim).
            head: takes the small embedding.
        """
        super().__init__()
        self.pooled = pooled
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Project pictures into the space where views are compared.

        Args:
            images: (B, 3, H, W) float, in [0, 1].

        Returns:
            (B, the head's output width) float.
        """
        projected: Tensor = self.head(self.pooled.embed(images)[1])
        return projected


def joint_embedding_task(
    given: TaskInputs,
    head_class: Callable[[int, int, int], nn.Module],
    widths: SimclrParameters | VicregParameters | LejepaParameters,
    criterion: Callable[..., Tensor],
    views: int = 2,
) -> Task:
    """Build the task of a joint-embedding loss.

    Args:
        given: what every task is built from.
        head_class: the projection head; takes the widths of its input, hidden layer and output.
        widths: names the last two.
        criterion: the loss of the views' projections, each (B, width).
        views: how many views of each picture a step takes.

    Returns:
        The task. It shows two views.
    """
    encoder, pretext, images, _, seed = given
    pooled = build_pooled_encoder(encoder, images.shape[1], seed)
    with drawing_from(seed):
        head = head_class(encoder.small_dim, widths.hidden_width, widths.output_width)

    def loss(model: nn.Module, views: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        return criterion(*map(model, views))

    return Task(JointEmbedding(pooled, head), pooled, views, loss, show_views(pretext, seed))


def show_views(pretext: PretextParameters, seed: int) -> Show:
    """Build what shows two views of pictures.

    Args:
        pretext: the block `pretext` of the parameters.
        seed: of the views.

    Returns:
        A task's `show`.
    """

    def show(model: nn.Module, pictures: Tensor, epoch: str) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        drawn = {}
        for title in ("view 1", "view 2"):
            turned = flip_and_turn(
                pictures.permute(0, 2, 3, 1), pretext.upright_weight, generator
            ).permute(0, 3, 1, 2)
            drawn[title] = jitter(turned, pretext.jitter, generator)
        return drawn

    return show


def import_lightly(task: str) -> tuple[ModuleType, ModuleType]:
    """Import lightly, an optional dependency.

    Args:
        task: `pretext.name`, for the message.

    Returns:
        Its modules of losses and of heads.

    Raises:
        UserError: lightly is not installed.
    """
    # Without this, importing lightly before 1.6 contacts its makers' server.
    os.environ.setdefault("LIGHTLY_DID_VERSION_CHECK", "True")
    try:
        from lightly import loss
        from lightly.models.modules import heads
    except ImportError:
        raise UserError(
            f"pretext.name is {task!r}, which needs lightly, and lightly is not installed: "
            "pip install 'lymphocytosis[ssl]'"
        ) from None
    return loss, heads
