"""The evaluations of many workspaces in one table."""

from lymphocytosis.pipelines.collect.pipeline import create_pipeline

__all__ = ["create_pipeline"]
