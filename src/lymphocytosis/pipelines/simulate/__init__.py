"""Draw a cohort in the challenge's layout."""

from lymphocytosis.pipelines.simulate.pipeline import create_pipeline

__all__ = ["create_pipeline"]
