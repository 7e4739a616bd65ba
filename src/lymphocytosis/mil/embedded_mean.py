"""The special embedding and the mean of each bag as one step, for training on a CPU.

Run one after the other, the linear layer, BatchNorm, ReLU and mean read and write the matrix of
all embedded instances a dozen times per step, in newly allocated memory each time. Here there is
one such matrix, and each bag stays in the processor's cache until it is done. The matrix products
are the same.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def embedded_mean(special_embedding: nn.Sequential, instances: Tensor, size: list[int]) -> Tensor:
    """Embed instances in train mode, and average each bag (paper, equations 9 and 10).

    BatchNorm's running statistics are updated, as its own forward would do.

    Args:
        special_embedding: a linear layer, BatchNorm, ReLU.
        instances: (n, D) float, bag by bag, on the CPU; n is at least 2.
        size: (b,) the number of instances of each bag, at least 1.

    Returns:
        (b, W) float, what `special_embedding` and `mean_of_bags` give.
    """
    linear: Any = special_embedding[0]
    norm: Any = special_embedding[1]
    norm.num_batches_tracked += 1
    momentum = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    running = norm.running_mean, norm.running_var, momentum
    learned = linear.weight, linear.bias, norm.weight, norm.bias
    pooled: Tensor = _EmbeddedMean.apply(instances, size, *learned, norm.eps, *running)
    return pooled


class _EmbeddedMean(torch.autograd.Function):
    """For instance j of bag i, with N_i instances in bag i and n in all bags.

    y_ij = (W x_ij - m) / s, with m and s the mean and standard deviation of W x over all n,
    p_i = 1/N_i sum_j relu(g y_ij + h).

    Backward, with d_i the gradient of p_i over N_i, and o_ij = 1 where g y_ij + h > 0, else 0:

    dh = sum_i d_i sum_j o_ij and dg = sum_i d_i sum_j o_ij y_ij,
    d(W x_ij) = g/s (o_ij d_i - (dh + y_ij dg) / n).

    The two sums over j need no gradient, so forward computes them while the bag is in cache.
    """

    @staticmethod
    def forward(
        ctx: Any,
        instances: Tensor,
        size: list[int],
        weight: Tensor,
        bias: Tensor,
        g: Tensor,
        h: Tensor,
        eps: float,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
    ) -> Tensor:
        y = instances @ weight.t()  # (n, W)
        m, variance = torch.batch_norm_update_stats(y, running_mean, running_var, momentum)
        running_mean.add_(bias, alpha=momentum)  # all that a bias before BatchNorm changes
        by_s = (variance + eps).rsqrt()
        shift = -m * by_s
        pooled, on, on_y = (y.new_empty(len(size), len(g)) for _ in range(3))
        for i, y_i in enumerate(y.split(size)):
            torch.addcmul(shift, y_i, by_s, out=y_i)
            out = torch.addcmul(h, y_i, g).relu_()
            torch.mean(out, dim=0, out=pooled[i])
            o = out.sign_()
            torch.sum(o, dim=0, out=on[i])
            torch.sum(o.mul_(y_i), dim=0, out=on_y[i])
        ctx.save_for_backward(instances, weight, g, h, by_s, y, on, on_y)
        ctx.size = size
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        instances, weight, g, h, by_s, y, on, on_y = ctx.saved_tensors
        d = gradient / torch.tensor(ctx.size, dtype=y.dtype)[:, None]  # (b, W)
        dh, dg = (d * on).sum(dim=0), (d * on_y).sum(dim=0)
        g_by_s = g * by_s
        if_on, of_y, always = d * g_by_s, -g_by_s * dg / len(y), -g_by_s * dh / len(y)
        # Overwrites y; torch refuses a second backward, since y has changed.
        for i, y_i in enumerate(y.split(ctx.size)):
            o = torch.addcmul(h, y_i, g).relu_().sign_()
            torch.addcmul(always, y_i, of_y, out=y_i).addcmul_(o, if_on[i])
        of_instances = y @ weight if ctx.needs_input_grad[0] else None
        of_bias = torch.zeros_like(h)  # BatchNorm cancels the bias
        return of_instances, None, y.t() @ instances, of_bias, dg, dh, None, None, None, None
