"""Embed every cell in every view."""

from lymphocytosis.pipelines.embed.pipeline import create_pipeline

__all__ = ["create_pipeline"]
