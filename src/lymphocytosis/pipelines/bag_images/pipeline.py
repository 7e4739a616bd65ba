"""Wiring of the bag_images pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.bag_images.nodes import (
    predict_from_pictures,
    tabulate_bag_images,
    train_picture_classifiers,
)
from lymphocytosis.pipelines.classify.nodes import plot_history
from lymphocytosis.pipelines.classify.pipeline import share_splits
from lymphocytosis.pipelines.ensemble.nodes import (
    apply_sa_rule,
    average_predictions,
    compute_statistics,
    make_submission,
)
from lymphocytosis.pipelines.resumable import resumable

_MADE = (
    "classifiers", "history", "history_plot", "predictions", "out_of_fold", "cell_weights",
    "statistics", "avg", "sa",
)  # fmt: skip


def create_pipeline() -> Pipeline:
    """Wire the image store and patients to five models, decisions and a table of results."""
    return share_splits() + pipeline(
        [
            node(
                resumable(train_picture_classifiers, "pictures_classifiers"),
                inputs=[
                    "cell_images",
                    "cells",
                    "patients",
                    "splits",
                    "params:encoder",
                    "params:mil",
                    "params:bag_images",
                    "params:views",
                    "params:compute",
                    "params:seed",
                    "params:workspace",
                ],
                outputs=["classifiers", "history"],
                name="train_picture_classifiers",
                tags="gpu",
            ),
            node(plot_history, inputs="history", outputs="history_plot", name="plot_history"),
            node(
                predict_from_pictures,
                inputs=[
                    "classifiers",
                    "cell_images",
                    "cells",
                    "patients",
                    "splits",
                    "params:views",
                    "params:compute",
                ],
                outputs=["predictions", "out_of_fold", "cell_weights"],
                name="predict_from_pictures",
                tags="gpu",
            ),
            node(
                compute_statistics,
                inputs="predictions",
                outputs="statistics",
                name="compute_statistics",
            ),
            node(
                average_predictions, inputs="statistics", outputs="avg", name="average_predictions"
            ),
            node(
                apply_sa_rule,
                inputs=["statistics", "params:ensemble"],
                outputs="sa",
                name="apply_sa_rule",
            ),
            node(make_submission, inputs="avg", outputs="submission_avg", name="submit_avg"),
            node(make_submission, inputs="sa", outputs="submission_sa", name="submit_sa"),
            node(
                tabulate_bag_images,
                inputs=["patients", "avg", "sa", "out_of_fold", "params:ensemble"],
                outputs="bag_images_results",
                name="tabulate_bag_images",
            ),
        ],
        namespace="bag_images",
        inputs={name: name for name in ("cell_images", "cells", "patients", "splits")},
        outputs={name: f"pictures_{name}" for name in _MADE}
        | {f"submission_{rule}": f"submission_pictures_{rule}" for rule in ("avg", "sa")}
        | {"bag_images_results": "bag_images_results"},
        parameters={
            f"params:{block}"
            for block in (
                "encoder",
                "mil",
                "bag_images",
                "views",
                "compute",
                "ensemble",
                "seed",
                "workspace",
            )
        },
        tags="bag_images",
    )
