import pandas as pd
import pytest

from lymphocytosis.runs.comparing import say_differences
from lymphocytosis.runs.history import find_runs
from tests.decision.conftest import nested_predictions
from tests.runs.conftest import version


@pytest.fixture
def differences(tmp_path):
    """A function that says in what the two runs of the workspace differ, as one text."""
    return lambda: "\n".join(say_differences(*reversed(find_runs(tmp_path))))


def test_parameters_code_and_inputs(add_run, differences):
    for number, epochs in enumerate((6, 7)):
        add_run(
            version(number),
            ["06_models/a.pt", f"06_models/only{number}.pt"],
            {"02_x/cells.parquet": version(number)},
            parameters={"pretext": {"epochs": epochs, "name": "simclr"}, "seed": 0},
            code={"version": "1", "commit": f"c{number}", "changed": False},
        )
    lines = differences().splitlines()
    assert lines == [
        "code:",
        "  commit: c0 -> c1",
        "packages: the same",
        "parameters:",
        "  pretext.epochs: 6 -> 7",
        "inputs: 1 in both, of which 0 differ",
        "outputs: 1 in both, of which 1 differ",
        "  differ: a",
        "  only in A: only0",
        "  only in B: only1",
    ]


def test_what_one_made_and_the_other_loaded_is_compared(add_run, differences, tmp_path):
    add_run(version(0), ["02_x/cells.parquet", "02_x/patients.parquet"])
    made = find_runs(tmp_path)[0].manifest.outputs
    other = made["patients"].model_copy(update={"sha256": "0"})
    add_run(version(1), inputs={"cells": made["cells"], "patients": other})
    lines = differences().splitlines()
    assert lines[lines.index("inputs: 2 in both, of which 1 differ") + 1] == "  differ: patients"


@pytest.fixture
def save(tmp_path):
    """A function that saves a table as a run's version of an entry."""

    def write(number, entry, table):
        path = tmp_path / entry / version(number) / entry.split("/")[1]
        path.parent.mkdir(parents=True)
        to = table.to_csv if path.suffix == ".csv" else table.to_parquet
        to(path, index=False)

    return write


def test_results_side_by_side(save, differences):
    for number, score in enumerate((0.75, None)):
        table = pd.DataFrame(
            {
                "method": ["large AVG"],
                "test_balanced_accuracy": [score],
                "out_of_fold_balanced_accuracy": [0.5 + number / 8],
            }
        )
        save(number, "08_reporting/results.csv", table)
    told = differences().splitlines()
    assert told[-1].split() == ["large", "AVG", "0.750", "-", "0.500", "0.625"]
    assert told[0] == "Only results are compared: a run without a manifest does not say more."


class TestEvaluations:
    ENTRY = "07_model_output/nested_predictions.parquet"
    METHOD = "large, pictures + clinical"

    def test_the_paired_difference(self, save, differences):
        for number, signal in enumerate((0.3, 3.0)):
            save(number, self.ENTRY, nested_predictions({self.METHOD: signal}, seed=number))
        lines = differences().splitlines()
        assert "evaluations, on the same folds: 40 patients, 3 repeat(s)" in lines
        (auc,) = [line.split() for line in lines if line.split()[:1] == ["AUC"]]
        first, second, difference = (float(value) for value in auc[1:4])
        assert difference == pytest.approx(second - first, abs=0.0011)
        assert float(auc[4].strip("(")) > 0
        assert max(map(len, lines)) <= 80

    def test_other_folds(self, save, differences):
        for number, n in enumerate((40, 44)):
            save(number, self.ENTRY, nested_predictions({self.METHOD: 1.0}, n=n))
        assert "not on the same folds of the same patients" in differences()
