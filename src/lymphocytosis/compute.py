"""Where the GPU nodes run, and what they draw."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch
from lightning_fabric import Fabric

from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ComputeParameters

_GLOBAL_GENERATOR = RLock()


def start_fabric(compute: ComputeParameters) -> Fabric:
    """Choose device and precision by Lightning Fabric.

    Args:
        compute: the block `compute` of the parameters.

    Returns:
        A Fabric on the CPU or on one GPU.

    Raises:
        UserError: the accelerator asked for is not there.
    """
    has_gpu = torch.cuda.is_available()
    if compute.accelerator == "cuda" and not has_gpu:
        raise UserError("compute.accelerator is 'cuda', and torch sees no GPU. Use auto or cpu.")
    accelerator = "cuda" if has_gpu and compute.accelerator != "cpu" else "cpu"
    return Fabric(accelerator=accelerator, devices=1, precision=compute.precision)


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let the body draw from torch's one global generator, as if it were its own.

    Model builders draw from it, and so do dropout and drop path of some encoders. What others draw
    is left as it was; other threads' bodies wait.

    Args:
        seed: of all draws.
    """
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
