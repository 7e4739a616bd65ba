"""Nodes of the ssl_pretrain pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import Any

from lymphocytosis.errors import UserError
from lymphocytosis.figures import entitle, in_style
from lymphocytosis.parameters import (
    ComputeParameters,
    EncoderParameters,
    PretextParameters,
)
from lymphocytosis.pipelines.late import CellImages, Figure, np, npt, pd, store
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)

SHOWN = 4  # pictures in the reconstruction figure


def pretrain_encoder(
    cell_images: CellImages,
    cells: pd.DataFrame,
    patients: pd.DataFrame,
    earlier_training: dict[str, Any] | None,
    encoder: EncoderParameters,
    pretext: PretextParameters,
    compute: ComputeParameters,
    seed: int,
    progress: Progress,
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, npt.NDArray[np.uint8]], dict[str, Any]]:
    """Train on the pretext task; the paper's is an autoencoder (sections 2.1.1 and 3.1).

    Args:
        cell_images: uint8 (n, S, S, 3).
        cells: tells which rows are whose.
        patients: tells who is a training patient.
        earlier_training: the last returned value of a run before this one; if it trained for fewer
            epochs, and all else is the same, this one goes on from there.
        encoder: the block `encoder` of the parameters.
        pretext: the block `pretext`.
        compute: the block `compute`.
        seed: of weights, order, flips, turns and all else that is drawn.
        progress: where each epoch is kept until the run ends well.

    Returns:
        The packed state dict; the loss of each epoch; (k, S, S, 3) pictures to show: the originals,
        and what the task makes of them; and what a longer training needs to go on from here.
    """
    from lymphocytosis.distributed import share
    from lymphocytosis.encoders.checkpoint import pack
    from lymphocytosis.encoders.weights import fingerprint
    from lymphocytosis.pretext.task import build_task
    from lymphocytosis.pretext.training import pretrain

    store.check_same_ingest(cells, cell_images)
    rows = rows_for_pretext(cells, patients, pretext.images)
    shown = rows_to_show(rows)
    task = build_task(encoder, pretext, cell_images, rows, seed)
    fixed = {
        "the pictures": store.fingerprint(cell_images),
        "which pictures are trained on": sha256(rows.tobytes()).hexdigest(),
        "the parameters encoder": encoder,
        "the file of weights": fingerprint(encoder),
        # A smaller batch for embedding is no reason to pretrain anew.
        "the parameters compute": (compute.accelerator, compute.precision),
        "the parameter seed": seed,
    }
    progress.begin({**fixed, "the parameters pretext": pretext})
    as_before = sha256(repr((fixed, pretext.model_dump(exclude={"epochs"}))).encode()).hexdigest()
    earlier = None
    if earlier_training and earlier_training["of"] == as_before:
        epochs = len(earlier_training["state"]["losses"])
        if epochs < pretext.epochs:
            logger.info("pretraining goes on from a finished training of %d epochs", epochs)
            earlier = earlier_training["state"]
    owner = pd.factorize(cells.set_index("row").loc[rows, "patient_id"])[0]
    if (processes := compute.nodes * compute.processes) > 1:
        if task.loss is not None and pretext.batch_size < 2 * processes:
            raise UserError(
                f"pretext.batch_size is {pretext.batch_size}, which {processes} processes share: "
                f"give {2 * processes} or more, or fewer compute.processes."
            )
        if earlier and not progress.has_values("epoch"):
            progress.save_values("epoch", earlier)
        job = {
            "encoder": encoder.model_dump(),
            "pretext": pretext.model_dump(),
            "compute": compute.model_dump(),
            "seed": seed,
            "pixels": str(cell_images.folder),
            "rows": rows,
            "shown": shown,
            "owner": owner,
        }
        share("autoencoder", progress, job, compute)
    trained = pretrain(
        task, cell_images, rows, shown, pretext, compute, seed, progress, owner, earlier
    )
    packed = pack(type(task.kept), trained.state, encoder, cell_images.image, pretext, seed)
    training = {"of": as_before, "state": trained.training} if trained.training else {}
    return packed, trained.history, trained.shown, training


def rows_for_pretext(
    cells: pd.DataFrame, patients: pd.DataFrame, images: str
) -> npt.NDArray[np.int64]:
    """Choose the pictures that the pretext task sees.

    Args:
        cells: patient_id, row, and others.
        patients: patient_id, subset, and others; pictures of other patients are not seen.
        images: all, or train for training patients only.

    Returns:
        (m,) rows of the image store, ascending.
    """
    chosen = patients if images == "all" else patients[patients["subset"] == "train"]
    taken = cells[cells["row"].notna() & cells["patient_id"].isin(chosen["patient_id"])]
    return np.sort(taken["row"].to_numpy(dtype=np.int64))


def rows_to_show(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Choose the pictures of the figure, spread over the rows, and so over patients.

    Args:
        rows: as `rows_for_pretext` returns them.

    Returns:
        (k,) of them; k is at most `SHOWN`.
    """
    return rows[np.linspace(0, len(rows) - 1, min(SHOWN, len(rows)), dtype=int)]


