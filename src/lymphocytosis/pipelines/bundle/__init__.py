"""Put a trained system into one folder, to be carried to other machines."""

from lymphocytosis.pipelines.bundle.pipeline import create_pipeline

__all__ = ["create_pipeline"]
