"""Nodes of the classify pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

from lymphocytosis.figures import DARK, entitle, in_style
from lymphocytosis.parameters import ComputeParameters, MilParameters, SplitParameters
from lymphocytosis.pipelines.late import Figure, pa, pd
from lymphocytosis.pipelines.sizes import fingerprint
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)


def make_splits(
    patients: pd.DataFrame,
    supplied_splits: pd.DataFrame | None,
    splits: SplitParameters,
    seed: int,
) -> pd.DataFrame:
    """Draw the splits, or take the user's (paper, section 3.3).

    Args:
        patients: patient_id, subset, label, and others.
        supplied_splits: the user's own table, or None.
        splits: the block `splits` of the parameters.
        seed: of the draw.

    Returns:
        split, patient_id, role.
    """
    from lymphocytosis.mil.splits import draw_splits, take_supplied_splits

    if splits.source == "supplied":
        return take_supplied_splits(supplied_splits, patients)
    return draw_splits(patients, splits, seed)


def train_classifiers(
    embeddings: pa.Table,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    mil: MilParameters,
    compute: ComputeParameters,
    seed: int,
    progress: Progress,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train a classifier for each split (paper, section 3.2).

    Args:
        embeddings: patient_id, image_id, view, embedding: one of the two sizes.
        patients: labels and clinical values.
        splits: split, patient_id, role.
        mil: the block `mil` of the parameters.
        compute: the block `compute`.
        seed: of weights, dropout and the order of bags.
        progress: where each finished classifier is saved until the run ends well.

    Returns:
        The packed state dicts; and the history of each classifier.
    """
    from lymphocytosis.compute import start_fabric
    from lymphocytosis.distributed import share
    from lymphocytosis.mil.bags import gather_bags
    from lymphocytosis.mil.splits import check_splits
    from lymphocytosis.mil.suite import train_suite

    check_splits(splits, patients)
    bags = gather_bags(embeddings, patients)
    progress.begin(
        {
            "the embeddings": fingerprint(embeddings),
            "the table of patients": patients.to_csv(),
            "the splits": splits.to_csv(),
            "the parameters mil": mil,
            "the parameters compute": compute,
            "the parameter seed": seed,
        }
    )
    fabric = start_fabric(compute)
    on_gpus = compute.processes > 1 and fabric.device.type == "cuda"
    # On one machine's cores, threads do as much as processes.
    if compute.nodes > 1 or on_gpus:
        job = {
            # Training needs no names of pictures.
            **{f.name: getattr(bags, f.name) for f in fields(bags) if f.name != "image_id"},
            "patients": patients[["patient_id"]].to_dict("list"),
            "splits": splits.to_dict("list"),
            "mil": mil.model_dump(),
            "compute": compute.model_dump(),
            "seed": seed,
        }
        share(progress.title, progress, job, compute)
    elif compute.processes > 1:
        logger.info("%s: threads, and not processes, share the cores", progress.title)
    return train_suite(bags, patients, splits, mil, seed, fabric, progress)


@in_style
def plot_history(history: pd.DataFrame, models: str) -> Figure:
    """Draw each classifier's loss and balanced accuracies.

    Args:
        history: split, epoch, loss, balanced accuracies, kept.
        models: what was trained, for the title: large, small or pictures.

    Returns:
        The figure: a column a split, where a ring marks the epoch kept; or, where nothing was
        trained for more than one epoch, one column for all splits.
    """
    from matplotlib.figure import Figure

    at_once = history["epoch"].max() == 1
    x = "split" if at_once else "epoch"
    columns = (
        {"all splits": history}
        if at_once
        else {f"split {split!s}": rows for split, rows in history.groupby("split")}
    )
    figure = Figure(figsize=(max(5, 2.2 * len(columns)), 4.6))
    axes = figure.subplots(2, len(columns), squeeze=False, sharex=True, sharey="row")
    for (loss_axis, score_axis), (title, rows) in zip(axes.T, columns.items(), strict=True):
        # A line through one point can't be seen.
        points = at_once or len(rows) == 1
        loss_axis.plot(rows[x], rows["loss"], "o" if points else "-")
        loss_axis.set_title(title)
        for part, point, line in (("train", "s", "--"), ("validation", "o", "-")):
            scores = rows[f"{part}_balanced_accuracy"]
            score_axis.plot(rows[x], scores, point if points else line, label=part)
        kept = rows[rows["kept"]]
        if not at_once:
            score_axis.plot(
                kept["epoch"], kept["validation_balanced_accuracy"], "o", color=DARK, mfc="none",
                markersize=9, label="kept",
            )  # fmt: skip
        score_axis.set(xlabel=x, ylim=(0, 1.05))
        score_axis.locator_params("x", integer=True)
    # A regression's losses lie close together; those of epochs span powers of ten.
    axes[0, 0].set(ylabel="loss (cross-entropy, nats)", yscale="linear" if at_once else "log")
    axes[1, 0].set(ylabel="balanced accuracy")
    axes[1, 0].legend(loc="lower right")
    entitle(
        figure,
        f"Training of the classifiers: {models}",
        "Validation: over bags of the split's validation patients, after the epoch. Train: of the "
        "predictions made while training.",
    )
    return figure
