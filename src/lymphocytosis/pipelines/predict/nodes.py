"""Nodes of the predict pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from typing import Any

from lymphocytosis.cohort.pictures import PictureFile, PictureFiles
from lymphocytosis.display import working
from lymphocytosis.errors import some
from lymphocytosis.parameters import ClinicalParameters, ComputeParameters, ImageParameters
from lymphocytosis.pipelines.late import Bundle, ReadySystem, pa, pd
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)

_LISTS = ("flags", "reasons", "warnings")
_ROW_TYPES = {
    "patient_id": "str",
    "cell_count": "int32",
    "age_years": "Int16",
    "lymphocyte_count": "float64",
    "inputs": "str",
    "probability": "float64",
    "probability_pictures": "float64",
    "referral": "str",
    "set": "str",
    "advice": "str",
    "unlike": "boolean",
    **dict.fromkeys(_LISTS, "str"),
}
_CELL_TYPES = {
    "patient_id": "str",
    "image_id": "str",
    "status": "str",
    "reason": "str",
    "contribution": "float64",
    "distance": "float64",
    "odd": "boolean",
}
_UNSURE = {"both": "both are possible", "none": "neither is likely"}
_SHOWN = 20


def read_clinical_values(
    new_pictures: PictureFiles,
    new_clinical_annotation: pd.DataFrame | None,
    clinical: ClinicalParameters,
) -> pd.DataFrame:
    """Find the new patients and their clinical values; see `read_new_patients`."""
    from lymphocytosis.cohort.new_patients import read_new_patients

    patients, warnings, reading = read_new_patients(new_clinical_annotation, new_pictures, clinical)
    for line in reading[:1]:
        logger.info(line)
    # The samples of new patients are of another day than those of the training patients.
    for line in reading[1:] + warnings:
        logger.warning(line)
    return patients


def get_ready(bundle: Bundle, compute: ComputeParameters) -> ReadySystem:
    """Build a bundle's encoder and classifiers, once for all patients."""
    from lymphocytosis.system import diagnosis

    return diagnosis.ReadySystem(bundle, compute)


