"""Wiring of the predict pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.predict.nodes import (
    diagnose_patients,
    get_ready,
    read_clinical_values,
)
from lymphocytosis.pipelines.report.nodes import without_failing, write_diagnosis_report
from lymphocytosis.pipelines.resumable import resumable


def create_pipeline() -> Pipeline:
    """Wire new patients' pictures and a bundle to their diagnoses, and to a report on them."""
    return pipeline(
        [
            node(
                read_clinical_values,
                # The folder comes first: if it is missing, the message must say that.
                inputs=["new_pictures", "new_clinical_annotation", "params:clinical"],
                outputs="new_patients",
                name="read_clinical_values",
            ),
            node(
                get_ready,
                inputs=["bundle", "params:compute"],
                outputs="ready_system",
                name="get_ready",
                tags="gpu",
            ),
            node(
                resumable(diagnose_patients, "diagnoses"),
                inputs=[
                    "ready_system",
                    "new_pictures",
                    "new_patients",
                    "params:image",
                    "params:compute",
                    "params:workspace",
                ],
                outputs=["diagnoses", "diagnoses_csv", "diagnoses_json", "diagnosis_cells"],
                name="diagnose_patients",
                tags="gpu",
            ),
            node(
                without_failing(write_diagnosis_report),
                inputs=[
                    "ready_system",
                    "new_pictures",
                    "diagnoses_json",
                    "diagnosis_cells",
                    "params:image",
                    "params:report",
                    "versions",
                ],
                outputs="diagnosis_report",
                name="write_diagnosis_report",
            ),
        ],
        namespace="predict",
        prefix_datasets_with_namespace=False,
        tags="predict",
    )
