import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline, node

from lymphocytosis.datasets.progress import ProgressDataset
from lymphocytosis.hooks import ProjectHooks
from lymphocytosis.progress import Progress

PROJECT = Path(__file__).parents[1]


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


class TestOneRunAWorkspace:
    @pytest.fixture
    def runs(self, tmp_path):
        """A function that brings the hooks of a run to its start, all in one workspace."""

        def start():
            hooks = ProjectHooks()
            hooks.parameters = SimpleNamespace(workspace=str(tmp_path / "out"))
            hooks.before_pipeline_run(Pipeline([]), DataCatalog())
            return hooks

        return start

    def test_the_second_is_told_of_the_first(self, runs):
        first = runs()
        told = rf"Another run is at work in .*out: process {os.getpid()} on .+, since \d{{4}}-"
        with pytest.raises(click.ClickException, match=told):
            runs()
        first.after_pipeline_run({"run_id": "1"}, Pipeline([]), DataCatalog())
        runs().on_pipeline_error(ValueError(), DataCatalog())
        runs().lock.release()

    def test_a_killed_one_is_no_obstacle_and_is_cleared_up_after(self, runs, tmp_path):
        killed = (
            "import os, pathlib, lymphocytosis.hooks as hooks;"
            f"hooks._lock(pathlib.Path({str(tmp_path / 'out')!r})); os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", killed], check=False)
        left = tmp_path / "out/06_models/.large.pt.7.part"
        left.parent.mkdir()
        left.touch()
        assert (tmp_path / "out/.run.lock").exists()
        runs().lock.release()
        assert not left.exists()

    def test_a_workspace_that_can_not_be_written_to_is_refused(self, runs, tmp_path):
        (tmp_path / "out").touch()
        with pytest.raises(click.ClickException, match=r"workspace .*out can't be written to"):
            runs()


class TestEndedWell:
    def test_only_what_this_run_used_is_cleared(self, tmp_path):
        made = {name: Progress(tmp_path / name) for name in ("embed", "large")}
        for progress in made.values():
            progress.save_values("part", {})
        hooks = ProjectHooks()
        hooks.parameters = SimpleNamespace(workspace=str(tmp_path / "out"))
        catalog = DataCatalog(
            {f"{name}_progress": ProgressDataset(filepath=str(tmp_path / name)) for name in made}
        )
        embed = Pipeline([node(lambda progress: 1, "embed_progress", "made")])
        hooks.before_pipeline_run(embed, catalog)
        hooks.after_pipeline_run({"run_id": "1"}, embed, catalog)
        assert made["embed"].values("part") is None
        assert made["large"].values("part") == {}


class TestErrors:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
    def test_a_disk_that_takes_nothing_is_told_plainly(self, number):
        hooks = ProjectHooks()
        hooks.lock = SimpleNamespace(release=lambda: None)
        try:
            try:
                raise OSError(number, os.strerror(number), "large.parquet")
            except OSError as error:
                raise DatasetError("Failed while saving data") from error
        except DatasetError as error:
            told = f"{os.strerror(number)}.*large.parquet.*same command goes on"
            with pytest.raises(click.ClickException, match=told):
                hooks.on_pipeline_error(error, DataCatalog())

    def test_a_file_that_may_not_be_read_is_told_plainly(self):
        hooks = ProjectHooks()
        hooks.lock = SimpleNamespace(release=lambda: None)
        with pytest.raises(click.ClickException) as told:
            hooks.on_pipeline_error(
                PermissionError(errno.EACCES, "Permission denied", "cells.parquet"), DataCatalog()
            )
        assert re.search(
            r"may not read or write a file: .*denied: 'cells.parquet'", str(told.value)
        )
        assert "disk" not in str(told.value)

    def test_what_can_not_be_looked_for_is_told_plainly_before_the_run(self, tmp_path):
        class Locked(MemoryDataset):
            def _exists(self):
                raise PermissionError(errno.EACCES, "Permission denied", "cohort/trainset")

        hooks = ProjectHooks()
        hooks.parameters = SimpleNamespace(workspace=str(tmp_path / "out"))
        reads = Pipeline([node(lambda pictures: 1, "cohort_pictures", "made")])
        with pytest.raises(click.ClickException, match=r"denied: 'cohort/trainset'"):
            hooks.before_pipeline_run(reads, DataCatalog({"cohort_pictures": Locked()}))

    def test_another_error_is_left_as_it_is(self):
        hooks = ProjectHooks()
        hooks.lock = SimpleNamespace(release=lambda: None)
        hooks.on_pipeline_error(FileNotFoundError(errno.ENOENT, "none", "x"), DataCatalog())
