"""The evaluations of many made-up workspaces, collected through Kedro as a user runs it."""

import click
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from tests.pipelines.test_choose import PROJECT

EARLY, LATE = "2026-01-31T09.15.00.000Z", "2026-02-28T09.15.00.000Z"
ROWS = (("AVG", "balanced_accuracy"), (None, "auc"))


def evaluation(value):
    shared = {
        "value": value, "low": 0.1, "high": 0.9, "spread": None, "difference": None,
        "difference_low": None, "difference_high": None, "difference_p": None, "patients": 20,
        "repeats": 1,
    }  # fmt: skip
    return pd.DataFrame(
        [{"method": "large, pictures", "rule": r, "metric": m, **shared} for r, m in ROWS]
    )


@pytest.fixture
def put(tmp_path):
    """A function that writes a workspace's evaluation and returns its file."""

    def write(run, value, version=EARLY):
        path = tmp_path / f"runs/{run}/08_reporting/evaluation.csv/{version}/evaluation.csv"
        path.parent.mkdir(parents=True)
        evaluation(value).to_csv(path, index=False)
        return path

    return write


@pytest.fixture
def collect(tmp_path):
    bootstrap_project(PROJECT)

    def run():
        places = {"runs_dir": str(tmp_path / "runs"), "workspace": str(tmp_path / "out")}
        with KedroSession.create(PROJECT, runtime_params=places) as session:
            session.run(pipeline_names=["collect"])
            return session.load_context().catalog.load("all_evaluations")

    return run


def test_a_thousand_workspaces_become_one_table(put, collect):
    values = {f"hospital-{n % 7}/ward-{n:04}": n / 1000 for n in range(1000)}
    for run, value in values.items():
        put(run, value)
    put("hospital-3/ward-0003", 0.999, LATE)
    table = collect()
    assert len(table) == 2000
    assert list(table.columns) == ["run", "version", *evaluation(0).columns]
    found = table[table["metric"] == "auc"].set_index("run")
    assert found["value"].to_dict() == values | {"hospital-3/ward-0003": 0.999}
    assert found["version"].value_counts().to_dict() == {EARLY: 999, LATE: 1}
    assert found["rule"].isna().all()


def test_what_can_not_be_used_is_left_out_and_named(put, collect, caplog):
    put("whole", 0.5)
    put("binary", 0.5).write_bytes(b"\xff\xfe\x00" * 9)
    path = put("edited", 0.5)
    path.write_text(path.read_text().replace("0.5", "1.5"))
    path = put("older", 0.5)
    path.write_text(path.read_text().replace("metric", "figure"))
    assert set(collect()["run"]) == {"whole"}
    (told,) = [r.getMessage() for r in caplog.records if "are left out" in r.getMessage()]
    assert "3 fault(s)." in told
    assert "edited: row 1, column value" in told
    assert "older: its columns are not those of an evaluation" in told
    assert "binary: " in told
    assert "evaluation.csv can't be read as CSV" in told


def test_where_none_can_be_used_the_run_ends(put, collect):
    put("edited", 1.5)
    with pytest.raises(click.ClickException, match=r"No evaluation below runs_dir.*\n.*edited: "):
        collect()


def test_no_workspace_at_all(collect):
    with pytest.raises(click.ClickException, match=r"runs holds no evaluation.*--params=runs_dir"):
        collect()
