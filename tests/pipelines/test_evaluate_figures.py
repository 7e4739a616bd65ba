import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from lymphocytosis.pipelines.evaluate.figures import _GRID, _curves


class TestCurves:
    @pytest.mark.parametrize("seed", range(5))
    def test_they_go_through_scikit_learns_points(self, seed):
        rng = np.random.default_rng(seed)
        label = np.append([0, 1], rng.integers(0, 2, 40))
        probability = rng.integers(0, 8, 42) / 7
        counts = rng.integers(0, 3, 42)
        counts[:2] = 1
        (roc,), (precision,) = _curves(probability, label, counts[None].astype(float))
        repeated = np.repeat(label, counts), np.repeat(probability, counts)
        false_positive, true_positive, _ = roc_curve(*repeated, drop_intermediate=False)
        np.testing.assert_allclose(roc, np.interp(_GRID, false_positive, true_positive))
        of_sklearn, recall, _ = precision_recall_curve(*repeated)
        for at, found in zip(_GRID[1:], precision[1:], strict=True):
            # The highest threshold that reaches this recall.
            best = recall[recall >= at - 1e-9].min()
            assert found in [
                pytest.approx(p) for p, r in zip(of_sklearn, recall, strict=True) if r == best
            ]

    def test_a_perfect_order_has_precision_1_throughout(self):
        label = np.array([0, 0, 1, 1])
        (_,), (precision,) = _curves(np.array([0.1, 0.2, 0.3, 0.4]), label, np.ones((1, 4)))
        assert (precision == 1).all()
