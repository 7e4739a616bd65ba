import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphocytosis.decision.rules import RULES, decide_by_average, decide_by_sa, explain, summarise
from lymphocytosis.parameters import EnsembleParameters


def statistics(mean, std, highest, lowest):
    return pd.DataFrame(
        {"patient_id": ["P1"], "mean": [mean], "std": [std], "max": [highest], "min": [lowest]}
    )


# mean, std, max, min, then the decisions worked out by hand: corrected, as printed.
CASES = [
    # clearly positive: mean - std > 0.5
    (0.90, 0.05, 0.99, 0.80, 1, 1),
    # clearly negative: mean + std < 0.5
    (0.10, 0.05, 0.20, 0.01, 0, 0),
    # mean over 0.5, spread wide: Algorithm 1; 0.95 > 1 - 0.30
    (0.60, 0.25, 0.95, 0.30, 1, 1),
    # mean over 0.5, spread wide: Algorithm 1; 0.80 < 1 - 0.05
    (0.60, 0.25, 0.80, 0.05, 0, 0),
    # mean under 0.5, spread wide: corrected asks Algorithm 1, 0.95 > 1 - 0.10; printed says 0
    (0.45, 0.30, 0.95, 0.10, 1, 0),
    # mean under 0.5, spread wide: Algorithm 1 says 0 as well
    (0.45, 0.30, 0.80, 0.05, 0, 0),
    # mean exactly 0.5 is the upper branch; mean - std = 0.5 is not over 0.5: Algorithm 1
    (0.50, 0.00, 0.50, 0.50, 0, 0),  # tie: 0.5 > 1 - 0.5 is false
    (0.50, 0.20, 0.90, 0.25, 1, 1),
    (0.50, 0.20, 0.75, 0.10, 0, 0),
    # mean - std exactly 0.5 (dyadic numbers, exact in floating point): Algorithm 1, both ways
    (0.75, 0.25, 0.875, 0.25, 1, 1),
    (0.75, 0.25, 0.875, 0.125, 0, 0),  # tie: 0.875 > 1 - 0.125 is false
    # mean + std exactly 0.5 is not under 0.5: corrected asks Algorithm 1
    (0.25, 0.25, 0.875, 0.25, 1, 0),
    (0.25, 0.25, 0.75, 0.125, 0, 0),
    # all models of one mind
    (1.0, 0.0, 1.0, 1.0, 1, 1),
    (0.0, 0.0, 0.0, 0.0, 0, 0),
    # the paper's example of a patient with one prediction of 0.001 and another of 0.95
    (0.48, 0.40, 0.95, 0.001, 0, 0),
    (0.48, 0.40, 0.9995, 0.001, 1, 0),
]


class TestSA:
    @pytest.mark.parametrize("case", CASES)
    def test_cases_worked_out_by_hand(self, case):
        *values, corrected, as_printed = case
        table = statistics(*values)
        assert decide_by_sa(table, "corrected")["decision"].tolist() == [corrected]
        assert decide_by_sa(table, "as_printed")["decision"].tolist() == [as_printed]

    @settings(max_examples=200, deadline=None)
    @given(
        predictions=st.lists(st.floats(0, 1), min_size=1, max_size=15),
        variant=st.sampled_from(["corrected", "as_printed"]),
    )
    def test_it_is_the_papers_pseudocode(self, predictions, variant):
        table = summarise(pd.DataFrame({"patient_id": "P1", "probability": predictions}))
        row = table.iloc[0]

        def compare_min_max():
            return 1 if row["max"] > 1 - row["min"] else 0

        if row["mean"] >= 0.5:
            expected = 1 if row["mean"] - row["std"] > 0.5 else compare_min_max()
        else:
            sign = 1 if variant == "corrected" else -1
            negative = row["mean"] + sign * row["std"] < 0.5
            expected = 0 if negative else compare_min_max()
        assert decide_by_sa(table, variant)["decision"].tolist() == [expected]

    @settings(max_examples=100, deadline=None)
    @given(predictions=st.lists(st.floats(0, 1), min_size=1, max_size=15))
    def test_as_printed_never_calls_a_mean_under_half_positive(self, predictions):
        table = summarise(pd.DataFrame({"patient_id": "P1", "probability": predictions}))
        if table["mean"][0] < 0.5:
            assert decide_by_sa(table, "as_printed")["decision"][0] == 0


