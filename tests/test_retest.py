import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

from benchmarks.retest import asked_twice, compare

RNG = np.random.default_rng(0)
COUNT = 40
LABEL = np.arange(COUNT) % 2
PATIENTS = pd.DataFrame(
    {
        "patient_id": [f"P{n:02}" for n in range(COUNT)],
        "label": LABEL,
        "age_years": RNG.integers(20, 90, COUNT),
        "lymphocyte_count": RNG.uniform(4, 90, COUNT),
    }
)
FOLDS = pd.concat(
    PATIENTS[["patient_id"]].assign(repeat=repeat, fold=RNG.permutation(COUNT) % 4)
    for repeat in (1, 2)
)


def test_equal_cells_make_equal_halves():
    owner = np.repeat(np.arange(COUNT), 4)
    cells = np.repeat(RNG.normal(size=(COUNT, 3)) + LABEL[:, None], 4, axis=0).astype(np.float32)
    logits = asked_twice(cells, owner, PATIENTS, FOLDS, seed=0)
    for of_name in logits.values():
        np.testing.assert_allclose(of_name[:, 0], of_name[:, 2])
        (alike, _), (kappa, _), (correlation, _), *_ = compare(of_name, LABEL, np.ones((3, COUNT)))
        assert alike[0] == kappa[0] == 1
        assert correlation[0] == pytest.approx(1)


def test_the_halves_share_no_cell():
    owner = np.repeat(np.arange(COUNT), 2)
    cells = RNG.normal(size=(2 * COUNT, 3)).astype(np.float32)
    pictures = asked_twice(cells, owner, PATIENTS, FOLDS, seed=0)["pictures"]
    # A regression is linear: of two cells, the mean's logit is that of both halves.
    np.testing.assert_allclose(pictures[:, :2].mean(axis=1), pictures[:, 2], atol=1e-6)
    assert (np.abs(pictures[:, 0] - pictures[:, 1]) > 1e-6).all()


def test_figures_are_their_definitions_under_weights():
    logits = RNG.normal(size=(2, 3, COUNT)) + LABEL
    weights = np.vstack([np.ones(COUNT), RNG.integers(0, 4, COUNT)])
    found = [values for values, _ in compare(logits, LABEL, weights)]
    for resample, w in enumerate(weights):
        expected = []
        for one, other, whole in logits:
            covariance = np.cov(one, other, aweights=w)
            expected.append(
                (
                    np.average((one >= 0) == (other >= 0), weights=w),
                    cohen_kappa_score(one >= 0, other >= 0, sample_weight=w),
                    covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]),
                    balanced_accuracy_score(LABEL, one >= 0, sample_weight=w),
                    balanced_accuracy_score(LABEL, whole >= 0, sample_weight=w),
                )
            )
        np.testing.assert_allclose([f[resample] for f in found], np.mean(expected, axis=0))
