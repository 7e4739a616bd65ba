"""Wiring of the simulate pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.simulate.nodes import draw_cohort, draw_contact_sheet


def create_pipeline() -> Pipeline:
    """Wire the simulation's parameters to a cohort's folder and a contact sheet."""
    return pipeline(
        [
            node(
                draw_cohort,
                inputs="params:simulation",
                # The pictures come first: their dataset refuses to overwrite a real cohort.
                outputs=["cohort_pictures", "clinical_annotation"],
                name="draw_cohort",
            ),
            node(
                draw_contact_sheet,
                inputs=["cohort_pictures", "clinical_annotation"],
                outputs="contact_sheet",
                name="draw_contact_sheet",
            ),
        ],
        namespace="simulate",
        prefix_datasets_with_namespace=False,
        tags="simulate",
    )
