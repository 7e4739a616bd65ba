"""Wiring of the bag_images pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.bag_images.nodes import (
    predict_from_pictures,
    train_picture_classifiers,
)
from lymphocytosis.pipelines.classify.nodes import plot_history
from lymphocytosis.pipelines.classify.pipeline import share_splits
from lymphocytosis.pipelines.decisions import compare, decide
from lymphocytosis.pipelines.resumable import resumable
from lymphocytosis.pipelines.sizes import bind


def create_pipeline() -> Pipeline:
    """Wire the image store and patients to five models, decisions and a table of results."""
    nodes = [
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
            outputs=["pictures_classifiers", "pictures_history"],
            name="train_picture_classifiers",
            tags="gpu",
        ),
        node(
            bind(plot_history, models="pictures, end to end"),
            inputs="pictures_history",
            outputs="pictures_history_plot",
            name="plot_history",
        ),
        node(
            predict_from_pictures,
            inputs=[
                "pictures_classifiers",
                "cell_images",
                "cells",
                "patients",
                "splits",
                "params:views",
                "params:compute",
            ],
            outputs=[
                "pictures_predictions",
                "pictures_out_of_fold",
                "pictures_cell_contributions",
            ],
            name="predict_from_pictures",
            tags="gpu",
        ),
        *decide("pictures"),
        compare({"pictures": "bag-images"}, outputs="bag_images_results"),
    ]
    return share_splits() + pipeline(
        nodes, namespace="bag_images", prefix_datasets_with_namespace=False, tags="bag_images"
    )
