"""Write the report on a cohort: one HTML page."""

from lymphocytosis.pipelines.report.pipeline import create_pipeline

__all__ = ["create_pipeline"]
