"""Which recipe, and how good is the best of them? A choice inside each fold, judged outside it."""

from lymphocytosis.pipelines.choose.pipeline import create_pipeline

__all__ = ["create_pipeline"]
