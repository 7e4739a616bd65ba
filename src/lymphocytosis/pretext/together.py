"""Several processes take one training step: each has its part of the batch.

The gradients' mean over processes, which DDP makes, is that of the whole batch's loss.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lymphocytosis.pretext.task import Loss, Task


class Share(NamedTuple):
    """What a process has of a batch.

    Attributes:
        size: pictures in the batch, of all processes.
        own: this process's pictures of the batch.
        processes: how many have a part of it; 1 if each has all of it.
    """

    size: int
    own: slice
    processes: int

    def loss(
        self,
        task: Task,
        loss_of: Loss,
        model: nn.Module,
        views: list[Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """Compute a loss whose mean over processes is that of the whole batch.

        Args:
            task: the pretext task.
            loss_of: its loss.
            model: what is trained.
            views: of this process's pictures.
            generator: of all draws.

        Returns:
            A scalar.
        """
        if self.processes == 1:
            return loss_of(model, views, generator)
        # Parts may differ in size, and what a task draws must not lead the processes apart.
        generator = generator.clone_state()
        if task.views > 1:  # it compares pictures, so each process takes those of all
            return loss_of(_OfAll(model, self), views, generator)
        weight = self.processes * (self.own.stop - self.own.start) / self.size
        if task.reduction == "sum":
            weight = self.processes
        return weight * loss_of(model, views, generator)

    def statistics(self, batch_norm: str) -> AbstractContextManager[Any]:
        """Let BatchNorms take the whole batch's statistics, where `pretext.batch_norm` says so."""
        apart = self.processes == 1 or batch_norm == "per_process"
        return nullcontext() if apart else _OneBatchNorm()


def share_of(size: int, fabric: Fabric) -> Share:
    """Give this process its part of a batch.

    Args:
        size: pictures in the batch.
        fabric: of this process.

    Returns:
        The part. A batch with fewer than two pictures for each process is not split: all have all
        of it, since BatchNorm can't train on a single value.
    """
    count, rank = fabric.world_size, fabric.global_rank
    if count == 1 or size < 2 * count:
        return Share(size, slice(0, size), 1)
    return Share(size, slice(size * rank // count, size * (rank + 1) // count), count)


class _OfAll(nn.Module):
    """A model whose outputs are those of the whole batch, in its order."""

    def __init__(self, model: nn.Module, share: Share) -> None:
        super().__init__()
        self.model, self.share = model, share

    def forward(self, pictures: Any) -> Tensor:
        own: Tensor = self.model(pictures)
        before, after = self.share.own.start, self.share.size - self.share.own.stop
        # Of unequal parts, which all_gather doesn't take.
        return total(F.pad(own, (0, 0) * (own.dim() - 1) + (before, after)))


class _Total(torch.autograd.Function):
    """The sum over processes; torch's own is deprecated."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return total(gradients[0])


def total(values: Tensor) -> Tensor:
    """Add values up over all processes.

    Args:
        values: of this process; of one shape in all.

    Returns:
        The sums; gradients of all processes flow back.
    """
    summed: Tensor = _Total.apply(values)
    return summed


class _OneBatchNorm(TorchFunctionMode):
    """Replaces what BatchNorms in training compute; torch's SyncBatchNorm needs a GPU."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if function is F.batch_norm and named.get("training", len(args) > 5 and args[5]):
            return _batch_norm(*args, **named)
        return function(*args, **named)


def _batch_norm(
    values: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` over the values of all processes."""
    over = [0, *range(2, values.dim())]
    shape = (1, -1, *(1 for _ in over[1:]))
    exact = values.float()
    count = exact.new_full((1,), exact.numel() // exact.shape[1])
    sums = total(torch.cat([exact.sum(over), count]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    apart = exact - mean.view(shape)
    variance = total(apart.square().sum(over)) / count
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean.detach(), momentum)
        running_var.lerp_(variance.detach() * count / (count - 1), momentum)
    scaled = apart * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        scaled = scaled * weight.view(shape)
    if bias is not None:
        scaled = scaled + bias.view(shape)
    return scaled.to(values.dtype)
