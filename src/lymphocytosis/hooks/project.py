"""The project's Kedro hooks, in order; each job has its own file in this folder."""

import atexit
import logging
import threading
import time
from pathlib import Path
from typing import Any

import click
from filelock import FileLock
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog, DatasetError
from kedro.pipeline import Pipeline

from lymphocytosis import display
from lymphocytosis.errors import UserError
from lymphocytosis.hooks.demo import draw_cohort, draws_cohort_first
from lymphocytosis.hooks.inputs import check_bundle, check_encoder, check_inputs, spare_damaged
from lymphocytosis.hooks.machines import help_first_machine, warn_of_idle_processes
from lymphocytosis.hooks.mirror import Mirror, mirror_of, place_of
from lymphocytosis.hooks.models import check_models
from lymphocytosis.hooks.options import check_environment
from lymphocytosis.hooks.parameters import read_parameters, without_effect
from lymphocytosis.hooks.refusals import plainly, refusal
from lymphocytosis.hooks.summary import summarise
from lymphocytosis.hooks.versions import fix_versions, tell_versions, warn_of_gone
from lymphocytosis.hooks.workspace import lock_workspace
from lymphocytosis.parameters import Parameters
from lymphocytosis.progress import unfinished
from lymphocytosis.terminal import harmless, make_log_harmless

logger = logging.getLogger(__name__)


class ProjectHooks(threading.local):
    """The project's hooks. Their state belongs to the thread of the run."""

    parameters: Parameters
    lock: FileLock | None = None
    mirror: Mirror | None = None  # locked for this run
    catalog: DataCatalog
    begun: float

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check every parameter."""
        # Here, because logging.yml can't name our own filters.
        make_log_harmless()
        check_environment(context)
        self.parameters = read_parameters(context)

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Before any work, refuse what can't run; fix versions; simulate the demo's cohort."""
        self.begun = time.monotonic()
        workspace = Path(self.parameters.workspace)
        mirror = mirror_of(workspace)
        if mirror and self.parameters.compute.nodes > 1:
            raise refusal(
                f"compute.nodes is {self.parameters.compute.nodes}, and the workspace is "
                f"{mirror.url}: several machines need one that all of them see as a folder."
            )
        if self.parameters.compute.nodes > 1:
            help_first_machine(pipeline, self.parameters)
        elif self.parameters.compute.processes > 1:
            warn_of_idle_processes(pipeline, self.parameters)
        demo = draws_cohort_first(run_params, pipeline)
        whole = pipelines["simulate"] + pipeline if demo else pipeline
        self._unlock()  # after a run interrupted in a notebook
        try:
            if mirror:
                self._begin_in(mirror, run_params, whole, catalog)
            warn_of_gone(run_params, whole, catalog, workspace)
            check_inputs(run_params, whole, catalog)
            check_bundle(whole, catalog)
            if whole.only_nodes_with_tags("gpu").nodes:
                check_encoder(whole, self.parameters)
        except Exception as error:
            self._unlock()
            if isinstance(error, UserError | DatasetError):
                raise refusal(plainly(error, catalog) or str(error)) from error
            raise
        if not mirror:
            self.lock = lock_workspace(workspace)
        try:
            fix_versions(run_params, whole, catalog)
            tell_versions(run_params["run_id"], whole, catalog, workspace)
            spare_damaged(run_params, whole, catalog)
            given = run_params["runtime_params"] or {}
            compared = check_models(whole, catalog, self.parameters, given)
            idle = set(without_effect(given, whole)) - compared
            if idle:
                logger.warning(
                    "--params: no node of this run reads %s: without effect.",
                    ", ".join(sorted(idle)),
                )
            if demo:
                draw_cohort(run_params, catalog)
        except Exception as error:
            # Kedro calls it only for errors during the run.
            self.on_pipeline_error(error, catalog)
            raise

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Send what was saved to where the workspace is."""
        if self.mirror and (place := place_of(dataset_name, self.catalog)):
            dataset = self.catalog.get(dataset_name)
            if isinstance(dataset, AbstractVersionedDataset) and dataset._version:
                place = Path(dataset._get_versioned_path(dataset._version.save))
            if place.is_relative_to(self.mirror.folder):
                self.mirror.push(place)

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Sum the run up; remove its saved parts, which are no longer needed."""
        for entry in pipeline.all_outputs():
            try:
                unfinished(self.parameters.workspace, entry).clear()
            except OSError as error:
                # Harmless: all results are saved, and what remains is never used for other work.
                logger.warning("unfinished work can't be removed: %s", error)
        workspace, seconds = self.parameters.workspace, time.monotonic() - self.begun
        click.echo(harmless(summarise(run_params, pipeline, catalog, workspace, seconds)))
        if self.mirror:
            click.echo(f"All of it is at {self.mirror.url}, and a copy in the folder named above.")
        self._unlock()

    @hook_impl
    def on_pipeline_error(self, error: Exception, catalog: DataCatalog) -> None:
        """Show an error that the user can fix as its message, without a traceback."""
        self._unlock()
        display.stop()
        if message := plainly(error, catalog):
            raise refusal(message) from error

    def _begin_in(
        self, mirror: Mirror, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Lock a workspace at a URL, and bring here what the run reads."""
        self.lock = lock_workspace(mirror.folder)
        mirror.lock()
        self.mirror, self.catalog = mirror, catalog
        atexit.register(self._unlock)  # Kedro tells no hook of Ctrl-C
        logger.info("%s: copies of its files are in %s", mirror.url, mirror.folder)
        asked = run_params["load_versions"] or {}
        read = pipeline.datasets() if run_params["only_missing_outputs"] else pipeline.inputs()
        places = {entry: place_of(entry, catalog) for entry in sorted(read)}
        mirror.pull(
            {
                place: asked.get(entry)
                for entry, place in places.items()
                if place and place.is_relative_to(mirror.folder)
            }
        )

    def _unlock(self) -> None:
        """Let other runs use the workspace."""
        mirror, self.mirror = self.mirror, None
        if mirror:
            try:
                mirror.unlock()
            except UserError as error:
                logger.warning("the lock can't be removed: %s", error)
        if self.lock:
            self.lock.release()
