import pandas as pd
import pytest

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import measure
from lymphocytosis.decision.leaks import SAME
from lymphocytosis.decision.summary import (
    describe_evaluation,
    describe_referral,
    outline,
    say_what_encoder_saw,
    warn,
)
from lymphocytosis.parameters import EnsembleParameters

ENSEMBLE = "large, pictures + clinical"
SHUFFLED = "large, shuffled labels"
CONTROLS = {
    "bag size": "number of pictures",
    "date format": "birth date",
    "row order": "order of rows",
    "picture format": "file format",
    "picture size": "size of a patient's pictures in pixels",
    "converted pictures": "converted",
    SHUFFLED: "trained on shuffled labels",
}


def judged(**p_of):
    """Tests of all controls: nothing found, but for those that are named."""
    rows = [
        {"control": name, "found": "AUC 0.700", "p": 1.0, "least_p": 0.001} for name in CONTROLS
    ]
    table = pd.DataFrame(rows).set_index("control")
    for name, p in p_of.items():
        table.loc[name, "p"] = p
    return table.reset_index()


@pytest.fixture(scope="module")
def sound(nested):
    return measure(nested({CLINICAL: 0.2, ENSEMBLE: 3.0}, n=80), 300, 0.95, 0)


class TestWarnings:
    def test_a_sound_evaluation_has_none(self, sound):
        assert warn(sound, judged()) == []

    def test_pictures_that_add_nothing(self, nested):
        (said,) = warn(measure(nested({CLINICAL: 1.5, ENSEMBLE: 1.5}), 300, 0.95, 0), judged())
        assert "pictures add nothing that could be shown" in said
        assert ENSEMBLE in said

    @pytest.mark.parametrize("control", CONTROLS)
    def test_a_leak_is_reported(self, sound, control):
        (said,) = warn(sound, judged(**{control: 0.001}))
        assert CONTROLS[control] in said
        assert "AUC 0.700, p = 0.001" in said
        assert "may" not in said.split("p = ")[0]

    @pytest.mark.parametrize("control", CONTROLS)
    def test_a_leak_that_is_not_certain_is_reported_with_may(self, sound, control):
        (said,) = warn(sound, judged(**{control: 0.04}))
        assert " may predict the diagnosis" in said or " may do better" in said
        assert warn(sound, judged(**{control: 0.06})) == []

    def test_too_few_patients_to_tell(self, sound):
        (said,) = warn(sound, judged().assign(least_p=0.4))
        assert said.startswith("Too few patients to tell")
        assert "p would be 0.40" in said


class TestWords:
    def test_every_method_and_rule_has_its_rows(self, table):
        text = describe_evaluation(table, judged(), ["Look out."], "The encoder is frozen.")
        assert text.startswith("- **Look out.**")
        assert "The encoder is frozen." in text
        scores, referrals, differences, _ = (p for p in text.split("\n\n") if "| ---" in p)
        assert scores.count("\n") == 2 + 2 + 2 * 3 - 1  # two without an ensemble, two with three
        assert referrals.count("\n") == 2 + 4 - 1
        assert CLINICAL not in differences
        of_method = (table["method"] == ENSEMBLE) & (table["metric"] == "balanced_accuracy")
        value = table[of_method & (table["rule"] == "AVG")].iloc[0]
        shown = f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
        assert f"| {ENSEMBLE} | AVG | {shown} +- {value['spread']:.3f} |" in scores

    def test_every_control_has_its_p_and_what_it_means(self, table):
        tests = judged(**{"bag size": 0.002, "row order": 0.03})
        tests.loc[tests["control"].isin(["date format", SHUFFLED]), "least_p"] = 0.5
        tests.loc[tests["control"] == "picture format", "found"] = SAME
        text = describe_evaluation(table, tests, [], "")
        assert "| bag size | AUC 0.700 | 0.002 | predicts the diagnosis |" in text
        assert "| row order | AUC 0.700 | 0.030 | may predict the diagnosis |" in text
        assert "| date format | AUC 0.700 | 1.000 | unknown: too few patients" in text
        assert f"| {SHUFFLED} | AUC 0.700 | 1.000 | unknown: too few folds" in text
        assert f"| picture format | {SAME} | 1.000 | no leak |" in text
        assert "| picture size | AUC 0.700 | 1.000 | nothing found |" in text

    def test_the_outline_has_every_method_and_fits_a_terminal(self, table):
        lines = outline(table).splitlines()
        assert len(lines) == 1 + table["method"].nunique() + 1 + 1
        assert max(map(len, lines)) <= 80
        found = table[(table["method"] == ENSEMBLE) & table["rule"].fillna("AVG").eq("AVG")]
        rows = [found[found["metric"] == m].iloc[0] for m in ("balanced_accuracy", "auc")]
        figures = [f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in rows]
        assert f"{ENSEMBLE:31}{'  '.join(figures)}" in lines
        less = [f"{row['difference']:+.3f}" for row in rows]
        (line,) = [line for line in lines[-1:] if line.startswith(ENSEMBLE)]
        assert line[28:34] == less[0]
        assert line[53:59] == less[1]


class TestAdvice:
    ensemble = EnsembleParameters(
        sa_variant="corrected", size="large", wanted_sensitivity=0.95, error_rate=0.1
    )

    def scored(self, reactive=34):
        """The least that `measure_referral` returns of one method."""
        shares = [
            "coverage_reactive", "coverage_tumoral", "sensitivity", "specificity", "undecided",
            "decided_balanced_accuracy",
        ]  # fmt: skip
        rows = [(None, metric, 0.9, 0.8, 0.95, reactive) for metric in shares[:1]]
        rows += [(None, metric, 0.925, 0.85, 0.975, 76) for metric in shares[1:-1]]
        rows += [(None, shares[-1], None, None, None, 0)]
        for share, name in zip((0.25, 0.75, 0), ("none", "platt", "beta"), strict=True):
            rows += [(name, "log_loss", 0.3, 0.2, 0.4, 110), (name, "brier", 0.1, 0.05, 0.2, 110)]
            rows += [(name, "kept", share, None, None, 110)]
        names = ["calibration", "metric", "value", "low", "high", "patients"]
        return pd.DataFrame(rows, columns=names).assign(method=ENSEMBLE, repeats=5)

    def test_every_method_has_its_row_and_every_calibration(self):
        text = describe_referral(self.scored(), self.ensemble)
        share = "0.925 [0.850, 0.975]"
        assert (
            f"| {ENSEMBLE} | {share} | 0.900 [0.800, 0.950] | {share} | {share} | {share} | - |"
            in text
        )
        assert f"| {ENSEMBLE} | platt | 0.300 [0.200, 0.400] | 0.100 [0.050, 0.200] | 75% |" in text
        assert "should be at least 90%, and sensitivity 95%" in text
        assert "too few" not in text

    def test_a_class_with_too_few_patients_is_named(self):
        text = describe_referral(self.scored(reactive=8), self.ensemble)
        assert "- **8 reactive patients are too few" in text


class TestWhatTheEncoderSaw:
    @pytest.mark.parametrize(
        ("task", "weights", "each_fold", "told"),
        [
            ("frozen", "package", False, "it saw no pictures here"),
            ("frozen", "mine.pth", False, "trained on is unknown"),
            ("simclr", "package", False, "on the pictures of held-out patients too"),
            ("simclr", "package", True, "never saw a picture of the patients held out"),
        ],
    )
    def test_it_is_told(self, task, weights, each_fold, told):
        assert told in say_what_encoder_saw(task, "all", weights, each_fold)
