"""What happens around a run: parameters are checked first, and errors are shown plainly."""

import errno
import logging
import os
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog, DatasetError
from kedro.pipeline import Pipeline
from kedro.validation.exceptions import DataValidationError

from lymphocytosis.errors import UserError, causes, listed
from lymphocytosis.parameters import Parameters, check_parameters
from lymphocytosis.terminal import harmless, make_log_harmless
from lymphocytosis.whole_files import remove_parts

logger = logging.getLogger(__name__)

# A disk that is full, or takes no files at all, or none so large.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_RIGHTS = {errno.EACCES, errno.EPERM}


class ProjectHooks:
    """The project's hooks."""

    parameters: Parameters
    lock: FileLock

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check every parameter; in the demo environment, let the default run simulate first."""
        # Here, for Kedro allows no filters of ours in logging.yml.
        make_log_harmless()
        for name in ("parameters", "catalog"):
            try:
                raw = context.config_loader[name]
            except Exception as error:
                # Kedro, PyYAML and OmegaConf each have their own for a file they can't read.
                raise _refusal(f"{name}.yml can't be read: {error}") from error
            # Kedro asks for it once more, and would read and resolve every file again.
            context.config_loader[name] = raw
        try:
            self.parameters = check_parameters(context.config_loader["parameters"])
        except UserError as error:
            raise _refusal(str(error)) from error
        if context.env == "demo":
            # The registry is not told the environment, so the default pipeline is widened here.
            pipelines["__default__"] = pipelines["simulate"] + pipelines["__default__"]

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse, before any work, what can't be had: inputs, an encoder, its weights, a device."""
        try:
            _check_inputs(pipeline, catalog)
            # Without the pictures the first node says so at once, and no weights need be fetched.
            waits = "cohort_pictures" in pipeline.inputs() and not catalog.exists("cohort_pictures")
            if pipeline.only_nodes_with_tags("gpu").nodes and not waits:
                self._check_encoder(pipeline)
        except (UserError, DatasetError) as error:
            raise _refusal(_plainly(error, catalog) or str(error)) from error
        if hasattr(self, "lock"):
            self.lock.release()  # a notebook's run that was interrupted does not keep out the next
        self.lock = _lock(Path(self.parameters.workspace))

    def _check_encoder(self, pipeline: Pipeline) -> None:
        from lymphocytosis.encoders.checks import check_name, check_task, check_weights

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

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Say where the run's files are; its finished parts are not needed any more."""
        for entry in pipeline.inputs():
            if entry.endswith("_progress"):
                try:
                    catalog.load(entry).clear()
                except OSError as error:
                    # All is saved; and what stays is told from other work by its note.
                    logger.warning("unfinished work can't be removed: %s", error)
        logger.info(
            "done: tables and figures are under %s/08_reporting, all else under %s, "
            "each in a folder named %s",
            self.parameters.workspace,
            self.parameters.workspace,
            run_params["run_id"],
        )
        self.lock.release()

    @hook_impl
    def on_pipeline_error(self, error: Exception, catalog: DataCatalog) -> None:
        """Show an error that the user can mend by its message alone, without a traceback."""
        self.lock.release()
        if message := _plainly(error, catalog):
            raise _refusal(message) from error


def _plainly(error: Exception, catalog: DataCatalog) -> str | None:
    """What the user can mend, by its message alone; None where that is not known."""
    for cause in causes(error):
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, DataValidationError):
            return _refused_table(cause, catalog)
        if isinstance(cause, OSError) and cause.errno in _DISK:
            return (
                f"The disk does not take what the run writes: {cause}. What was saved before "
                "is whole. Make room, or give another workspace by --params=workspace=...; "
                "in the same one, the same command goes on from what is finished."
            )
        if isinstance(cause, OSError) and cause.errno in _RIGHTS:
            return (
                f"The run may not read or write a file: {cause}. What was saved before is whole. "
                "Have it run with the rights it needs, or give other places by "
                "--params=cohort_dir=...,workspace=..."
            )
    return None


def _refusal(message: str) -> click.ClickException:
    """What Kedro's command line shows as a message alone, without a traceback."""
    return click.ClickException(harmless(message))


def _refused_table(error: DataValidationError, catalog: DataCatalog) -> str:
    """Say which table is refused, and each fault by row and column; Kedro tells no rows."""
    from pandera.errors import SchemaErrors

    from lymphocytosis.schemas import faults_of

    name = error.dataset_name or ""
    if not isinstance(error.__cause__, SchemaErrors):
        return str(error)
    faults = listed(faults_of(error.__cause__))
    table = catalog.get(name)
    if error.mode == "save" or not isinstance(table, AbstractVersionedDataset):
        return f"The table {name} is not saved, for it is not as it must be: {faults}"
    return (
        f"The table {name} ({table._get_load_path()}) can't be used: {faults}\n"
        "If it was edited, remove the folder of this version to take the one before it, or run "
        "again the pipeline that makes it."
    )


def _lock(workspace: Path) -> FileLock:
    """Keep other runs out of the workspace; clear up after one that was killed."""
    note = workspace / ".run.txt"
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        lock = FileLock(workspace / ".run.lock")
        lock.acquire(blocking=False)
        # The system frees the lock of a process that was killed; its temporary files are left.
        remove_parts(workspace)
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        note.write_text(f"process {os.getpid()} on {platform.node()}, since {since}")
    except Timeout:
        by = note.read_text() if note.exists() else "it has just begun"
        raise _refusal(
            f"Another run is at work in {workspace}: {by}. Wait until it ends, or "
            "give this one a workspace of its own by --params=workspace=..."
        ) from None
    except OSError as error:
        raise _refusal(
            f"The workspace {workspace} can't be written to: {error}. Give another one by "
            "--params=workspace=..."
        ) from error
    return lock


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
        raise _refusal(
            f"Nothing has been saved yet as {', '.join(missing)}. Make it first, in the same "
            f"workspace: kedro run --pipelines={','.join(makers)}"
        )
    if "evaluated_runs" in pipeline.inputs() and not catalog.exists("evaluated_runs"):
        raise _refusal(
            f"{catalog.load('params:runs_dir')} holds no evaluation. Run evaluate in several "
            "workspaces below one folder, and name the folder by --params=runs_dir=..."
        )
