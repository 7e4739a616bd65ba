"""Reading the image store batch by batch, for the network."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Pixels = npt.NDArray[np.uint8]


class Images(Protocol):
    """Pictures, (n, S, S, 3) uint8: an array, or the image store."""

    @property
    def shape(self) -> tuple[int, ...]:
        """That is (n, S, S, 3)."""
        ...

    @property
    def nbytes(self) -> int:
        """The bytes of all pictures."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: npt.NDArray[np.int64] | slice, /) -> Pixels: ...


# Of a GPU's free memory, for the store. 16,711 pictures of 224x224 are 2.5 GB.
SHARE_OF_MEMORY = 0.25
_COPIED_AT_ONCE = 1024


class Pictures:
    """The image store as a network reads it; a GPU with enough memory holds all of it.

    Attributes:
        device: where batches are needed.
        resident: (n, S, S, 3) uint8 on the GPU, or None if batches are read from the store.
    """

    def __init__(self, images: Images, device: torch.device) -> None:
        """Copy the store to the GPU if it fits.

        Args:
            images: (n, S, S, 3) uint8, the image store.
            device: where batches are needed.
        """
        self.images = images
        self.device = device
        self.resident: Tensor | None = None
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if images.nbytes <= SHARE_OF_MEMORY * free:
                self.resident = torch.empty(images.shape, dtype=torch.uint8, device=device)
                for start in range(0, len(images), _COPIED_AT_ONCE):
                    part = np.array(images[start : start + _COPIED_AT_ONCE])
                    self.resident[start : start + len(part)] = torch.from_numpy(part)

    def read(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Read a batch.

        Args:
            rows: (b,) rows of the store.

        Returns:
            (b, S, S, 3) uint8 on the device, without waiting for a GPU.
        """
        if self.resident is not None:
            return self.resident[on_device(torch.from_numpy(rows), self.device)]
        return on_device(torch.from_numpy(self.images[rows]), self.device)


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Move a tensor from the CPU to a device.

    Args:
        values: any, on the CPU.
        device: the device.

    Returns:
        The values on the device. Pinned memory lets the copy run while a GPU computes.
    """
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def to_unit(pixels: Tensor) -> Tensor:
    """Convert stored pictures to the input of the networks.

    Args:
        pixels: (B, H, W, 3) uint8, 0 to 255.

    Returns:
        (B, 3, H, W) float32, 0 to 1.
    """
    return pixels.permute(0, 3, 1, 2).float().div(255)
