"""Pretraining without labels (paper, sections 2.1.1 and 3.1): one loop for all tasks."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lymphocytosis.compute import (
    drawing_from,
    finite_losses,
    in_batches,
    keeping_memory,
    start_fabric,
)
from lymphocytosis.display import numbered, working
from lymphocytosis.encoders.encoder import Encoder
from lymphocytosis.encoders.pictures import Images, Pictures, Pixels, to_unit
from lymphocytosis.errors import UserError
from lymphocytosis.model_files import not_finite
from lymphocytosis.parameters import ComputeParameters, PretextParameters
from lymphocytosis.pretext.augment import flip_and_turn, jitter
from lymphocytosis.pretext.task import Loss, Task
from lymphocytosis.pretext.together import share_of, total
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)

# Batches between checks of the losses: each check waits for a GPU.
_LOOK = 50


@dataclass(frozen=True)
class Pretraining:
    """The result of pretraining.

    Attributes:
        state: the kept weights, on the CPU.
        history: one row per epoch: epoch, loss (mean over batches).
        shown: (k, S, S, 3) uint8 pictures by title: originals, and what the task makes of them at
            the early and the last epoch.
        training: all that a longer training needs to go on from here; empty if the task trains
            nothing.
    """

    state: dict[str, Tensor]
    history: pd.DataFrame
    shown: dict[str, Pixels]
    training: dict[str, Any]


def pretrain(
    task: Task,
    images: Images,
    rows: npt.NDArray[np.int64],
    shown: npt.NDArray[np.int64],
    pretext: PretextParameters,
    compute: ComputeParameters,
    seed: int,
    progress: Progress,
    owner: npt.NDArray[np.int64] | None = None,
    earlier: dict[str, Any] | None = None,
    together: bool = False,
) -> Pretraining:
    """Train on a pretext task; after a killed run, resume after its last finished epoch.

    Args:
        task: the task, with its initial weights.
        images: (n, S, S, 3) uint8, the image store.
        rows: (m,) rows of `images` that are trained on.
        shown: (k,) rows of `images` for the figure.
        pretext: the block `pretext` of the parameters.
        compute: the block `compute` of the parameters.
        seed: of the order of pictures and their augmentation.
        progress: where each epoch is saved: weights, optimiser state, random state.
        owner: (m,) the number of each row's patient; for `pretext.patients_per_batch`.
        earlier: the `training` of a shorter pretraining that was the same in all else; it goes on
            from there, to the same bits as in one go.
        together: whether the elastic agent's processes train together; the first saves the epochs.

    Returns:
        Weights, history and pictures to show; no epochs if the task trains nothing.

    Raises:
        UserError: the loss or a weight is not finite; the last good epoch stays saved. Or there is
            one picture, and the task compares pictures.
    """
    pictures = {"original": np.array(images[shown])}
    if task.loss is None:
        history = pd.DataFrame({"epoch": np.empty(0, np.int64), "loss": np.empty(0)})
        return Pretraining(_copy_of_state(task.kept), history, pictures, {})
    if task.views > 1 and len(rows) < 2:
        raise UserError(f"pretext.name {pretext.name!r} compares pictures, and there is only one.")
    fabric = start_fabric(compute, together)
    kept = progress.values("epoch") or earlier
    if kept:
        task.module.load_state_dict(kept["module"])
    if fabric.device.type == "cpu":
        # The same steps up to one and a half times faster; not measured on a GPU in fp32.
        task.module.to(memory_format=torch.channels_last)
    _fix_first(task.module, pretext.fixed_share)
    trained = [weight for weight in task.module.parameters() if weight.requires_grad]
    # fused: the same update in one pass over the weights.
    optimizer = torch.optim.Adam(trained, lr=pretext.learning_rate, fused=True)
    model, optimizer = fabric.setup(task.module, optimizer)
    store = Pictures(images, fabric.device)
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    best: dict[str, Tensor] = {}
    if kept:
        optimizer.load_state_dict(kept["optimizer"])
        generator.set_state(kept["generator"])
        losses, best = kept["losses"], kept["best"]
        pictures = {title: drawn.numpy() for title, drawn in kept["pictures"].items()}
        logger.info("pretraining goes on after epoch %d of %d", len(losses), pretext.epochs)

    epoch_of = numbered("epoch", pretext.epochs, len(rows))

    # For the line of progress: the mean loss of the last epoch, later of the last batches seen.
    recent = losses[-1] if losses else None

    def at_work(done: int) -> str:
        return epoch_of(done) if recent is None else f"{epoch_of(done)}, loss {recent:.4g}"

    todo = pretext.epochs * len(rows)
    with keeping_memory(), working("pretraining", todo, "pictures", at_work) as work:
        work.resume(len(losses) * len(rows))
        for epoch in range(len(losses) + 1, pretext.epochs + 1):
            batches = [rows[batch] for batch in _batches(len(rows), owner, pretext, generator)]
            # One seed per epoch: encoders with random layers draw the same after a resume.
            with drawing_from(seed + 1_000_003 * epoch):
                steps = _steps(
                    task, task.loss, model, optimizer, fabric, store, batches, pretext, generator
                )
                # One tensor: many small ones would fragment the memory.
                of_batches = torch.empty(len(batches), device=fabric.device)
                for done, loss in enumerate(steps, start=1):
                    of_batches[done - 1] = loss
                    work.advance(len(batches[done - 1]))
                    # Each check waits for a GPU.
                    if done % _LOOK == 0 or (loss.is_cpu and not loss.isfinite()):
                        seen = finite_losses(
                            of_batches[:done], epoch, "the encoder", "pretext.learning_rate"
                        )
                        recent = float(seen[-_LOOK:].mean())
            of_all = finite_losses(of_batches, epoch, "the encoder", "pretext.learning_rate")
            losses.append(float(of_all.mean()))
            recent = losses[-1]
            _check_weights(task.module, epoch)
            logger.info("pretraining: epoch %d of %d, loss %.4g", epoch, pretext.epochs, losses[-1])
            if pretext.keep == "best" and losses[-1] == min(losses):
                best = _copy_of_state(task.kept)
            if epoch == pretext.early_epoch:
                pictures |= _show(task, model, fabric, pictures["original"], epoch)
            kept = {
                "module": task.module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "losses": losses,
                "best": best,
                "pictures": {title: torch.from_numpy(drawn) for title, drawn in pictures.items()},
            }
            if fabric.is_global_zero:
                progress.save_values("epoch", kept)
    return Pretraining(
        state=best or _copy_of_state(task.kept),
        history=pd.DataFrame({"epoch": range(1, pretext.epochs + 1), "loss": losses}),
        shown=pictures | _show(task, model, fabric, pictures["original"], pretext.epochs),
        training=kept or {},
    )


def _encoders_of(module: nn.Module) -> list[Encoder]:
    """The encoder within a task's module; of DINO, the teacher's and the student's."""
    return [part for part in module.modules() if isinstance(part, Encoder)]


