"""What happens around a run: parameters are checked first, and errors are shown plainly."""

import logging
from typing import Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
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
            self.parameters = check_parameters(context.config_loader["parameters"])
        except UserError as error:
            raise click.ClickException(str(error)) from error
        if context.env == "demo":
            # The registry is not told the environment, so the default pipeline is widened here.
            pipelines["__default__"] = pipelines["simulate"] + pipelines["__default__"]

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Refuse an encoder, its weights or a device that can't be had, before any other work."""
        if not pipeline.only_nodes_with_tags("gpu").nodes:
            return
        from lymphocytosis.compute import start_fabric
        from lymphocytosis.encoders.encoder import check_name
        from lymphocytosis.encoders.weights import check_weights

        try:
            start_fabric(self.parameters.compute)
            if "autoencoder" in pipeline.outputs() | pipeline.all_outputs():
                check_name(self.parameters.encoder.name)
                check_weights(self.parameters.encoder)
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
