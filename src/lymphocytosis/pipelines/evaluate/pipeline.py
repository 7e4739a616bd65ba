"""Wiring of the evaluate pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.evaluate.nodes import (
    join_predictions,
    judge_referral,
    make_folds,
    measure_evidence,
    measure_learning_curves,
    measure_referral,
    measure_subgroups,
    plot_calibration,
    plot_curves,
    plot_differences,
    plot_learning_curves,
    plot_net_benefit,
    predict_by_classifiers,
    predict_by_controls,
)
from lymphocytosis.pipelines.resumable import resumable


def create_pipeline() -> Pipeline:
    """Wire ready embeddings and patients to the evidence: tables, words and figures."""
    return pipeline(
        [
            node(
                make_folds,
                inputs=["patients", "supplied_folds", "params:evaluation"],
                outputs="evaluation_folds",
                name="make_folds",
            ),
            node(
                predict_by_controls,
                inputs=[
                    "patients",
                    "clinical_annotation",
                    "cell_images",
                    "evaluation_folds",
                    "params:evaluation",
                    "params:ensemble",
                    "params:clinical",
                ],
                outputs=["control_predictions", "control_tests"],
                name="predict_by_controls",
            ),
            node(
                resumable(predict_by_classifiers, "classifier_predictions"),
                inputs=[
                    "embeddings",
                    "autoencoder",
                    "cell_images",
                    "cells",
                    "patients",
                    "evaluation_folds",
                    "params:views",
                    "params:encoder",
                    "params:pretext",
                    "params:mil",
                    "params:splits",
                    "params:compute",
                    "params:evaluation",
                    "params:workspace",
                ],
                outputs="classifier_predictions",
                name="predict_by_classifiers",
                tags="gpu",
            ),
            node(
                join_predictions,
                inputs=[
                    "control_predictions",
                    "classifier_predictions",
                    "patients",
                    "params:ensemble",
                ],
                outputs="nested_predictions",
                name="join_predictions",
            ),
            node(
                judge_referral,
                inputs=["classifier_predictions", "patients", "params:ensemble"],
                outputs="referral_predictions",
                name="judge_referral",
            ),
            node(
                measure_referral,
                inputs=["referral_predictions", "params:evaluation"],
                outputs="referral_evaluation",
                name="measure_referral",
            ),
            node(
                measure_evidence,
                inputs=[
                    "nested_predictions",
                    "control_tests",
                    "referral_evaluation",
                    "autoencoder",
                    "params:encoder",
                    "params:pretext",
                    "params:evaluation",
                    "params:ensemble",
                ],
                outputs=["evaluation", "evaluation_summary"],
                name="measure_evidence",
            ),
            node(
                measure_subgroups,
                inputs=["nested_predictions", "patients", "params:evaluation"],
                outputs="subgroups",
                name="measure_subgroups",
            ),
            node(
                measure_learning_curves,
                inputs=[
                    "embeddings",
                    "patients",
                    "evaluation_folds",
                    "params:mil",
                    "params:ensemble",
                    "params:evaluation",
                ],
                outputs="learning_curves",
                name="measure_learning_curves",
            ),
            node(
                plot_curves,
                inputs=["nested_predictions", "evaluation", "params:evaluation"],
                outputs="evaluation_curves",
                name="plot_curves",
            ),
            node(
                plot_calibration,
                inputs=["nested_predictions", "referral_predictions", "params:evaluation"],
                outputs="evaluation_calibration",
                name="plot_calibration",
            ),
            node(
                plot_net_benefit,
                inputs=["nested_predictions", "params:evaluation"],
                outputs="evaluation_net_benefit",
                name="plot_net_benefit",
            ),
            node(
                plot_differences,
                inputs=["evaluation", "params:evaluation"],
                outputs="evaluation_differences",
                name="plot_differences",
            ),
            node(
                plot_learning_curves,
                inputs=["learning_curves", "params:evaluation"],
                outputs="evaluation_learning_curves",
                name="plot_learning_curves",
            ),
        ],
        namespace="evaluate",
        prefix_datasets_with_namespace=False,
        tags="evaluate",
    )
