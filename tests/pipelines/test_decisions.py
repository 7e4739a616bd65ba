import pandas as pd
import pytest

from lymphocytosis.decision.rules import RULES, Rule
from lymphocytosis.parameters import EnsembleParameters
from lymphocytosis.pipelines import decisions

ENSEMBLE = EnsembleParameters(
    sa_variant="as_printed", size="large", wanted_sensitivity=0.95, error_rate=0.1
)


@pytest.fixture
def a_further_rule(monkeypatch):
    """One that follows the most positive prediction; its title names a parameter."""

    def decide(statistics, ensemble):
        assert ensemble is ENSEMBLE
        return statistics[["patient_id"]].assign(decision=(statistics["max"] >= 0.5).astype("int8"))

    monkeypatch.setitem(RULES, "top", Rule("top ({sa_variant})", decide))


class TestAFurtherRule:
    def test_gets_its_entries_nodes_and_submission(self, a_further_rule):
        nodes = {node.name: node for node in decisions.decide("large")}
        assert nodes["apply_top_rule"].outputs == ["large_top"]
        assert nodes["submit_top"].inputs == ["large_top"]
        assert nodes["submit_top"].outputs == ["submission_large_top"]
        statistics = pd.DataFrame({"patient_id": ["P1", "P2"], "max": [0.6, 0.4]})
        apply = nodes["apply_top_rule"].func
        assert list(apply(statistics, ENSEMBLE)["decision"]) == [1, 0]

    def test_gets_its_rows_in_the_table_of_results(self, a_further_rule):
        compare = decisions.compare({"small": "small", "pictures": "bag-images"}, "results")
        assert {"small_top", "pictures_top"} <= set(compare.inputs)
        patients = pd.DataFrame(
            {
                "patient_id": list("ABCD"),
                "subset": ["test", "test", "train", "train"],
                "label": pd.array([0, 1, 0, 1], "Int8"),
            }
        )
        decided = pd.DataFrame({"patient_id": ["A", "B"], "decision": [0, 1]})
        said = [("C", 0.1), ("C", 0.7), ("D", 0.9), ("D", 0.9)]
        out_of_fold = pd.DataFrame(said, columns=["patient_id", "probability"])
        history = pd.DataFrame({"epoch": [1]})
        by_ending = {"out_of_fold": out_of_fold, "history": history}
        tables = {
            entry: by_ending.get(entry.partition("_")[2], decided) for entry in compare.inputs[2:]
        }
        results = compare.func(patients, ENSEMBLE, **tables).set_index("method")
        assert list(results.index) == [
            f"{models} {rule}"
            for rule in ("AVG", "SA (as_printed)", "top (as_printed)")
            for models in ("small", "bag-images")
        ]
        found = results["out_of_fold_balanced_accuracy"]
        # C's mean is 0.4, and its greatest prediction 0.7.
        assert found["small AVG"] == 1
        assert found["small top (as_printed)"] == 0.5
