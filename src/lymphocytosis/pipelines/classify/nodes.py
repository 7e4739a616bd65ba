"""Nodes of the classify pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

from typing import Any

from lymphocytosis.parameters import ComputeParameters, MilParameters, SplitParameters
from lymphocytosis.pipelines.late import Figure, pa, pd
from lymphocytosis.pipelines.sizes import fingerprint
from lymphocytosis.progress import Progress


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
    return train_suite(bags, patients, splits, mil, seed, start_fabric(compute), progress)


def plot_history(history: pd.DataFrame) -> Figure:
    """Draw each classifier's loss and balanced accuracies.

    Args:
        history: split, epoch, loss, balanced accuracies, kept.

    Returns:
        The figure: a row a split, where a dot marks the epoch kept; or, where nothing was trained
        for more than one epoch, one row for all splits.
    """
    from matplotlib.figure import Figure

    if history["epoch"].max() == 1:
        figure = Figure(figsize=(9, 3), layout="constrained")
        loss_axis, score_axis = figure.subplots(1, 2)
        names = history["split"].astype(str)
        loss_axis.plot(names, history["loss"], "o", color="C0")
        loss_axis.set(ylabel="loss", ylim=(0, 1.1 * history["loss"].max()))
        for part, style in (("train", "s"), ("validation", "o")):
            score_axis.plot(names, history[f"{part}_balanced_accuracy"], style, label=part)
        score_axis.set(ylabel="balanced accuracy", ylim=(0, 1.05))
        score_axis.legend(loc="lower right")
        for axis in (loss_axis, score_axis):
            axis.set_xlabel("split")
        return figure
    splits = history.groupby("split")
    figure = Figure(figsize=(9, 2.1 * len(splits)), layout="constrained")
    axes = figure.subplots(len(splits), 2, squeeze=False, sharex=True)
    for (loss_axis, score_axis), (split, rows) in zip(axes, splits, strict=True):
        loss_axis.plot(rows["epoch"], rows["loss"])
        loss_axis.set(ylabel=f"split {split}\nloss", yscale="log")
        for part, style in (("train", "--"), ("validation", "-")):
            score_axis.plot(rows["epoch"], rows[f"{part}_balanced_accuracy"], style, label=part)
        kept = rows[rows["kept"]]
        score_axis.plot(kept["epoch"], kept["validation_balanced_accuracy"], "o", label="kept")
        score_axis.set(ylabel="balanced accuracy", ylim=(0, 1.05))
    axes[0, 1].legend(loc="lower right")
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    return figure
