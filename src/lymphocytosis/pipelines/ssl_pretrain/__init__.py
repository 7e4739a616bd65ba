"""Train the encoder on pictures without labels."""

from lymphocytosis.pipelines.ssl_pretrain.pipeline import create_pipeline

__all__ = ["create_pipeline"]
