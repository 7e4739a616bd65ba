"""Wiring of the choose pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.choose.nodes import choose_recipes, measure_choice
from lymphocytosis.pipelines.evaluate.nodes import join_predictions


def create_pipeline() -> Pipeline:
    """Wire the predictions of several evaluations to the score of choosing among them."""
    return pipeline(
        [
            node(
                choose_recipes,
                inputs=["evaluated_runs", "patients", "evaluation_folds"],
                outputs=["chosen_predictions", "choices"],
                name="choose_recipes",
            ),
            node(
                join_predictions,
                inputs=[
                    "control_predictions",
                    "chosen_predictions",
                    "patients",
                    "params:ensemble",
                ],
                outputs="choice_predictions",
                name="join_chosen_predictions",
            ),
            node(
                measure_choice,
                inputs=["choice_predictions", "control_tests", "choices", "params:evaluation"],
                outputs=["choice_evaluation", "choice_summary"],
                name="measure_choice",
            ),
        ],
        namespace="choose",
        prefix_datasets_with_namespace=False,
        tags="choose",
    )
