"""Train end to end, from pictures to diagnosis: the paper's bag-images baseline."""

from lymphocytosis.pipelines.bag_images.pipeline import create_pipeline

__all__ = ["create_pipeline"]
