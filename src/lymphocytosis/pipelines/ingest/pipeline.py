"""Wiring of the ingest pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.ingest.nodes import decode_cells, read_clinical_table, tabulate_cells


def create_pipeline() -> Pipeline:
    """Wire the cohort's folder to patients, cells and the image store."""
    return pipeline(
        [
            node(
                read_clinical_table,
                # The folder comes first: if it is missing, the message must say that.
                inputs=["cohort_pictures", "clinical_annotation", "params:clinical"],
                outputs=["registered_patients", "clinical_warnings", "clinical_reading"],
                name="read_clinical_table",
            ),
            node(
                decode_cells,
                inputs=["cohort_pictures", "registered_patients", "params:image"],
                outputs="cell_images",
                name="decode_cells",
            ),
            node(
                tabulate_cells,
                inputs=[
                    "cell_images",
                    "registered_patients",
                    "clinical_warnings",
                    "clinical_reading",
                ],
                outputs=["patients", "cells", "ingest_report"],
                name="tabulate_cells",
            ),
        ],
        namespace="ingest",
        prefix_datasets_with_namespace=False,
        tags="ingest",
    )
