"""Read a cohort's table and pictures, and decode every picture once."""

from lymphocytosis.pipelines.ingest.pipeline import create_pipeline

__all__ = ["create_pipeline"]
