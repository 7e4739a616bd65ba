"""Where the GPU nodes run."""

import torch
from lightning_fabric import Fabric

from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ComputeParameters


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
