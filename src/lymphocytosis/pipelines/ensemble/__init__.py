"""Combine each patient's predictions into decisions, and decisions into the results table."""

from lymphocytosis.pipelines.ensemble.pipeline import create_pipeline

__all__ = ["create_pipeline"]