class TestAverage:
    @pytest.mark.parametrize(("mean", "decision"), [(0.5, 1), (0.4999999, 0), (0.9, 1), (0, 0)])
    def test_half_and_more_is_positive(self, mean, decision):
        table = statistics(mean, 0.1, 1.0, 0.0)
        assert decide_by_average(table)["decision"].tolist() == [decision]


class TestStatistics:
    def test_they_are_numpys_over_each_patients_predictions(self):
        rng = np.random.default_rng(0)
        predictions = pd.DataFrame(
            {"patient_id": rng.choice(["P1", "P2", "P30"], 60), "probability": rng.random(60)}
        )
        table = summarise(predictions).set_index("patient_id")
        for patient_id, values in predictions.groupby("patient_id")["probability"]:
            own = values.to_numpy()
            expected = [own.mean(), np.sqrt(((own - own.mean()) ** 2).mean()), max(own), min(own)]
            np.testing.assert_allclose(table.loc[patient_id], expected, rtol=1e-12)

    def test_nobody_gives_an_empty_table(self):
        empty = pd.DataFrame({"patient_id": pd.Series(dtype=str), "probability": []})
        table = summarise(empty)
        assert list(table.columns) == ["patient_id", "mean", "std", "max", "min"]
        assert decide_by_sa(table, "corrected").empty


class TestExplanations:
    @staticmethod
    def concluded(said):
        """What the words say, without looking at the rule."""
        if "settles" in said:
            return int("still above" in said)
        return int(" is further above" in said)

    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("variant", ["corrected", "as_printed"])
    def test_sa_in_words_says_what_it_decides(self, case, variant):
        *values, corrected, as_printed = case
        block = EnsembleParameters(
            sa_variant=variant, size="large", wanted_sensitivity=0.9, error_rate=0.1
        )
        said = explain("sa", statistics(*values).iloc[0].to_dict(), block)
        assert self.concluded(said) == (corrected if variant == "corrected" else as_printed)
        assert f"{values[0]:.3f}" in said

    def test_avg_and_a_rule_without_words(self):
        row = {"mean": 0.5}
        assert explain("avg", row, None) == "The mean of the predictions, 0.500, is 0.5 or more."
        assert explain("max", row, None) == ""


class TestDiagrams:
    """What kedro viz shows of a rule is what the rule does."""

    def follow(self, diagram, conditions, values):
        boxes = dict(re.findall(r'(\w+)(?:\{"|\(\[")([^"]+)"', diagram))
        arrows = re.findall(r"(\w+)(?:\{.*?\})? -- (yes|no) --> (\w+)", diagram)
        at = arrows[0][0]
        while at not in ("tumoral", "reactive"):
            answer = "yes" if eval(conditions[boxes[at]], values) else "no"  # noqa: S307
            (at,) = [end for start, said, end in arrows if (start, said) == (at, answer)]
        return int(at == "tumoral")

    @pytest.mark.parametrize("variant", ["corrected", "as_printed"])
    @pytest.mark.parametrize(("mean", "std", "highest", "lowest", "corrected", "printed"), CASES)
    def test_following_it_decides_as_the_rule(
        self, variant, mean, std, highest, lowest, corrected, printed
    ):
        edge = "mean + std" if variant == "corrected" else "mean - std"
        conditions = {
            "mean at least 0.5?": "mean >= 0.5",
            "mean - std above 0.5?": "mean - std > 0.5",
            "corrected: mean + std below 0.5?<br/>as_printed: mean - std below 0.5?": (
                f"{edge} < 0.5"
            ),
            "max above 1 - min?": "highest > 1 - lowest",
        }
        values = {"mean": mean, "std": std, "highest": highest, "lowest": lowest}
        expected = corrected if variant == "corrected" else printed
        assert self.follow(RULES["sa"].diagram, conditions, values) == expected
        assert self.follow(RULES["avg"].diagram, conditions, values) == (mean >= 0.5)