@in_style
def plot_reconstructions(
    shown_pictures: dict[str, npt.NDArray[np.uint8]],
    cells: pd.DataFrame,
    patients: pd.DataFrame,
    pretext: PretextParameters,
) -> Figure:
    """Draw originals above what the task makes of them (paper, figures 3 and 4).

    That is: the autoencoder's reconstructions at two epochs, with their errors; two views as
    joint-embedding tasks compare them; the pictures as `igpt` quantises them, and at two epochs the
    likeliest colour of each pixel, given the true pixels before it; nothing for `frozen`.

    Args:
        shown_pictures: (k, S, S, 3) pictures for each row of the figure.
        cells: tells which rows are whose.
        patients: tells who is a training patient.
        pretext: the block `pretext` of the parameters.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    shown = rows_to_show(rows_for_pretext(cells, patients, pretext.images))
    whose = cells.dropna(subset="row").set_index("row")[["patient_id", "image_id"]].loc[shown]
    original = shown_pictures["original"] / 255
    figure = Figure(figsize=(1.8 * len(shown) + 0.4, 2.05 * len(shown_pictures) + 0.7))
    axes = figure.subplots(len(shown_pictures), len(shown), squeeze=False)
    for row, (title, pictures) in zip(axes, shown_pictures.items(), strict=True):
        for axis, picture, true in zip(row, pictures, original, strict=True):
            axis.imshow(picture)
            axis.grid(visible=False)
            axis.set(xticks=[], yticks=[])
            if pretext.name == "autoencoder" and title != "original":
                axis.set_xlabel(f"error {((picture / 255 - true) ** 2).mean():.4f}")
        row[0].set_ylabel(title, weight="bold")
    for axis, (patient, image) in zip(axes[0], whose.itertuples(index=False), strict=True):
        axis.set_title(f"{patient}, {image}", fontsize=8)
    note = "Above each column: the patient and the picture."
    if pretext.name == "autoencoder":
        note += "\nError: mean squared difference of pixel values between 0 and 1."
    entitle(figure, f"What pretraining makes of pictures: {pretext.name}", note)
    return figure


@in_style
def plot_pretrain_history(pretrain_history: pd.DataFrame, pretext: PretextParameters) -> Figure:
    """Draw the loss of each epoch.

    Args:
        pretrain_history: epoch, loss; no rows where nothing was trained.
        pretext: the block `pretext` of the parameters.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    from lymphocytosis.pretext.task import name_of_loss

    figure = Figure(figsize=(5.2, 3.4))
    axis = figure.subplots()
    # A line through one point can't be seen.
    marker = "o" if len(pretrain_history) == 1 else None
    axis.plot(pretrain_history["epoch"], pretrain_history["loss"], marker=marker)
    axis.set(xlabel="epoch", ylabel=name_of_loss(pretext.name))
    axis.locator_params("x", integer=True, min_n_ticks=1)
    if len(pretrain_history):
        axis.set_yscale("log")
    else:
        axis.set(xticks=[], yticks=[])
    of = "all patients" if pretext.images == "all" else "training patients"
    note = f"Mean over the epoch's batches; pictures of {of}."
    entitle(figure, f"Training of the encoder: {pretext.name}", note)
    return figure
