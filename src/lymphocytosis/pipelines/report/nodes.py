"""Nodes that write reports.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from lymphocytosis.cohort.pictures import PictureFile, PictureFiles
from lymphocytosis.parameters import (
    EnsembleParameters,
    EvaluationParameters,
    ImageParameters,
    ReportParameters,
)
from lymphocytosis.pipelines.late import ReadySystem, pd

logger = logging.getLogger(__name__)


def write_report(
    report: ReportParameters,
    ensemble: EnsembleParameters,
    evaluating: EvaluationParameters,
    **entries: Any,
) -> str:
    """Write the report on a cohort; see `report.cohort`.

    Args:
        report: the block `report` of the parameters.
        ensemble: the block `ensemble`.
        evaluating: the block `evaluation`.
        entries: of the catalog, by name; None for what there is none of.

    Returns:
        An HTML page.
    """
    from lymphocytosis.report.cohort import report_on_cohort

    return _write(report_on_cohort(entries, ensemble, evaluating, report.names))


def write_diagnosis_report(
    ready_system: ReadySystem,
    new_pictures: PictureFiles,
    diagnoses_json: list[dict[str, Any]],
    diagnosis_cells: pd.DataFrame,
    image: ImageParameters,
    report: ReportParameters,
    versions: dict[str, str] | None,
) -> str:
    """Write the report on new patients; see `report.new_patients`.

    Args:
        ready_system: the trained system.
        new_pictures: the patients' files.
        diagnoses_json: a row for each patient.
        diagnosis_cells: a row for each picture.
        image: the block `image` of the parameters: says which pictures are left out.
        report: the block `report`.
        versions: which version of each entry the run makes.

    Returns:
        An HTML page.
    """
    from lymphocytosis.imaging.store import decode_pictures
    from lymphocytosis.report.new_patients import report_on_new_patients

    policies = {name: getattr(image, name) for name in ("unreadable", "other_size", "other_mode")}
    shape = ready_system.image.model_copy(update=policies)
    files: dict[str, list[PictureFile]] = defaultdict(list)
    for file in new_pictures:
        files[file.patient_id].append(file)
    taken = diagnosis_cells[diagnosis_cells["status"] != "left_out"]
    cells = {patient: taken[taken["patient_id"] == patient] for patient in files}

    def pixels_of(patient: str) -> list[Any]:
        decoded = decode_pictures(files[patient], shape)
        return [picture.pixels for picture in decoded if picture.pixels is not None]

    system = {"fingerprint": ready_system.fingerprint, "facts": ready_system.facts}
    return _write(
        report_on_new_patients(diagnoses_json, cells, pixels_of, system, versions, report.names)
    )


def _write(contents: Mapping[str, Any]) -> str:
    from lymphocytosis.report.page import write_page

    page = write_page(contents)
    logger.info("report: %d patients, %.1f MB", len(contents["patients"]), len(page.encode()) / 1e6)
    return page


def without_failing(function: Callable[..., str]) -> Callable[..., str]:
    """Let a report that can't be made end in a warning: a run must not fail at its end for it.

    Args:
        function: a node's, which returns a page.

    Returns:
        The function, which returns a page with the reason instead of raising.
    """

    @wraps(function)
    def or_say_why(*given: Any, **named: Any) -> str:
        from lymphocytosis.report.page import write_excuse

        try:
            return function(*given, **named)
        except Exception as error:
            logger.warning(
                "The report could not be made: %r. Everything else of the run is saved.", error
            )
            return write_excuse(repr(error))

    return or_say_why
