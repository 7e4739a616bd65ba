import pytest

from benchmarks.end_to_end import of_fold, recipe
from lymphocytosis.end_to_end.bags import gather_pictures

HELD_OUT = {"P00", "P01", "P02", "P03"}


@pytest.mark.parametrize("fusion", [None, "mixture"])
def test_a_fold_does_not_know_its_patients_labels(cohort, encoder, fusion):
    patients, cells, images = cohort()
    patients = patients.assign(person=patients["patient_id"])
    bags = gather_pictures(images, cells, patients)
    mil, training = recipe(fusion, epochs=1)
    table = of_fold(bags, patients, HELD_OUT, encoder, mil, training)
    told = table.groupby("role")["patient_id"].agg(set)
    assert told["held_out"] == HELD_OUT
    assert told["inner"] and not told["inner"] & HELD_OUT
    assert table["probability"].between(0, 1).all()
    others = patients["label"].where(~patients["patient_id"].isin(HELD_OUT), 1 - patients["label"])
    swapped = of_fold(bags, patients.assign(label=others), HELD_OUT, encoder, mil, training)
    assert swapped.equals(table)