def diagnose_patients(
    ready_system: ReadySystem,
    new_pictures: PictureFiles,
    new_patients: pd.DataFrame,
    image: ImageParameters,
    compute: ComputeParameters,
    progress: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame, list[dict[str, Any]], pd.DataFrame]:
    """Diagnose patients in their order; memory holds the pictures of two at a time.

    Args:
        ready_system: the trained system.
        new_pictures: the patients' files.
        new_patients: patient_id, age_years, lymphocyte_count, warnings.
        image: the block `image` of the parameters: says which pictures are left out.
        compute: the block `compute`.
        progress: where each patient's diagnosis is saved until the run ends well.

    Returns:
        A row for each patient, as a table, as the same table for CSV, and as plain values with
        lists; and a row for each picture.
    """
    files: dict[str, list[PictureFile]] = defaultdict(list)
    for file in new_pictures:
        files[file.patient_id].append(file)
    progress.begin(
        {
            "the bundle": ready_system.fingerprint,
            "the parameters image": image,
            "the parameter compute.accelerator": compute.accelerator,
        }
    )
    rows: list[dict[str, Any]] = []
    cells = []
    resumed = 0
    patients = new_patients.to_dict("records")

    def diagnose(patient: dict[Any, Any]) -> tuple[str, dict[str, Any] | None, Any]:
        pictures = files[patient["patient_id"]]
        age, count = (
            None if pd.isna(patient[name]) else patient[name]
            for name in ("age_years", "lymphocyte_count")
        )
        part = _fingerprint(pictures, age, count)
        if kept := progress.values(part):
            return part, kept, None
        return part, None, ready_system.diagnose(pictures, age, count, image)

    # While the encoder is busy with one patient, another's pictures are decoded and measured.
    two = ThreadPoolExecutor(2)
    with working("diagnosing", len(patients), "patients") as work, ExitStack() as stack:
        stack.callback(two.shutdown, cancel_futures=True)
        results = two.map(diagnose, patients)
        for patient, (part, kept, diagnosis) in zip(patients, results, strict=True):
            if kept:
                resumed += 1
                work.resume()
            else:
                plain = diagnosis.cells.astype(object).where(diagnosis.cells.notna(), None)
                kept = {"row": diagnosis.row, "cells": plain.to_dict("list")}
                progress.save_values(part, kept)
                work.advance()
            row = kept["row"] | {"warnings": [*patient["warnings"], *kept["row"]["warnings"]]}
            rows.append({name: row[name] for name in dict.fromkeys([*_ROW_TYPES, *row])})
            # Of a patient of 80 cells, Arrow's table has 5 kB; pandas' has 15.
            ids = [patient["patient_id"]] * len(files[patient["patient_id"]])
            cells.append(pa.table({"patient_id": ids, **kept["cells"]}))
    if resumed:
        logger.info("%d of %d patients were diagnosed before this run", resumed, len(rows))
    if none := [row for row in rows if not row["cell_count"]]:
        logger.warning(
            "No picture could be taken of %d patient(s): %s. Of %s: %s.",
            len(none),
            some([row["patient_id"] for row in none]),
            none[0]["patient_id"],
            none[0]["warnings"][-1].removesuffix("."),
        )
    diagnoses = pd.DataFrame([row | {name: _joined(row[name]) for name in _LISTS} for row in rows])
    # Each a list of lists.
    diagnoses = diagnoses.drop(columns="predictions", errors="ignore")
    models = {
        name: "Int8" if name.endswith(("_avg", "_sa")) else "float64"
        for name in diagnoses.columns
        if name not in _ROW_TYPES
    }
    diagnoses = diagnoses.astype(_ROW_TYPES | models)
    # Of a patient without a picture, Arrow knows no types.
    of_all = pa.concat_tables(cells, promote_options="permissive").to_pandas()
    return diagnoses, diagnoses, rows, of_all[list(_CELL_TYPES)].astype(_CELL_TYPES)


def _joined(texts: list[str]) -> str | None:
    return "; ".join(text.removesuffix(".") for text in texts) or None


def _fingerprint(pictures: Sequence[PictureFile], age: float | None, count: float | None) -> str:
    """Tell apart what a patient's diagnosis is made from."""
    digest = sha256(repr((pictures[0].patient_id, age, count)).encode())
    for picture in pictures:
        try:
            content = sha256(picture.read()).hexdigest()
        except OSError as error:
            content = str(error)
        digest.update(repr((picture.image_id, content)).encode())
    return digest.hexdigest()


def describe(diagnoses: pd.DataFrame) -> str:
    """Show diagnoses, for a terminal.

    Args:
        diagnoses: as `diagnose_patients` returns them.

    Returns:
        How many there are of each advice; and a line for each patient, up to 20: advice,
        probability, why to look again, and whether clinical values were missing.
    """
    counts = diagnoses["advice"].value_counts()
    lines = [", ".join(f"{count} {advice}" for advice, count in counts.items())]
    width = min(24, max(diagnoses["patient_id"].str.len()))
    for row in diagnoses.head(_SHOWN).to_dict("records"):
        probability = "" if pd.isna(row["probability"]) else f"{row['probability']:.3f}"
        why = []
        if not row["cell_count"]:
            why.append("no picture")
        elif row["unlike"]:
            why.append(row["flags"].partition(":")[0])
        elif row["advice"] == "look again":
            why.append(_UNSURE.get(row["set"], "threshold and set differ"))
        if row["inputs"] == "pictures":
            why.append("by pictures alone")
        line = f"  {row['patient_id']:<{width}}  {row['advice']:<12}  {probability:>5}  "
        lines.append((line + ", ".join(why)).rstrip())
    hidden = len(diagnoses) - _SHOWN
    return "\n".join(lines + [f"  ... and {hidden} more patients"] * (hidden > 0))
