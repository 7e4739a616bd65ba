import logging
from pathlib import Path

import click
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.runner import ParallelRunner

from lymphocytosis.hooks.options import Session, check_options

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project():
    bootstrap_project(PROJECT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pipeline_names": ["clasify"]}, r"--pipelines=clasify: .*no such pipeline.* classify\.$"),
        ({"pipeline_name": "clasify"}, r"--pipelines=clasify: .*no such pipeline.* classify\.$"),
        (
            {"pipeline_names": ["zzz"]},
            r"available: .*choose, classify, collect, demo, embed",
        ),
        (
            {"node_names": ["embed_cells"]},
            r"--nodes=embed_cells: .* node.* embed\.embed_cells",
        ),
        ({"from_nodes": ["embed.embed_cels"]}, r"--from-nodes=.*the nearest: embed\.embed_cells"),
        ({"to_nodes": ["predict"]}, r"--to-nodes=.*ensemble\.(large|small)\.predict"),
        ({"from_inputs": ["cels"]}, r"--from-inputs=cels: .*no such entry.*: cells"),
        ({"to_outputs": ["resluts"]}, r"--to-outputs=resluts: .*no such entry.*: results"),
        ({"tags": ["gup"]}, r"--tags=gup: .*no such tag.*: gpu"),
        ({"namespaces": ["embd"]}, r"--namespaces=embd: .*no such namespace.*: embed"),
        ({"load_versions": {"cels": "2026"}}, r"--load-versions=cels: .*no such entry.*: cells"),
        (
            {"pipeline_names": ["ingest"], "tags": ["gpu"]},
            r"--tags=gpu: .*no such tag here; available: ingest\.",
        ),
        (
            {"tags": ["gpu"], "node_names": ["classify.make_splits"]},
            r"--tags=gpu and --nodes=classify\.make_splits leave no node",
        ),
        ({"runner": ParallelRunner()}, r"ParallelRunner can't be used"),
    ],
)
def test_a_wrong_one_is_refused_in_one_line_with_the_nearest_names(options, message):
    with pytest.raises(click.ClickException, match=message) as told:
        check_options(options)
    assert "\n" not in told.value.message


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pipeline_names": ["classify", "ensemble"], "namespaces": ["classify.large"]},
        {"tags": ["gpu"], "to_nodes": ["embed.embed_cells"], "load_versions": {"cells": "2026"}},
        {"from_inputs": ["splits"], "to_outputs": ["large_classifiers"]},
    ],
)
def test_right_ones_pass(options):
    check_options(options)


def test_a_session_checks_before_anything_is_made(tmp_path):
    places = {"cohort_dir": str(tmp_path), "workspace": str(tmp_path / "out")}
    with (
        Session.create(PROJECT, runtime_params=places) as session,
        pytest.raises(click.ClickException, match="no such tag"),
    ):
        session.run(tags=("gup",))
    assert not (tmp_path / "out").exists()


def test_a_mistyped_environment_is_refused_with_the_nearest():
    with (
        KedroSession.create(PROJECT, env="deom") as session,
        pytest.raises(click.ClickException, match=r"--env=deom: .*no such environment.*: demo\.$"),
    ):
        session.load_context()


def test_kedro_adds_no_advice_of_its_own_to_an_error():
    runner = logging.getLogger("kedro.runner.sequential_runner")
    assert not runner.isEnabledFor(logging.WARNING)
