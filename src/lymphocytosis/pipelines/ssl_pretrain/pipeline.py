"""Wiring of the ssl_pretrain pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.resumable import resumable
from lymphocytosis.pipelines.ssl_pretrain.nodes import (
    plot_pretrain_history,
    plot_reconstructions,
    pretrain_encoder,
)


def create_pipeline() -> Pipeline:
    """Wire the image store to the pretrained encoder, its history and what it makes of pictures."""
    return pipeline(
        [
            node(
                resumable(pretrain_encoder, "autoencoder"),
                inputs=[
                    "cell_images",
                    "cells",
                    "patients",
                    "earlier_training",
                    "params:encoder",
                    "params:pretext",
                    "params:compute",
                    "params:seed",
                    "params:workspace",
                ],
                outputs=["autoencoder", "pretrain_history", "shown_pictures", "training"],
                name="pretrain_encoder",
                tags="gpu",
            ),
            node(
                plot_reconstructions,
                inputs=["shown_pictures", "cells", "patients", "params:pretext"],
                outputs="reconstructions",
                name="plot_reconstructions",
            ),
            node(
                plot_pretrain_history,
                inputs=["pretrain_history", "params:pretext"],
                outputs="pretrain_history_plot",
                name="plot_pretrain_history",
            ),
        ],
        namespace="ssl_pretrain",
        prefix_datasets_with_namespace=False,
        tags="ssl_pretrain",
    )
