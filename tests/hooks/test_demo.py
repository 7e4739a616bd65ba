from pathlib import Path

import click
import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from lymphocytosis.hooks.demo import draws_cohort_first

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def session(tmp_path):
    """A function that makes a session on a cohort folder that does not exist."""
    bootstrap_project(PROJECT)

    def make(env, **more):
        places = {"cohort_dir": f"{tmp_path}/cohort", "workspace": f"{tmp_path}/{env}"}
        return KedroSession.create(PROJECT, env=env, runtime_params=places | more)

    return make


def test_the_demo_draws_its_cohort_before_it_reads_it(session, tmp_path):
    small = {"train_reactive": 6, "train_tumoral": 6, "test": 1, "min_cells": 1, "max_cells": 2}
    small["picture_size"] = 64
    with session("demo", simulation=small) as demo:
        demo.run(to_outputs=["registered_patients"])
    assert len(list((tmp_path / "cohort/trainset").iterdir())) == 12
    (version,) = (tmp_path / "demo/08_reporting/contact_sheet.png").iterdir()
    assert version.name == demo.session_id


def test_another_environments_session_never_draws_one_whatever_ran_before(session, tmp_path):
    before = set(pipelines["__default__"].nodes)
    with session("demo") as demo:
        demo.load_context()
        assert set(pipelines["__default__"].nodes) == before
    with session("base") as base, pytest.raises(click.ClickException, match="no cohort folder"):
        base.run(to_outputs=["ingest_report"])
    assert not (tmp_path / "cohort").exists()


def test_a_drawing_that_is_refused_lets_the_next_run_enter(session, tmp_path):
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort/a patient's.txt").touch()
    for _ in range(2):
        with session("demo") as demo, pytest.raises(click.ClickException, match="not make"):
            demo.run(to_outputs=["ingest_report"])


@pytest.mark.parametrize("option", ["pipeline_names", "node_names", "from_nodes", "tags"])
def test_a_part_of_the_demo_draws_none(run_params, option):
    bootstrap_project(PROJECT)
    default = pipelines["__default__"]
    assert draws_cohort_first(run_params | {"env": "demo"}, default)
    assert not draws_cohort_first(run_params | {"env": "demo", option: ["ingest"]}, default)
    assert not draws_cohort_first(run_params | {"env": "demo"}, pipelines["embed"])