def _fix_first(module: nn.Module, share: float) -> None:
    """Exclude the first layers of the encoder from training, up to a share of its weights."""
    for encoder in _encoders_of(module):
        weights = list(encoder.parameters())
        most, fixed = share * sum(weight.numel() for weight in weights), 0
        for weight in weights:
            fixed += weight.numel()
            if fixed <= most:
                weight.requires_grad_(False)


def _batches(
    n: int,
    owner: npt.NDArray[np.int64] | None,
    pretext: PretextParameters,
    generator: torch.Generator,
) -> list[npt.NDArray[np.int64]]:
    """Draw an epoch's batches of places 0 to n - 1, each once."""
    order = torch.randperm(n, generator=generator).numpy()
    if not pretext.patients_per_batch:
        return in_batches(order, pretext.batch_size)
    if owner is None:
        raise ValueError("pretext.patients_per_batch needs to know whose the pictures are")
    # Equal parts of each patient's cells, in random order; so many of them make a batch.
    each = max(1, pretext.batch_size // pretext.patients_per_batch)
    parts = []
    for patient in np.unique(owner):
        own = order[owner[order] == patient]
        parts += np.array_split(own, -(-len(own) // each))
    batches: list[npt.NDArray[np.int64]] = []
    count = 0
    for number in torch.randperm(len(parts), generator=generator).tolist():
        # A batch of one picture has nothing to compare.
        if batches and (count % pretext.patients_per_batch or len(batches[-1]) == 1):
            batches[-1] = np.concatenate([batches[-1], parts[number]])
        else:
            batches.append(parts[number])
            count = 0
        count += 1
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


def _steps(
    task: Task,
    loss_of: Loss,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fabric: Fabric,
    pictures: Pictures,
    batches: Sequence[npt.NDArray[np.int64]],
    pretext: PretextParameters,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """Take a training step for each batch of rows; yield its loss, on the device."""
    model.train()
    if pretext.batch_norm == "fixed":
        for encoder in _encoders_of(task.module):
            for layer in encoder.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()
    for batch in batches:
        share = share_of(len(batch), fabric)
        pixels = pictures.read(batch[share.own])
        views = [
            to_unit(flip_and_turn(pixels, pretext.upright_weight, generator, share.size, share.own))
            for _ in range(task.views)
        ]
        if task.views > 1:
            views = [
                jitter(view, pretext.jitter, generator, share.size, share.own) for view in views
            ]
        with share.statistics(pretext.batch_norm):
            loss = share.loss(task, loss_of, model, views, generator)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        loss = loss.detach()
        yield total(loss) / fabric.world_size if fabric.world_size > 1 else loss


def _check_weights(model: nn.Module, epoch: int) -> None:
    # A finite loss may have an infinite gradient, which no later loss shows in the last batch.
    if (name := not_finite(model.state_dict())) is not None:
        raise UserError(
            f"Pretraining stopped: after epoch {epoch} the weight {name} has values that are not "
            "finite. Lower pretext.learning_rate, or set compute.precision to 32-true."
        )


def _copy_of_state(model: torch.nn.Module) -> dict[str, Tensor]:
    # Copies, which don't keep the trained module alive.
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }


@torch.inference_mode()
def _show(
    task: Task, model: nn.Module, fabric: Fabric, originals: Pixels, epoch: int
) -> dict[str, Pixels]:
    model.eval()
    pictures = to_unit(fabric.to_device(torch.from_numpy(originals)))
    return {
        title: drawn.float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        for title, drawn in task.show(model, pictures, f"epoch {epoch}").items()
    }
