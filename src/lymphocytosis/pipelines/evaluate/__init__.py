"""Does the picture add anything? Nested cross-validation against clinical values alone."""

from lymphocytosis.pipelines.evaluate.pipeline import create_pipeline

__all__ = ["create_pipeline"]
