"""Nodes of the simulate pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice

from lymphocytosis.cohort.pictures import PictureFile
from lymphocytosis.figures import entitle, in_style
from lymphocytosis.parameters import SimulationParameters
from lymphocytosis.pipelines.late import Figure, pd

# The contact sheet: patients of each class, and pictures of each patient.
SHEET_PATIENTS = 3
SHEET_PICTURES = 8


def draw_cohort(
    simulation: SimulationParameters,
) -> tuple[Iterator[tuple[str, bytes]], pd.DataFrame]:
    """Draw patients and their cells.

    Args:
        simulation: the block `simulation` of the parameters.

    Returns:
        The pictures' paths and bytes, drawn while they are saved; and the clinical table.
    """
    from lymphocytosis.simulation.cohort import simulate_cohort

    table, pictures = simulate_cohort(simulation)
    return pictures, table


@in_style
def draw_contact_sheet(
    cohort_pictures: list[PictureFile], clinical_annotation: pd.DataFrame
) -> Figure:
    """Show cells of some reactive and some tumoral patients, a row a patient.

    Args:
        cohort_pictures: the simulated cohort's files.
        clinical_annotation: for the labels.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    label = clinical_annotation.set_index("ID")["LABEL"]
    rows: list[tuple[str, str, list[PictureFile]]] = []
    for value, name in (("0", "reactive"), ("1", "tumoral")):
        for patient_id in islice(label.index[label == value], SHEET_PATIENTS):
            files = [file for file in cohort_pictures if file.patient_id == patient_id]
            rows.append((name, patient_id, files[:SHEET_PICTURES]))
    figure = Figure(figsize=(0.75 * SHEET_PICTURES, 0.74 * len(rows) + 0.5))
    axes = figure.subplots(len(rows), SHEET_PICTURES, squeeze=False)
    for row, (name, patient_id, files) in zip(axes, rows, strict=True):
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            axis.grid(visible=False)
        for axis, file in zip(row, files, strict=False):
            axis.imshow(Image.open(io.BytesIO(file.read())))
        row[0].set_ylabel(f"{name}\n{patient_id}")
    entitle(figure, "Simulated cells", "A row a patient. No picture is of a real person.")
    return figure
