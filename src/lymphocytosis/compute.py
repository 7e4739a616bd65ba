"""Where the GPU nodes run, what they draw, their batches, and whether their losses are numbers."""

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import RLock

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ComputeParameters

logger = logging.getLogger(__name__)

_GLOBAL_GENERATOR = RLock()


def start_fabric(compute: ComputeParameters, together: bool = False) -> Fabric:
    """Choose device and precision by Lightning Fabric.

    Args:
        compute: the block `compute` of the parameters.
        together: train together with the other processes of torch's elastic agent.

    Returns:
        A Fabric on the CPU or on one GPU. On a CPU bf16-mixed stands for 16-mixed, with a warning.

    Raises:
        UserError: the requested accelerator is missing.
    """
    has_gpu = torch.cuda.is_available()
    if compute.accelerator == "cuda" and not has_gpu:
        raise UserError("compute.accelerator is 'cuda', and torch sees no GPU. Use auto or cpu.")
    accelerator = "cuda" if has_gpu and compute.accelerator != "cpu" else "cpu"
    precision = compute.precision
    if accelerator == "cpu" and precision == "16-mixed":
        precision = "bf16-mixed"
        logger.warning("compute.precision is 16-mixed, which a CPU can't do: it uses bf16-mixed.")
    if not together:
        devices = [torch.cuda.current_device()] if accelerator == "cuda" else 1
        return Fabric(accelerator=accelerator, devices=devices, precision=precision)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    wait = timedelta(seconds=compute.rendezvous_timeout)
    fabric = Fabric(
        accelerator=accelerator,
        devices=here,
        num_nodes=int(os.environ["WORLD_SIZE"]) // here,
        # Of a task, an encoder may leave weights unused, and is called once for each view.
        strategy=DDPStrategy(static_graph=True, broadcast_buffers=False, timeout=wait),
        precision=precision,
    )
    fabric.launch()
    return fabric


def in_batches(numbers: npt.NDArray[np.int64], batch_size: int) -> list[npt.NDArray[np.int64]]:
    """Cut bags or pictures into batches; a last batch of one is merged into the one before.

    BatchNorm can't train on a single value, as of a bag of one cell or of a pooled picture; and
    some pretext tasks compare the pictures of a batch.

    Args:
        numbers: (n,) indices of bags or pictures.
        batch_size: how many make a batch; with 1 nothing is merged.

    Returns:
        The batches, in order.
    """
    batches = np.split(numbers, range(batch_size, len(numbers), batch_size))
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Seed torch's global generator for the body, and restore it afterwards.

    Model builders draw from it, and so do dropout and drop path of some encoders. Only one thread
    is in such a body at a time.

    Args:
        seed: of all draws.
    """
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def finite_losses(losses: Tensor, epoch: int, trained: str, rate: str) -> npt.NDArray[np.float64]:
    """Look at the losses of an epoch's batches; rarely, for on a GPU each look waits for it.

    Args:
        losses: (k,) one number a batch.
        epoch: from 1.
        trained: what is trained.
        rate: the parameters that a user may lower.

    Returns:
        (k,) float64.

    Raises:
        UserError: a loss is no finite number; the message names epoch and batch.
    """
    of_batches = losses.double().cpu().numpy()
    if not np.isfinite(of_batches).all():
        wrong = int(np.flatnonzero(~np.isfinite(of_batches))[0])
        raise UserError(
            f"Training {trained} stopped: the loss of epoch {epoch}, batch {wrong + 1} is "
            f"{of_batches[wrong]}. Lower {rate}; if compute.precision is not 32-true, set it so."
        )
    return of_batches


# Of glibc's mallopt. Where it sets its thresholds by itself, they rise to these.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MOST = 2**31 - 1
_BY_DEFAULT = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Have the process keep the memory that it frees, until the body ends.

    glibc gives large blocks back at once. A training step on a CPU frees and takes gigabytes of
    them, and the kernel clears each page anew: two fifths of a step's processor time. Other C
    libraries can't be asked.
    """
    ask = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if ask is None:
        yield
        return
    ask(_MMAP_MAX, 0)
    ask(_TRIM_THRESHOLD, _MOST)
    try:
        yield
    finally:
        for option, value in _BY_DEFAULT.items():
            ask(option, value)
        give_memory_back()


def give_memory_back() -> None:
    """Give memory that is no longer used back to the system.

    In a thread, glibc keeps freed memory between the pieces in use, and takes more for the next
    piece of another size: of a thousand patients, each small, two gigabytes. Asking takes less than
    a millisecond. Other C libraries can't be asked.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
