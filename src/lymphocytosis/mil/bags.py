"""Bags: a patient's cells in one view, with the clinical values and, if known, the label."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from lymphocytosis.errors import UserError

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bags:
    """Every bag of a cohort; patients are numbered as in the patients table.

    Attributes:
        instances: (n, D) float32 embeddings, bag by bag.
        first: (b,) int64, the row of each bag's first instance.
        size: (b,) int64, the number of instances of each bag.
        patient: (b,) int64, the number of each bag's patient.
        view: (b,) the view of each bag.
        clinical: (p, 2) float32: age in years, lymphocyte count in 10^9 per litre.
        label: (p,) int64: 0 reactive, 1 tumoral, -1 unknown.
        image_id: (n,) the picture of each instance.
        encoder: the fingerprint of the encoder that embedded the instances.
    """

    instances: Tensor
    first: Indices
    size: Indices
    patient: Indices
    view: list[str]
    clinical: Tensor
    label: Indices
    image_id: npt.NDArray[np.object_]
    encoder: str

    def of_patients(self, numbers: Indices) -> Indices:
        """Find the bags of some patients, in all views.

        Args:
            numbers: the patients' numbers.

        Returns:
            The bags' indices, ascending.
        """
        return np.flatnonzero(np.isin(self.patient, numbers))

    def rows_of(self, chosen: Indices) -> Indices:
        """Find the instances of some bags.

        Args:
            chosen: (b,) indices of the bags.

        Returns:
            The rows of their instances, bag by bag.
        """
        size = self.size[chosen]
        start = np.cumsum(size) - size
        return np.repeat(self.first[chosen] - start, size) + np.arange(size.sum())

    def on(self, device: torch.device) -> Self:
        """Move instances and clinical values to a device, once for many batches.

        Args:
            device: where `pack` gathers batches.

        Returns:
            The same bags; tensors already on the device are not copied.
        """
        return replace(self, instances=self.instances.to(device), clinical=self.clinical.to(device))


@dataclass  # not frozen: Fabric moves a copy to a device by setting its fields
class Batch:
    """Bags packed for the classifier, without padding: no bag depends on another's size.

    Attributes:
        instances: (n, D) float32, all instances of the batch.
        size: (b,) the number of instances of each bag; instances are stored bag by bag.
        clinical: (b, 2) float32.
        label: (b,) float32.
    """

    instances: Tensor
    size: list[int]
    clinical: Tensor
    label: Tensor

    @property
    def bag(self) -> Tensor:
        """(n,) int64, the bag of each instance, from 0."""
        device = self.instances.device
        size = torch.tensor(self.size).to(device, non_blocking=True)
        bag = torch.arange(len(size), device=device)
        # Giving the size of the result avoids waiting for a GPU.
        return bag.repeat_interleave(size, output_size=len(self.instances))


def gather_bags(embeddings: pa.Table, patients: pd.DataFrame) -> Bags:
    """Group embeddings into bags, one for each patient and view.

    Args:
        embeddings: patient_id, image_id, view, embedding (lists of float32 of fixed length).
        patients: patient_id, label, age_years, lymphocyte_count, cell_count.

    Returns:
        The bags, ordered by patient, then by view in order of first appearance.

    Raises:
        UserError: the embeddings are of other cells than these patients'.
    """
    keys = embeddings.select(["patient_id", "view"]).to_pandas()
    views = list(keys["view"].unique())
    number = pd.Index(patients["patient_id"]).get_indexer(keys["patient_id"])
    # One number for each bag: patient first, then view.
    bag = number * len(views) + pd.Index(views).get_indexer(keys["view"])
    size = np.bincount(bag[number >= 0], minlength=len(patients) * len(views))
    expected = np.repeat(patients["cell_count"].to_numpy(), len(views))
    if (number < 0).any() or not np.array_equal(size, expected):
        raise UserError(
            "The embeddings do not match the ingested cells: they come from another cohort or "
            "another ingest. Run embed again."
        )
    order = np.argsort(bag, kind="stable")
    return Bags(
        instances=torch.from_numpy(_matrix(embeddings["embedding"]))[torch.from_numpy(order)],
        first=np.concatenate([[0], np.cumsum(size)[:-1]]),
        size=size,
        patient=np.repeat(np.arange(len(patients)), len(views)),
        view=views * len(patients),
        clinical=torch.from_numpy(
            patients[["age_years", "lymphocyte_count"]].to_numpy(dtype=np.float32)
        ),
        label=patients["label"].fillna(-1).to_numpy(dtype=np.int64),
        image_id=embeddings["image_id"].to_numpy()[order],
        encoder=(embeddings.schema.metadata or {}).get(b"autoencoder", b"").decode(),
    )


def _matrix(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    width = column.type.list_size
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
    return flat.reshape(-1, width)


def pack(bags: Bags, chosen: Indices, memory: Tensor | None = None) -> Batch:
    """Pack some bags into one batch.

    Args:
        bags: all bags.
        chosen: (b,) indices of the bags, in the order of the batch.
        memory: (m, D) float32 with m >= n, a buffer for the instances, overwritten by the next
            call with it. New memory would be zeroed first, which takes as long as the copy.

    Returns:
        The batch, on the bags' device.
    """
    patient = bags.patient[chosen]
    rows, of_patients, label = (
        # Don't wait: a GPU may still be working on the previous batch.
        torch.from_numpy(values).to(bags.instances.device, non_blocking=True)
        for values in (bags.rows_of(chosen), patient, bags.label[patient].astype(np.float32))
    )
    out = None if memory is None else memory[: len(rows)]
    return Batch(
        instances=torch.index_select(bags.instances, 0, rows, out=out),
        size=bags.size[chosen].tolist(),
        clinical=bags.clinical[of_patients],
        label=label,
    )


def logged(clinical: Tensor, log_count: bool) -> Tensor:
    """Take the logarithm of the lymphocyte count, if the parameters ask for it.

    Args:
        clinical: (p, 2) float: age in years, count in 10^9 per litre.
        log_count: `mil.log_count`.

    Returns:
        (p, 2) float.
    """
    if not log_count:
        return clinical
    return torch.stack([clinical[:, 0], clinical[:, 1].log()], dim=1)
