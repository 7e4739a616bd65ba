"""Wiring of the collect pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.collect.nodes import collect_evaluations


def create_pipeline() -> Pipeline:
    """Wire the evaluations of all workspaces in `runs_dir` to one table."""
    return pipeline(
        [
            node(
                collect_evaluations,
                inputs="evaluations",
                outputs="all_evaluations",
                name="collect_evaluations",
            )
        ],
        namespace="collect",
        prefix_datasets_with_namespace=False,
        tags="collect",
    )
