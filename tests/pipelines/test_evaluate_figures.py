import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import measure
from lymphocytosis.figures import BLUE, DARK, GREY, ORANGE
from lymphocytosis.parameters import EvaluationParameters
from lymphocytosis.pipelines.evaluate import figures

EVALUATION = EvaluationParameters(
    source="stratified", folds=5, repeats=2, seed=0, pretraining="once", resamples=100,
    confidence=0.95,
)  # fmt: skip
METHODS = [
    CLINICAL, "bag size",
    *(f"{size}, {of}" for size in ("large", "small")
      for of in ("pictures", "pictures + clinical", "shuffled labels")),
]  # fmt: skip


@pytest.fixture(scope="module")
def nested():
    """50 patients, 2 repeats; the probability is squared to be calibrated."""
    rng = np.random.default_rng(0)
    label = np.arange(50) % 3 > 0
    tables = []
    for method in METHODS:
        for repeat in (1, 2):
            probability = np.clip(rng.uniform(size=50) * 0.7 + 0.3 * label, 0, 1)
            tables.append(
                pd.DataFrame(
                    {
                        "method": method, "repeat": repeat, "fold": np.arange(50) % 5,
                        "patient_id": [f"P{n:02}" for n in range(50)],
                        "person": [f"P{n:02}" for n in range(50)],
                        "label": label.astype(int), "probability": probability,
                        "platt": probability**2, "beta": probability**2,
                        "decision": (probability >= 0.5).astype(int),
                        "referral": np.nan, "sa_corrected": np.nan, "sa_as_printed": np.nan,
                    }
                )
            )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def scores(nested):
    return measure(nested, 100, 0.95, 0)


def by_label(axis):
    return {line.get_label(): line for line in axis.lines if line.get_label()[0] != "_"}


class TestCurves:
    def test_they_begin_at_the_corner_and_the_legend_tells_the_area(self, nested, scores):
        figure = figures.plot_curves(nested, scores, EVALUATION)
        area = scores[scores["metric"] == "auc"].set_index("method")["value"]
        for roc, size in zip(figure.axes[::2], ("large", "small"), strict=True):
            lines = by_label(roc)
            methods = [CLINICAL, f"{size}, pictures", f"{size}, pictures + clinical"]
            assert len(lines) == 3
            for (text, line), method in zip(lines.items(), methods, strict=True):
                x, y = line.get_xydata().T
                assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
                assert f"AUC {area[method]:.3f} (" in text
                # The area under what is drawn is that in the legend.
                assert np.trapezoid(y, x) == pytest.approx(area[method], abs=0.02)
        assert "50 labelled patients (17 reactive, 33 tumoral)" in figure.get_supxlabel()


class TestCalibration:
    @pytest.mark.parametrize("kept", ["none", "platt", "beta"])
    def test_the_calibrated_curve_is_drawn_where_one_was_kept(self, nested, kept):
        judged = nested[nested["method"] == "large, pictures"].assign(kept=kept)
        clinical, pictures, *_ = figures.plot_calibration(nested, judged, EVALUATION).axes
        assert set(by_label(clinical)) == {"as predicted"}
        curves = by_label(pictures)
        mean = judged["probability"].mean()
        assert curves["as predicted"].get_xdata().mean() == pytest.approx(mean)
        if kept == "none":
            assert set(curves) == {"as predicted"}
        else:
            mean = (judged["probability"] ** 2).mean()
            assert curves["calibrated"].get_xdata().mean() == pytest.approx(mean)

    def test_nothing_is_cut_at_the_frame(self, nested):
        judged = nested.assign(kept="none")
        for axis in figures.plot_calibration(nested, judged, EVALUATION).axes:
            low, high = axis.get_ylim()
            assert low < 0 < 1 < high


class TestNetBenefit:
    def test_all_curves_begin_at_the_share_of_tumoral_patients(self, nested):
        for axis in figures.plot_net_benefit(nested, EVALUATION).axes:
            lines = by_label(axis)
            assert list(lines)[-2:] == ["refer all", "refer none"]
            for name in ("age and count", "pictures", "pictures + clinical", "refer all"):
                assert lines[name].get_ydata()[0] == pytest.approx(33 / 50)
            assert set(lines["refer none"].get_ydata()) == {0}


class TestDifferences:
    def test_a_row_a_method_and_controls_never_look_worse_or_better(self, scores):
        # One of each judgement.
        made = {
            "large, pictures": (0.1, 0.02, 0.2), "large, pictures + clinical": (0.1, -0.1, 0.2),
            "small, pictures": (-0.1, -0.2, -0.02), "bag size": (-0.3, -0.4, -0.2),
        }  # fmt: skip
        changed = scores.copy()
        for method, values in made.items():
            rows = changed["method"] == method
            changed.loc[rows, ["difference", "difference_low", "difference_high"]] = values
        figure = figures.plot_differences(changed, EVALUATION)
        names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert sorted(set(names) & set(METHODS)) == sorted(METHODS)
        colours = {"large, pictures": BLUE, "large, pictures + clinical": DARK,
                   "small, pictures": ORANGE, "bag size": GREY}  # fmt: skip
        for axis in figure.axes:
            points = {
                line.get_ydata()[0]: line for line in axis.lines if len(line.get_ydata()) == 1
            }
            for method, colour in colours.items():
                point = points[names.index(method)]
                assert point.get_xdata()[0] == made[method][0]
                assert same_color(point.get_color(), colour)
        (legend,) = figure.legends
        assert "control" in [text.get_text() for text in legend.get_texts()]
