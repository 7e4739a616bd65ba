from pathlib import Path

import click
import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from lymphocytosis.hooks.parameters import without_effect
from lymphocytosis.hooks.project import ProjectHooks
from tests.hooks.conftest import one_machine

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def parameters_in(tmp_path):
    """A function that reads the project's configuration with a parameters file of the user's.

    Or with a file of another name.
    """

    def read(text, name="parameters.yml"):
        for env in ("base", "local"):
            (tmp_path / env).mkdir()
        for path in (PROJECT / "conf/base").iterdir():
            (tmp_path / "base" / path.name).write_bytes(path.read_bytes())
        (tmp_path / "local" / name).write_text(text)
        bootstrap_project(PROJECT)
        with KedroSession.create(PROJECT, conf_source=str(tmp_path)) as session:
            return session.load_context().params

    return read


def test_a_users_file_changes_one_value_of_a_block_and_leaves_the_others(parameters_in):
    parameters = parameters_in("pretext:\n  epochs: 7\n")
    assert parameters["pretext"].epochs == 7
    assert parameters["pretext"].batch_size == 16


@pytest.mark.parametrize("given", ["mean+spread", ["mean", "spread"]])
def test_a_list_may_be_joined_by_plus_signs(given):
    bootstrap_project(PROJECT)
    encoder = {"pool": given, "layers": "1+2", "zooms": "1.0+0.5"}
    changes = {"encoder": encoder, "views": "vertical", "mil": {"hidden_widths": 8}}
    with KedroSession.create(PROJECT, runtime_params=changes) as session:
        parameters = session.load_context().params
    encoder = parameters["encoder"]
    assert (encoder.pool, encoder.layers, encoder.zooms) == (("mean", "spread"), (1, 2), (1, 0.5))
    assert parameters["views"] == ["vertical"]
    assert parameters["mil"].hidden_widths == (8,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [1,\nmil: {", r"can't be read: Invalid YAML"),
        ("seed: 1\nseed: 2\n", r"(?s)can't be read: .*duplicate key seed"),
        ("seed: ${globals:nope}\n", r"can't be read: Globals key 'nope' not found"),
        ("- 1\n- 2\n", r"can't be read"),
        ("sede: 1\n", r"sede: no such parameter"),
    ],
)
def test_a_file_that_cant_be_used_is_refused_in_one_message(parameters_in, text, message):
    with pytest.raises(click.ClickException, match=message):
        parameters_in(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cells: [1,\nmil: {", r"catalog.yml can't be read: Invalid YAML"),
        (
            "cells: {type: MemoryDataset}\ncells: 2\n",
            r"(?s)catalog.yml can't .*duplicate key cells",
        ),
        ("cells: ${globals:nope}\n", r"catalog.yml can't be read: Globals key 'nope' not found"),
        ("- 1\n- 2\n", r"catalog.yml can't be read"),
    ],
)
def test_a_catalog_that_cant_be_read_is_refused_in_one_message(parameters_in, text, message):
    with pytest.raises(click.ClickException, match=message):
        parameters_in(text, "catalog.yml")


def test_a_file_that_holds_code_is_refused_and_the_code_never_run(parameters_in, tmp_path):
    code = f"seed: !!python/object/apply:os.mkdir ['{tmp_path / 'owned'}']\n"
    with pytest.raises(click.ClickException, match=r"(?s)can't be read: .*python/object/apply"):
        parameters_in(code)
    assert not (tmp_path / "owned").exists()


class TestWithoutEffect:
    @pytest.mark.parametrize(
        ("pipeline", "given", "idle"),
        [
            ("ensemble", {"mil": {"aggregator": "max"}, "ensemble": {"x": 1}}, ["mil.aggregator"]),
            ("embed", {"encoder": {"name": "a"}, "views": ["original"]}, ["encoder.name"]),
            ("classify", {"mil": {"epochs": 1}, "seed": 1}, []),
            ("ingest", {"mil": {"scheduler": {"patience": 1}}}, ["mil.scheduler.patience"]),
            ("ingest", {"seed": 1}, ["seed"]),
            ("ingest", {"cohort_dir": "a", "workspace": "b", "runs_dir": "c", "bundle": "d"}, []),
        ],
    )
    def test_is_what_no_node_reads(self, pipeline, given, idle):
        bootstrap_project(PROJECT)
        assert without_effect(given, pipelines[pipeline]) == idle

    def test_is_said_before_the_run_in_one_line(self, tmp_path, run_params, caplog):
        hooks = ProjectHooks()
        hooks.parameters = one_machine(tmp_path)
        given = {"runtime_params": {"mil": {"epochs": 1, "dropout": 0.1}}}
        hooks.before_pipeline_run(run_params | given, Pipeline([]), DataCatalog())
        hooks.lock.release()
        assert caplog.messages == [
            "--params: no node of this run reads mil.dropout, mil.epochs: without effect."
        ]
