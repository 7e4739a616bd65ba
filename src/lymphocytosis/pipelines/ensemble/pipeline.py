"""Wiring of the ensemble pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.ensemble.nodes import (
    apply_sa_rule,
    average_predictions,
    compute_statistics,
    make_submission,
    predict,
    tabulate_results,
)
from lymphocytosis.pipelines.sizes import SIZES, select_size


def create_pipeline() -> Pipeline:
    """Wire classifiers and embeddings to decisions, submissions and the results table."""
    results = pipeline(
        [
            node(
                tabulate_results,
                inputs=[
                    "patients",
                    "small_avg",
                    "large_avg",
                    "small_sa",
                    "large_sa",
                    "small_out_of_fold",
                    "large_out_of_fold",
                    "params:ensemble",
                ],
                outputs="results",
                name="tabulate_results",
            )
        ],
        namespace="ensemble",
        prefix_datasets_with_namespace=False,
        tags="ensemble",
    )
    return sum((_one_size(size) for size in SIZES), start=results)


def _one_size(size: str) -> Pipeline:
    decided = ("predictions", "out_of_fold", "cell_weights", "statistics", "avg", "sa")
    return select_size(size) + pipeline(
        [
            node(
                predict,
                inputs=["classifiers", "size_embeddings", "patients", "splits", "params:compute"],
                outputs=["predictions", "out_of_fold", "cell_weights"],
                name="predict",
                tags="gpu",
            ),
            node(
                compute_statistics,
                inputs="predictions",
                outputs="statistics",
                name="compute_statistics",
            ),
            node(
                average_predictions, inputs="statistics", outputs="avg", name="average_predictions"
            ),
            node(
                apply_sa_rule,
                inputs=["statistics", "params:ensemble"],
                outputs="sa",
                name="apply_sa_rule",
            ),
            node(make_submission, inputs="avg", outputs="submission_avg", name="submit_avg"),
            node(make_submission, inputs="sa", outputs="submission_sa", name="submit_sa"),
        ],
        namespace=f"ensemble.{size}",
        inputs={
            "classifiers": f"{size}_classifiers",
            "size_embeddings": f"{size}_embeddings",
            "patients": "patients",
            "splits": "splits",
        },
        outputs={name: f"{size}_{name}" for name in decided}
        | {f"submission_{rule}": f"submission_{size}_{rule}" for rule in ("avg", "sa")},
        parameters={"params:compute", "params:ensemble"},
        tags="ensemble",
    )
