"""Wiring of the report pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.report.nodes import without_failing, write_report

# What it shows if it is there; the report says what is not.
REPORTED = (
    "versions", "patients", "ingest_report", "cell_images", "embeddings", "autoencoder",
    "large_classifiers", "large_predictions", "small_predictions", "large_out_of_fold",
    "small_out_of_fold", "large_cell_contributions", "small_cell_contributions", "results",
    "classifier_predictions", "nested_predictions", "referral_predictions", "evaluation",
    "referral_evaluation", "evaluation_summary", "evaluated_with", "subgroups",
)  # fmt: skip


def create_pipeline(at_the_end: bool = False) -> Pipeline:
    """Wire what is there of a workspace to its report.

    Args:
        at_the_end: of a run that has done other work: then a report that can't be made is no
            failure of the run.

    Returns:
        A pipeline of one node.
    """
    return pipeline(
        [
            node(
                without_failing(write_report) if at_the_end else write_report,
                inputs={
                    "report": "params:report",
                    "ensemble": "params:ensemble",
                    "evaluating": "params:evaluation",
                    **{entry: entry for entry in REPORTED},
                },
                outputs="report",
                name="write_report",
            )
        ],
        namespace="report",
        prefix_datasets_with_namespace=False,
        tags="report",
    )
