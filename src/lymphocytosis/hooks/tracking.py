"""Runs in MLflow, if the extra `tracking` is installed: parameters, metrics, figures, bundles.

kedro-mlflow brings the configuration (mlflow.yml), the credentials and `kedro mlflow ui`. Its hooks
are off, because they begin before a run is checked, so that a refused one is shown as finished,
and log each typed block of parameters as one text.
"""

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Pipeline
from pydantic_core import to_jsonable_python

from lymphocytosis.datasets.figure import FigureDataset
from lymphocytosis.errors import brief
from lymphocytosis.hooks.refusals import refusal
from lymphocytosis.parameters import leaves
from lymphocytosis.runs.manifest import manifest_path
from lymphocytosis.runs.metrics import metrics_of
from lymphocytosis.version import code_version

logger = logging.getLogger(__name__)

_RESULTS = ("results", "bag_images_results", "evaluation", "choice_evaluation")
_METRICS = (*_RESULTS, "pretrain_history", "large_history", "small_history", "pictures_history")
# Beside figures. No table with a row a patient goes to a server.
_FILES = (*_RESULTS, "evaluation_summary", "choice_summary")
_MOST_PARAMS, _MOST_METRICS = 100, 1000  # at once, by MLflow's limits


class TrackingHooks(threading.local):
    """Hooks that log a run. Their state belongs to the thread of the run."""

    context: KedroContext
    config: Any  # kedro-mlflow's
    client: Any  # mlflow's
    run: str | None = None  # by its name in MLflow

    @hook_impl(trylast=True)  # once paths are absolute
    def after_context_created(self, context: KedroContext) -> None:
        """Read mlflow.yml; without an address, SQLite beside the workspace is meant."""
        from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig

        try:
            config = KedroMlflowConfig.model_validate(context.config_loader["mlflow"])
        except Exception as error:  # of pydantic, Kedro, PyYAML or OmegaConf
            raise refusal(f"mlflow.yml can't be read: {error}") from error
        place = Path(context.params["workspace"]).parent
        if config.server.mlflow_tracking_uri is None and "MLFLOW_TRACKING_URI" not in os.environ:
            config.server.mlflow_tracking_uri = f"sqlite:///{place / 'mlflow.db'}"
            created = config.tracking.experiment.create_experiment_kwargs
            created.artifact_location = created.artifact_location or str(place / "mlflow_files")
        # Where `kedro mlflow ui` looks for it; a context lets nothing be assigned.
        context.__setattr__("mlflow", config)
        self.context, self.config = context, config

    @hook_impl(trylast=True)  # once the run is checked
    def before_pipeline_run(self, run_params: dict[str, Any], catalog: DataCatalog) -> None:
        """Begin a run in MLflow, with its parameters."""
        self.run = None
        try:
            self._begin(run_params, catalog)
        except Exception as error:  # a server may fail in any way
            logger.warning("MLflow: this run is not tracked: %s", brief(error))

    def _begin(self, run_params: dict[str, Any], catalog: DataCatalog) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        config = self.config
        config.setup(self.context)
        self.client = MlflowClient(config.server.mlflow_tracking_uri)
        code = code_version()
        tags = {
            "run": run_params["run_id"],
            "pipelines": ",".join(run_params["pipeline_names"] or ["everything"]),
            "env": run_params["env"] or "base",
            "code": code["version"],
            "changed": code["changed"],
            "mlflow.source.git.commit": code["commit"],
        }
        self.run = self.client.create_run(
            config.tracking.experiment._experiment.experiment_id,
            run_name=config.tracking.run.name or run_params["run_id"],
            tags={name: str(value) for name, value in tags.items() if value is not None},
        ).info.run_id
        # Of the blocks that a run reads Kedro has made typed ones, in which 25 is 25.0.
        parameters = leaves(to_jsonable_python(catalog["parameters"].load()))
        texts = {name: str(value).removesuffix(".0") for name, value in parameters.items()}
        params = [Param(name, text[:500]) for name, text in texts.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            self.client.log_batch(self.run, params=params[first : first + _MOST_PARAMS])

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Log what the run made."""
        self._end("FINISHED", run_params["run_id"], pipeline, catalog)

    @hook_impl
    def on_pipeline_error(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Log what the run had made."""
        self._end("FAILED", run_params["run_id"], pipeline, catalog)

    def _end(self, status: str, version: str, pipeline: Pipeline, catalog: DataCatalog) -> None:
        if self.run is None:
            return
        try:
            self._log(version, pipeline, catalog, with_bundle=status == "FINISHED")
            self.client.set_terminated(self.run, status)
        except Exception as error:
            logger.warning("MLflow: not all of this run is tracked: %s", brief(error))

    def _log(
        self, version: str, pipeline: Pipeline, catalog: DataCatalog, with_bundle: bool
    ) -> None:
        from mlflow.entities import Metric

        metrics, now = [], time.time_ns() // 1_000_000
        workspace = Path(catalog["params:workspace"].load())
        self.client.log_artifact(self.run, manifest_path(workspace, version))
        for entry in sorted(pipeline.all_outputs()):
            dataset = catalog[entry]
            if entry == "bundle" and with_bundle:
                self.client.log_artifacts(self.run, dataset._describe()["filepath"], "bundle")
            if not isinstance(dataset, AbstractVersionedDataset) or not dataset._version:
                continue
            path = Path(dataset._get_versioned_path(version))
            if not path.exists():
                continue
            if entry in _METRICS:
                metrics += metrics_of(entry, dataset.load())
            if entry in _FILES or isinstance(dataset, FigureDataset):
                self.client.log_artifact(self.run, path)
        for first in range(0, len(metrics), _MOST_METRICS):
            some = metrics[first : first + _MOST_METRICS]
            logged = [Metric(name, value, now, step) for name, step, value in some]
            self.client.log_batch(self.run, metrics=logged)
