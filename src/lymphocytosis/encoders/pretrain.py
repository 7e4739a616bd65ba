"""Training the autoencoder on pictures without labels (paper, sections 2.1.1 and 3.1)."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from lymphocytosis.compute import start_fabric
from lymphocytosis.encoders.augment import flip_and_turn
from lymphocytosis.encoders.autoencoder import AutoEncoder, to_unit
from lymphocytosis.encoders.encoder import build_encoder
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ComputeParameters, EncoderParameters, PretextParameters

logger = logging.getLogger(__name__)

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pretraining:
    """What a pretraining gives.

    Attributes:
        state: the kept weights, on the CPU.
        history: a row an epoch: epoch, loss (the batches' mean, reduced as the parameter says).
        reconstructions: for the early and the last epoch, (k, S, S, 3) uint8 drawings of the
            pictures that are shown.
    """

    state: dict[str, Tensor]
    history: pd.DataFrame
    reconstructions: dict[int, Images]


def build_autoencoder(encoder: EncoderParameters, image_size: int, seed: int) -> AutoEncoder:
    """Build the autoencoder; the same seed gives the same random weights.

    Args:
        encoder: the block `encoder` of the parameters.
        image_size: side of the pictures in pixels.
        seed: of the random weights.

    Returns:
        The autoencoder, in train mode.
    """
    # Model builders draw from torch's one global generator; what others draw is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoEncoder(build_encoder(encoder, image_size), encoder.small_dim, image_size)


def pretrain(
    autoencoder: AutoEncoder,
    images: Images,
    rows: npt.NDArray[np.int64],
    shown: npt.NDArray[np.int64],
    pretext: PretextParameters,
    compute: ComputeParameters,
    seed: int,
) -> Pretraining:
    """Train the autoencoder to reconstruct pictures.

    Args:
        autoencoder: with its initial weights.
        images: (n, S, S, 3) uint8, the image store.
        rows: (m,) rows of `images` that are trained on.
        shown: (k,) rows of `images` that are reconstructed for the figure.
        pretext: the block `pretext` of the parameters.
        compute: the block `compute` of the parameters.
        seed: of the order of pictures and their flips and turns.

    Returns:
        Weights, history and reconstructions.

    Raises:
        UserError: the loss is no longer a finite number.
    """
    fabric = start_fabric(compute)
    # Fused: the same update in one pass over the weights.
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=pretext.learning_rate, fused=True)
    model, optimizer = fabric.setup(autoencoder, optimizer)
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    best: dict[str, Tensor] = {}
    reconstructions = {}
    for epoch in range(1, pretext.epochs + 1):
        model.train()
        order = torch.from_numpy(rows)[torch.randperm(len(rows), generator=generator)]
        batches = order.split(pretext.batch_size)
        total = torch.zeros((), device=fabric.device)
        # disable=None: no bar where there is no terminal.
        for batch in tqdm(batches, f"epoch {epoch}/{pretext.epochs}", leave=False, disable=None):
            pixels = flip_and_turn(
                torch.from_numpy(images[batch.numpy()]), pretext.upright_weight, generator
            )
            target = to_unit(fabric.to_device(pixels))
            loss = F.mse_loss(model(target), target, reduction=pretext.reduction)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            total += loss.detach()
        losses.append(_finite(float(total) / len(batches), epoch))
        logger.info("pretraining: epoch %d of %d, loss %.6g", epoch, pretext.epochs, losses[-1])
        if pretext.keep == "best" and losses[-1] == min(losses):
            best = _copy_of_state(autoencoder)
        if epoch in (min(pretext.early_epoch, pretext.epochs), pretext.epochs):
            reconstructions[epoch] = _reconstruct(model, fabric, images[shown])
    return Pretraining(
        state=best or _copy_of_state(autoencoder),
        history=pd.DataFrame({"epoch": range(1, pretext.epochs + 1), "loss": losses}),
        reconstructions=reconstructions,
    )


def _finite(loss: float, epoch: int) -> float:
    if not np.isfinite(loss):
        raise UserError(
            f"Pretraining stopped: the loss of epoch {epoch} is {loss}. "
            "Lower pretext.learning_rate, or set compute.precision to 32-true."
        )
    return loss


def _copy_of_state(model: torch.nn.Module) -> dict[str, Tensor]:
    # A plain dict of tensors of their own: nothing of the trained module is kept alive.
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


@torch.inference_mode()
def _reconstruct(model: torch.nn.Module, fabric: Fabric, pictures: Images) -> Images:
    model.eval()
    drawn = model(to_unit(fabric.to_device(torch.from_numpy(np.asarray(pictures)))))
    return drawn.float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
