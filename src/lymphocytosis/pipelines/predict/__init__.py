"""Diagnose new patients by a bundle."""

from lymphocytosis.pipelines.predict.pipeline import create_pipeline

__all__ = ["create_pipeline"]
