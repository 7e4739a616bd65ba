"""Nodes of the ingest pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from lymphocytosis.cohort.pictures import PictureFile, PictureFiles
from lymphocytosis.display import followed
from lymphocytosis.parameters import ClinicalParameters, ImageParameters
from lymphocytosis.pipelines.late import CellImages, PictureStream, pd, store

logger = logging.getLogger(__name__)


def read_clinical_table(
    cohort_pictures: PictureFiles,
    clinical_annotation: pd.DataFrame,
    clinical: ClinicalParameters,
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Turn the hospital's table into typed patients; see `read_patients`."""
    from lymphocytosis.cohort.clinical import read_patients

    patients, warnings, reading = read_patients(clinical_annotation, cohort_pictures, clinical)
    for line in reading:
        logger.info(line)
    return patients, warnings, reading


def decode_cells(
    cohort_pictures: list[PictureFile], registered_patients: pd.DataFrame, image: ImageParameters
) -> PictureStream:
    """Decode every picture once, while the store is written.

    Args:
        cohort_pictures: the cohort's files.
        registered_patients: an input so that the table is checked before hours of decoding.
        image: the block `image` of the parameters.

    Returns:
        The pictures, on their way into the store.
    """
    decoded = store.decode_pictures(cohort_pictures, image)
    return store.PictureStream(
        image, followed(decoded, "decoding", len(cohort_pictures), "pictures")
    )


def tabulate_cells(
    cell_images: CellImages,
    registered_patients: pd.DataFrame,
    clinical_warnings: list[str],
    clinical_reading: list[str],
) -> tuple[pd.DataFrame, Iterator[pd.DataFrame], dict[str, Any]]:
    """Say which cells each patient has, and what was left out.

    Args:
        cell_images: the image store with its records.
        registered_patients: the patients, without cell counts.
        clinical_warnings: those from reading the clinical table.
        clinical_reading: how the clinical table was read.

    Returns:
        patients; cells, part by part while they are saved; and the ingest report.
    """
    from lymphocytosis import schemas
    from lymphocytosis.cohort import inventory

    found = inventory.take_inventory(cell_images.parts_of_records)
    patients = inventory.count_cells(registered_patients, found)
    report = inventory.report_ingest(
        patients,
        found,
        clinical_warnings + store.warn_of_pictures(found.unusual),
        clinical_reading,
        cell_images.image.model_dump(mode="json"),
    )
    logger.info("pictures: %s", ", ".join(f"{n} {kind}" for kind, n in report["pictures"].items()))
    for line in inventory.reasons_of(found.unusual):
        logger.info(line)
    for warning in report["warnings"]:
        logger.warning(warning)
    cells = (
        schemas.cells.validate(part[inventory.CELL_COLUMNS], lazy=True)
        for part in cell_images.parts_of_records()
    )
    return patients, cells, report
