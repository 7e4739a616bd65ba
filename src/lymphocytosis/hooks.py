"""What happens around a run: parameters are checked first, and errors are shown plainly."""

import logging
from typing import Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.validation.exceptions import DataValidationError

from lymphocytosis.errors import UserError
from lymphocytosis.parameters import Parameters, check_parameters

logger = logging.getLogger(__name__)


class ProjectHooks:
    """The project's hooks."""

    parameters: Parameters

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check every parameter; in the demo environment, let the default run simulate first."""
        try:
            raw = context.config_loader["parameters"]
        except Exception as error:
            # Kedro, PyYAML and OmegaConf each have errors of their own for a file they can't read.
            raise click.ClickException(f"parameters.yml can't be read: {error}") from error
        # Kedro asks for them once more, and would read and resolve every file again.
        context.config_loader["parameters"] = raw
        try:
            self.parameters = check_parameters(raw)
        except UserError as error:
            raise click.ClickException(str(error)) from error
        if context.env == "demo":
            # The registry is not told the environment, so the default pipeline is widened here.
            pipelines["__default__"] = pipelines["simulate"] + pipelines["__default__"]

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse, before any work, what can't be had: inputs, an encoder, its weights, a device."""
        _check_inputs(pipeline, catalog)
        if not pipeline.only_nodes_with_tags("gpu").nodes:
            return
        if "cohort_pictures" in pipeline.inputs() and not catalog.exists("cohort_pictures"):
            return  # the first node says so at once; no weights need be fetched for that
        from lymphocytosis.encoders.checks import check_name, check_task, check_weights

        try:
            # The other accelerators are there on every machine.
            if self.parameters.compute.accelerator == "cuda":
                from lymphocytosis.compute import start_fabric

                start_fabric(self.parameters.compute)
            pretrains = {"autoencoder"} & pipeline.all_outputs()
            if self.parameters.evaluation.pretraining == "each_fold":
                pretrains |= {"evaluation"} & pipeline.all_outputs()
            if pretrains:
                check_task(self.parameters.encoder, self.parameters.pretext)
            if "pictures_classifiers" in pipeline.all_outputs():
                from lymphocytosis.end_to_end.model import check_trainable

                check_name(self.parameters.encoder.name)
                check_weights(self.parameters.encoder)
                check_trainable(self.parameters.mil)
        except UserError as error:
            raise click.ClickException(str(error)) from error

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Say where the run's files are."""
        logger.info(
            "done: tables and figures are under %s/08_reporting, all else under %s, "
            "each in a folder named %s",
            self.parameters.workspace,
            self.parameters.workspace,
            run_params["run_id"],
        )

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Show an error that the user can mend by its message alone, without a traceback."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, UserError | DataValidationError):
                raise click.ClickException(str(cause)) from error
            cause = cause.__cause__


def _check_inputs(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Refuse entries that an earlier pipeline should have made; raw ones refuse by themselves."""
    made_by = {
        entry: name
        for name, made in pipelines.items()
        if name not in ("__default__", "simulate")
        for entry in made.all_outputs()
    }
    missing = sorted(
        entry for entry in pipeline.inputs() if entry in made_by and not catalog.exists(entry)
    )
    if missing:
        makers = [name for name in pipelines if name in {made_by[entry] for entry in missing}]
        raise click.ClickException(
            f"Nothing has been saved yet as {', '.join(missing)}. Make it first, in the same "
            f"workspace: kedro run --pipelines={','.join(makers)}"
        )
