"""Join each patient's predictions to decisions, and decisions to the results table."""

from lymphocytosis.pipelines.ensemble.pipeline import create_pipeline

__all__ = ["create_pipeline"]
