"""Train five classifiers on each embedding."""

from lymphocytosis.pipelines.classify.pipeline import create_pipeline

__all__ = ["create_pipeline"]
