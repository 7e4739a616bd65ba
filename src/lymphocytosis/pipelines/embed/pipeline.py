"""Wiring of the embed pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.embed.nodes import (
    embed_cells,
    export_encoder,
    plot_embedding_map,
)
from lymphocytosis.pipelines.resumable import resumable


def create_pipeline() -> Pipeline:
    """Wire the image store and the autoencoder to the embeddings and a map of them."""
    return pipeline(
        [
            node(
                export_encoder,
                inputs=["autoencoder", "earlier_graph", "params:compute"],
                outputs="encoder_graph",
                name="export_encoder",
            ),
            node(
                resumable(embed_cells, "embeddings"),
                inputs=[
                    "cell_images",
                    "autoencoder",
                    "encoder_graph",
                    "params:views",
                    "params:compute",
                    "params:workspace",
                ],
                outputs="embeddings",
                name="embed_cells",
                tags="gpu",
            ),
            node(
                plot_embedding_map,
                inputs=["embeddings", "cells", "cell_images", "patients"],
                outputs="embedding_map",
                name="plot_embedding_map",
            ),
        ],
        namespace="embed",
        prefix_datasets_with_namespace=False,
        tags="embed",
    )
