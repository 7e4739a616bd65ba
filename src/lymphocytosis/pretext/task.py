"""What a pretext task is.

`pretext.name` names a module of this package. It has `LOSS`, the name of its loss in figures, and
`build`, which takes `TaskInputs` and returns the task with its initial weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lymphocytosis.encoders.checkpoint import Embedder
from lymphocytosis.encoders.pictures import Images
from lymphocytosis.parameters import EncoderParameters, PretextParameters

Loss = Callable[[nn.Module, Sequence[Tensor], torch.Generator], Tensor]
Show = Callable[[nn.Module, Tensor, str], dict[str, Tensor]]


@dataclass(frozen=True)
class Task:
    """A pretext task for the training loop.

    Attributes:
        module: what is trained.
        kept: the part of it that embeds; its weights are kept.
        views: the number of views of each picture per step, each flipped and turned separately. A
            task with more than one compares pictures: its views are jittered too.
        loss: takes the module, the views, each (B, 3, S, S) float in [0, 1], and the generator of
            all draws; returns the loss of a batch. None if nothing is trained. Where several
            processes train, it gets each one's pictures; but if the task compares pictures, what
            the module makes of them, (B, ...), is that of all.
        show: takes the module in eval mode, (k, 3, S, S) pictures and the epoch's name; returns
            what the task makes of them, (k, 3, S, S) float in [0, 1], by title.
        reduction: how `loss` makes one loss of those of pictures, if it doesn't compare them.
    """

    module: nn.Module
    kept: Embedder
    views: int
    loss: Loss | None
    show: Show
    reduction: Literal["mean", "sum"] = "mean"


class TaskInputs(NamedTuple):
    """What a task is built from: the arguments of `build_task`."""

    encoder: EncoderParameters
    pretext: PretextParameters
    images: Images
    rows: npt.NDArray[np.int64]
    seed: int


def build_task(
    encoder: EncoderParameters,
    pretext: PretextParameters,
    images: Images,
    rows: npt.NDArray[np.int64],
    seed: int,
) -> Task:
    """Build the task that `pretext.name` names, with its initial weights.

    Args:
        encoder: the block `encoder` of the parameters.
        pretext: the block `pretext`.
        images: (n, S, S, 3) uint8, the image store.
        rows: (m,) rows of `images` that are trained on.
        seed: of all that is random at the start.

    Returns:
        The task.

    Raises:
        UserError: no such model, weights or library, or there are too few pictures.
    """
    given = TaskInputs(encoder, pretext, images, rows, seed)
    task: Task = _module_of(pretext.name).build(given)
    return task


def name_of_loss(name: str) -> str:
    """Look up the name of a task's loss.

    Args:
        name: `pretext.name`.

    Returns:
        The label of a figure's axis.
    """
    return str(_module_of(name).LOSS)


def _module_of(name: str) -> ModuleType:
    return import_module(f"lymphocytosis.pretext.{name}")
