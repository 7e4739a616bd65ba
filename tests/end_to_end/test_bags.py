import numpy as np
import pytest
import torch

from lymphocytosis.end_to_end.bags import gather_pictures, pack_pictures
from lymphocytosis.errors import UserError


def test_each_patient_has_their_own_pictures(cohort):
    patients, cells, images = cohort()
    bags = gather_pictures(images, cells, patients)
    numbers = np.array([5, 0, 11])
    batch = pack_pictures(bags, numbers)
    expected = [
        images[[row for owner, _, row in cells.dropna().to_numpy() if owner == f"P{number:02d}"]]
        for number in numbers
    ]
    assert np.array_equal(batch.instances.numpy(), np.concatenate(expected))
    assert batch.bag.tolist() == [b for b, part in enumerate(expected) for _ in part]
    assert batch.label.tolist() == [1.0, 0.0, 1.0]
    assert batch.clinical.dtype == torch.float32
    assert batch.clinical[0].tolist() == pytest.approx(
        [patients["age_years"][5], patients["lymphocyte_count"][5]]
    )


@pytest.mark.parametrize("fault", ["another count", "nobody's cell", "no cell"])
def test_cells_of_another_ingest_are_refused(cohort, fault):
    patients, cells, images = cohort()
    if fault == "another count":
        patients.loc[3, "cell_count"] += 1
    elif fault == "nobody's cell":
        patients = patients.drop(index=3)
    else:
        cells = cells[cells["patient_id"] != "P03"]
    with pytest.raises(UserError, match=r"two ingests.*Run ingest again"):
        gather_pictures(images, cells, patients)
