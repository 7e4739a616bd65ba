import numpy as np
import pytest

from benchmarks.patient_probe import named

RNG = np.random.default_rng(0)
OWNER = np.repeat(np.arange(10), np.arange(20, 30))


def cells(distance):
    """Cells of ten patients in twelve dimensions, whose means are so far from the others'."""
    means = distance * np.eye(10, 12)
    return (means[OWNER] + RNG.normal(size=(len(OWNER), 12))).astype(np.float32)


def test_patients_far_apart_are_all_named():
    assert named(cells(30), OWNER, RNG) == 1


def test_patients_alike_are_named_by_chance():
    shares = [named(cells(0), OWNER, np.random.default_rng(draw)) for draw in range(20)]
    assert np.mean(shares) == pytest.approx(0.1, abs=0.03)


def test_the_order_of_cells_does_not_matter_but_for_the_draw():
    values = cells(2)
    order = RNG.permutation(len(OWNER))
    means = [
        np.mean([named(values[o], OWNER[o], np.random.default_rng(d)) for d in range(40)])
        for o in (np.arange(len(OWNER)), order)
    ]
    assert means[0] == pytest.approx(means[1], abs=0.05)
