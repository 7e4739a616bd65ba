"""Bags of pictures: whose pictures are where in the image store."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from lymphocytosis.errors import UserError
from lymphocytosis.imaging.store import CellImages
from lymphocytosis.mil.bags import Batch, Indices


@dataclass(frozen=True)
class PictureBags:
    """A bag a patient; patients are numbered as in the patients table.

    Attributes:
        images: (n, S, S, 3) uint8, the image store.
        rows: for each patient, the rows of `images` that are theirs, ascending.
        image_id: the picture of each row of `images`.
        clinical: (p, 2) float32: age in years, lymphocyte count in 10^9 per litre.
        label: (p,) int64: 0 reactive, 1 tumoral, -1 unknown.
    """

    images: CellImages
    rows: list[Indices]
    image_id: npt.NDArray[np.object_]
    clinical: Tensor
    label: Indices


def gather_pictures(images: CellImages, cells: pd.DataFrame, patients: pd.DataFrame) -> PictureBags:
    """Find each patient's pictures; none is read.

    Args:
        images: the image store.
        cells: patient_id, row, and others, of the same ingest as the store.
        patients: patient_id, label, age_years, lymphocyte_count, cell_count.

    Returns:
        The bags.

    Raises:
        UserError: the cells are not of these patients.
    """
    taken = cells[cells["row"].notna()].astype({"row": "int64"}).sort_values("row")
    rows_of = dict(iter(taken.groupby("patient_id")["row"]))
    counts = {patient: len(rows) for patient, rows in rows_of.items()}
    if counts != dict(zip(patients["patient_id"], patients["cell_count"], strict=True)):
        raise UserError(
            "The catalog entries 'cells' and 'patients' come from two ingests, one of which did "
            "not end. Run ingest again."
        )
    return PictureBags(
        images=images,
        rows=[rows_of[patient].to_numpy() for patient in patients["patient_id"]],
        image_id=taken["image_id"].to_numpy(dtype=object),
        clinical=torch.from_numpy(
            patients[["age_years", "lymphocyte_count"]].to_numpy(dtype=np.float32)
        ),
        label=patients["label"].fillna(-1).to_numpy(dtype=np.int64),
    )


def pack_pictures(bags: PictureBags, numbers: Indices) -> Batch:
    """Read some patients' pictures into one batch.

    Args:
        bags: all bags.
        numbers: (b,) the patients' numbers, in the order of the batch.

    Returns:
        The batch; its instances are pictures (n, S, S, 3) uint8.
    """
    rows = [bags.rows[number] for number in numbers]
    return Batch(
        instances=torch.from_numpy(np.array(bags.images[np.concatenate(rows)])),
        size=[len(part) for part in rows],
        clinical=bags.clinical[torch.from_numpy(numbers)],
        label=torch.from_numpy(bags.label[numbers]).to(torch.float32),
    )
