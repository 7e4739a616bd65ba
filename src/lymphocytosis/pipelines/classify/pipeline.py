"""Wiring of the classify pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.classify.nodes import make_splits, plot_history, train_classifiers
from lymphocytosis.pipelines.resumable import resumable
from lymphocytosis.pipelines.sizes import SIZES, bind, select_size


def create_pipeline() -> Pipeline:
    """Wire embeddings and patients to five classifiers of each size."""
    return sum((_one_size(size) for size in SIZES), start=share_splits())


def share_splits() -> Pipeline:
    """Wire patients to splits.

    Returns:
        A pipeline of one node; the same wherever it is used, so that two uses join to one.
    """
    return pipeline(
        [
            node(
                make_splits,
                inputs=["patients", "supplied_splits", "params:splits", "params:seed"],
                outputs="splits",
                name="make_splits",
                namespace="classify",
            )
        ],
        tags=["classify", "bag_images"],
    )


def _one_size(size: str) -> Pipeline:
    return select_size(size) + pipeline(
        [
            node(
                resumable(train_classifiers, f"{size}_classifiers"),
                inputs=[
                    "size_embeddings",
                    "patients",
                    "splits",
                    "params:mil",
                    "params:compute",
                    "params:seed",
                    "params:workspace",
                ],
                outputs=["classifiers", "history"],
                name="train_classifiers",
                tags="gpu",
            ),
            node(
                bind(plot_history, models=f"{size} embedding"),
                inputs="history",
                outputs="history_plot",
                name="plot_history",
            ),
        ],
        namespace=f"classify.{size}",
        inputs={
            "size_embeddings": f"{size}_embeddings",
            "patients": "patients",
            "splits": "splits",
        },
        outputs={name: f"{size}_{name}" for name in ("classifiers", "history", "history_plot")},
        parameters={"params:mil", "params:compute", "params:seed", "params:workspace"},
        tags="classify",
    )
