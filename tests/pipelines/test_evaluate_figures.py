import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.parameters import EvaluationParameters
from lymphocytosis.pipelines.evaluate.figures import _GRID, _curves, plot_calibration

EVALUATION = EvaluationParameters(
    source="stratified", folds=5, repeats=2, seed=0, pretraining="once", resamples=100,
    confidence=0.95,
)  # fmt: skip


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


class TestCalibration:
    @pytest.fixture
    def drawn(self):
        """A function that draws the figure, the kept calibration given; returns its panels."""
        rng = np.random.default_rng(0)
        tables = []
        for method in (CLINICAL, "large, pictures"):
            for repeat in (1, 2):
                probability = rng.uniform(size=50)
                tables.append(
                    pd.DataFrame(
                        {
                            "method": method, "repeat": repeat,
                            "patient_id": [f"P{n}" for n in range(50)],
                            "label": rng.uniform(size=50) < probability**2,
                            "probability": probability, "platt": probability**2,
                            "beta": probability**2,
                        }
                    )
                )  # fmt: skip
        nested = pd.concat(tables, ignore_index=True)

        def draw(kept):
            judged = nested[nested["method"] == "large, pictures"].assign(kept=kept)
            return nested, plot_calibration(nested, judged, EVALUATION).axes

        return draw

    def curves(self, axis):
        return {line.get_label(): line for line in axis.lines if line.get_label()[0] != "_"}

    def test_points_are_the_shares_of_five_bins_and_bars_their_wilson_intervals(self, drawn):
        nested, (_, pictures) = drawn("none")
        points = []
        for _, rows in nested[nested["method"] == "large, pictures"].groupby("repeat"):
            bins = pd.qcut(rows["probability"], 5, labels=False)
            points.append(rows.groupby(bins)[["probability", "label"]].mean().to_numpy(float))
        expected = np.mean(points, axis=0)
        (curve,) = self.curves(pictures).values()
        np.testing.assert_allclose(curve.get_xydata(), expected)
        bars = [line.get_xydata() for line in pictures.lines if len(line.get_xydata()) == 2][1:]
        assert len(bars) == 5
        for (x, share), ((left, low), (right, high)) in zip(expected, bars, strict=True):
            k = round(share * 10)
            middle = (k + 1.96**2 / 2) / (10 + 1.96**2)
            half = 1.96 / (10 + 1.96**2) * np.sqrt(k * (10 - k) / 10 + 1.96**2 / 4)
            assert left == right == pytest.approx(x)
            assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-4)

    @pytest.mark.parametrize("kept", ["platt", "beta"])
    def test_the_calibrated_curve_is_drawn_where_one_was_kept(self, drawn, kept):
        nested, (clinical, pictures) = drawn(kept)
        assert set(self.curves(clinical)) == {"as predicted"}
        curves = self.curves(pictures)
        assert set(curves) == {"as predicted", "calibrated"}
        rows = nested[nested["method"] == "large, pictures"]
        assert curves["calibrated"].get_xdata().mean() == pytest.approx(
            (rows["probability"] ** 2).mean()
        )
