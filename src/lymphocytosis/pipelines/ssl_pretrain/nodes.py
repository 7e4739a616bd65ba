"""Nodes of the ssl_pretrain pipeline.

Encoders are imported inside the nodes: registering pipelines must not wait for torch.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from lymphocytosis.imaging.store import CellImages, check_same_ingest
from lymphocytosis.parameters import (
    ComputeParameters,
    EncoderParameters,
    PretextParameters,
)

SHOWN = 4  # pictures in the reconstruction figure


def pretrain_autoencoder(
    cell_images: CellImages,
    cells: pd.DataFrame,
    patients: pd.DataFrame,
    encoder: EncoderParameters,
    pretext: PretextParameters,
    compute: ComputeParameters,
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, npt.NDArray[np.uint8]]]:
    """Train the autoencoder (paper, sections 2.1.1 and 3.1).

    Args:
        cell_images: uint8 (n, S, S, 3).
        cells: tells which rows are whose.
        patients: tells who is a training patient.
        encoder: the block `encoder` of the parameters.
        pretext: the block `pretext`.
        compute: the block `compute`.
        seed: of weights, order, flips and turns.

    Returns:
        The packed state dict; the loss of each epoch; and (k, S, S, 3) pictures to show: the
        originals, and their reconstructions at each of the two epochs.
    """
    from lymphocytosis.encoders.checkpoint import pack
    from lymphocytosis.encoders.pretrain import build_autoencoder, pretrain

    check_same_ingest(cells, cell_images)
    rows = rows_for_pretext(cells, patients, pretext.images)
    # Spread over the rows, and so over patients.
    shown = rows[np.linspace(0, len(rows) - 1, min(SHOWN, len(rows)), dtype=int)]
    trained = pretrain(
        build_autoencoder(encoder, cell_images.image.size, seed),
        cell_images,
        rows,
        shown,
        pretext,
        compute,
        seed,
    )
    pictures = {"original": np.array(cell_images[shown])}
    pictures |= {f"epoch {epoch}": drawn for epoch, drawn in trained.reconstructions.items()}
    packed = pack(trained.state, encoder, cell_images.image, pretext, seed)
    return packed, trained.history, pictures


def rows_for_pretext(
    cells: pd.DataFrame, patients: pd.DataFrame, images: str
) -> npt.NDArray[np.int64]:
    """Choose the pictures that the pretext task sees.

    Args:
        cells: patient_id, row, and others.
        patients: patient_id, subset, and others.
        images: all, or train for training patients only.

    Returns:
        (m,) rows of the image store, ascending.
    """
    taken = cells[cells["row"].notna()]
    if images == "train":
        of_train = patients.loc[patients["subset"] == "train", "patient_id"]
        taken = taken[taken["patient_id"].isin(of_train)]
    return np.sort(taken["row"].to_numpy(dtype=np.int64))


def plot_reconstructions(shown_pictures: dict[str, npt.NDArray[np.uint8]]) -> Figure:
    """Draw originals above their reconstructions at two epochs (paper, figures 3 and 4).

    Args:
        shown_pictures: (k, S, S, 3) pictures for each row of the figure.

    Returns:
        The figure.
    """
    k = len(shown_pictures["original"])
    figure = Figure(figsize=(1.8 * k, 1.9 * len(shown_pictures)), layout="constrained")
    axes = figure.subplots(len(shown_pictures), k, squeeze=False)
    for row, (title, pictures) in zip(axes, shown_pictures.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(title)
    return figure


def plot_pretrain_history(pretrain_history: pd.DataFrame) -> Figure:
    """Draw the loss of each epoch.

    Args:
        pretrain_history: epoch, loss.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot(pretrain_history["epoch"], pretrain_history["loss"])
    axis.set(xlabel="epoch", ylabel="reconstruction loss", yscale="log")
    return figure
