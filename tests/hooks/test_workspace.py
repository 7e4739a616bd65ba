import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import click
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node

from lymphocytosis.hooks.project import ProjectHooks
from lymphocytosis.progress import unfinished
from tests.hooks.conftest import one_machine


class TestOneRunAWorkspace:
    @pytest.fixture
    def runs(self, tmp_path, run_params):
        """A function that brings the hooks of a run to its start, all in one workspace."""

        def start(hooks=None):
            hooks = hooks or ProjectHooks()
            hooks.parameters = one_machine(tmp_path / "out")
            hooks.before_pipeline_run(run_params, Pipeline([]), DataCatalog())
            return hooks

        return start

    def test_the_second_is_told_of_the_first(self, runs, run_params):
        first = runs()
        told = rf"Another run is using .*out: process {os.getpid()} on .+, since \d{{4}}-"
        with pytest.raises(click.ClickException, match=told):
            runs()
        first.after_pipeline_run(run_params, Pipeline([]), DataCatalog())
        runs().on_pipeline_error(ValueError(), DataCatalog())
        runs().lock.release()

    def test_a_killed_one_is_no_obstacle_and_is_cleared_up_after(self, runs, tmp_path):
        killed = (
            "import os, pathlib; from lymphocytosis.hooks.workspace import lock_workspace;"
            f"lock = lock_workspace(pathlib.Path({str(tmp_path / 'out')!r})); "
            "os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", killed], check=False)
        left = tmp_path / "out/06_models/.large.pt.7.part"
        left.parent.mkdir()
        left.touch()
        assert (tmp_path / "out/.run.lock").exists()
        runs().lock.release()
        assert not left.exists()

    def test_one_that_was_interrupted_does_not_keep_out_the_next(self, runs):
        interrupted = runs()  # Kedro tells no hook of Ctrl-C
        runs(interrupted).lock.release()

    def test_another_threads_run_is_left_alone(self, runs):
        hooks = runs()
        with (
            ThreadPoolExecutor() as other,
            pytest.raises(click.ClickException, match="Another run is using"),
        ):
            other.submit(runs, hooks).result()
        hooks.lock.release()

    def test_a_workspace_that_can_not_be_written_to_is_refused(self, runs, tmp_path):
        (tmp_path / "out").touch()
        with pytest.raises(click.ClickException, match=r"workspace .*out can't be written to"):
            runs()


class TestEndedWell:
    def test_only_what_became_of_this_run_is_cleared(self, tmp_path, run_params):
        hooks = ProjectHooks()
        hooks.parameters = one_machine(tmp_path)
        kept = {entry: unfinished(str(tmp_path), entry) for entry in ("embeddings", "autoencoder")}
        for progress in kept.values():
            progress.save_values("part", {})
        embed = Pipeline([node(lambda seed: 1, "params:seed", "embeddings")])
        catalog = DataCatalog({"params:seed": MemoryDataset(0)})
        hooks.before_pipeline_run(run_params, embed, catalog)
        hooks.after_pipeline_run(run_params, embed, catalog)
        assert kept["embeddings"].values("part") is None
        assert kept["autoencoder"].values("part") == {}
