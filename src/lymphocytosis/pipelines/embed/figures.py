"""The embedding map."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lymphocytosis.figures import CLASSES, GREY, entitle, in_style
from lymphocytosis.imaging.measures import MEASURES, measure_pictures
from lymphocytosis.imaging.store import CellImages

Floats = npt.NDArray[np.float64]

# Enough to see groups; t-SNE of more would take longer than embedding a small cohort.
CELLS = 800
# Of the patients with a colour of their own; more of these can't be told apart.
_MARKERS = "os^DvP<>"
_OF_NAMED = 25


@in_style
def map_cells(
    embeddings: pa.Table,
    cells: pd.DataFrame,
    pixels: CellImages,
    patients: pd.DataFrame,
) -> Figure:
    """Draw cells by their large embedding, in two dimensions by PCA and by t-SNE.

    Source: van der Maaten and Hinton 2008, Visualizing data using t-SNE.

    Args:
        embeddings: patient_id, image_id, view, large, and others; those of the first view are
            taken.
        cells: tells which row of `pixels` is which cell.
        pixels: (n, S, S, 3) uint8, the image store.
        patients: patient_id, label, and others.

    Returns:
        The figure: a row a projection; columns coloured by patient, label and stain. At most
        `CELLS` cells are drawn, about as many of each patient.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    keys = embeddings.select(["patient_id", "image_id", "view"]).to_pandas()
    view = keys["view"].iloc[0]
    shown = keys[keys["view"] == view].sample(frac=1, random_state=0)
    names = np.unique(shown["patient_id"])
    named = names[np.unique(np.linspace(0, len(names) - 1, len(_MARKERS)).astype(int))]
    # Cells of the named first, then a cell of each patient in turn.
    turn = shown.groupby("patient_id").cumcount()
    turn[shown["patient_id"].isin(named) & (turn < _OF_NAMED)] = -1
    shown = shown.loc[turn.sort_values(kind="stable").index[:CELLS].sort_values()]
    large = embeddings["large"].take(shown.index.to_numpy())
    values = np.stack(large.to_numpy(zero_copy_only=False)).astype(np.float64)
    # One thread: sums in one order, so the same map every time, however many cores there are. To
    # scikit-learn's n_jobs the descent pays no attention.
    with threadpool_limits(1):
        pca = PCA(min(50, *values.shape)).fit(values)
        components = pca.transform(values)
        panels = {"PCA": np.pad(components, ((0, 0), (0, 1)))[:, :2]}
        if len(values) > 4:
            tsne = TSNE(perplexity=min(30, len(values) / 4), max_iter=500, random_state=0)
            panels["t-SNE"] = tsne.fit_transform(components)
    shown = shown.merge(cells[["patient_id", "image_id", "row"]]).merge(patients)
    stain = measure_pictures(pixels[shown["row"].to_numpy(dtype=np.int64)])
    stain = stain[:, MEASURES.index("nucleus_stain")]
    least, most = np.percentile(stain, [2, 98])
    figure = Figure(figsize=(10.5, 3.6 * len(panels) + 1))
    grid = figure.subplots(len(panels), 3, squeeze=False)
    shares = [*pca.explained_variance_ratio_, 0][:2]
    for axes, (title, at) in zip(grid, panels.items(), strict=True):
        _colour_by_patient(axes[0], at, shown["patient_id"], named)
        _colour_by_label(axes[1], at, shown["label"])
        points = axes[2].scatter(
            at[:, 0], at[:, 1], s=9, c=stain, cmap="cividis_r", vmin=least, vmax=most
        )
        for axis, by in zip(axes, ("patient", "label", "stain"), strict=True):
            axis.set(title=f"{title}, by {by}", xticks=[], yticks=[])
            if title == "PCA":
                axis.set_xlabel(f"component 1 ({shares[0]:.0%} of the variance)")
                axis.set_ylabel(f"component 2 ({shares[1]:.0%})")
    for axis in grid[-1, :2]:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3, markerscale=1.5)
    label = "optical density of the nucleus, green"
    figure.colorbar(points, ax=list(grid[:, 2]), extend="both", shrink=0.6, label=label)
    entitle(
        figure,
        f"Where cells are in the large embedding ({values.shape[1]} values)",
        f"{len(shown)} of {(keys['view'] == view).sum()} cells, of {shown['patient_id'].nunique()} "
        f"patients; view: {view}. In t-SNE, distances between groups mean nothing.",
    )
    return figure


def _colour_by_patient(
    axis: Axes, at: Floats, patient: "pd.Series[str]", named: Sequence[str]
) -> None:
    others = ~patient.isin(named)
    axis.scatter(
        at[others, 0], at[others, 1], s=4, color=GREY, alpha=0.35, linewidth=0, label="others"
    )
    for marker, name in zip(_MARKERS, named, strict=False):
        axis.scatter(
            at[patient == name, 0],
            at[patient == name, 1],
            s=18,
            marker=marker,
            alpha=0.85,
            label=name,
        )


def _colour_by_label(axis: Axes, at: Floats, label: "pd.Series[int]") -> None:
    for value, (name, (colour, marker)) in zip((0, 1, None), CLASSES.items(), strict=True):
        chosen = (label.isna() if value is None else label == value).to_numpy(
            dtype=bool, na_value=False
        )
        if chosen.any():
            axis.scatter(
                at[chosen, 0],
                at[chosen, 1],
                s=11,
                color=colour,
                marker=marker,
                alpha=0.7,
                label=name,
            )
