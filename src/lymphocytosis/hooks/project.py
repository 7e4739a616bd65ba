"""The project's Kedro hooks, in order; each job has its own file in this folder."""

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
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline

from lymphocytosis import display
from lymphocytosis.errors import UserError
from lymphocytosis.hooks.demo import draw_cohort, draws_cohort_first
from lymphocytosis.hooks.inputs import check_bundle, check_encoder, check_inputs, spare_damaged
from lymphocytosis.hooks.machines import help_first_machine
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
    lock: FileLock
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
        if self.parameters.compute.nodes > 1:
            help_first_machine(pipeline, self.parameters)
        demo = draws_cohort_first(run_params, pipeline)
        whole = pipelines["simulate"] + pipeline if demo else pipeline
        try:
            warn_of_gone(run_params, whole, catalog, Path(self.parameters.workspace))
            check_inputs(run_params, whole, catalog)
            check_bundle(whole, catalog)
            if whole.only_nodes_with_tags("gpu").nodes:
                check_encoder(whole, self.parameters)
        except (UserError, DatasetError) as error:
            raise refusal(plainly(error, catalog) or str(error)) from error
        if hasattr(self, "lock"):
            self.lock.release()  # of a run interrupted in a notebook
        self.lock = lock_workspace(Path(self.parameters.workspace))
        try:
            fix_versions(run_params, whole, catalog)
            tell_versions(run_params["run_id"], whole, catalog, Path(self.parameters.workspace))
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
        self.lock.release()

    @hook_impl
    def on_pipeline_error(self, error: Exception, catalog: DataCatalog) -> None:
        """Show an error that the user can fix as its message, without a traceback."""
        self.lock.release()
        display.stop()
        if message := plainly(error, catalog):
            raise refusal(message) from error
