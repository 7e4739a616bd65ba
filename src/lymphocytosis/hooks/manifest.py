"""Each run leaves a manifest, begun when its work begins and completed when it ends."""

import logging
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Pipeline

from lymphocytosis.errors import UserError, brief
from lymphocytosis.hooks.mirror import mirror_of
from lymphocytosis.hooks.refusals import plainly, refusal
from lymphocytosis.hooks.timings import TIMINGS
from lymphocytosis.remote import is_url
from lymphocytosis.runs.manifest import (
    File,
    Manifest,
    describe,
    manifest_path,
    packages,
    write_manifest,
)
from lymphocytosis.version import code_version

logger = logging.getLogger(__name__)


class ManifestHooks(threading.local):
    """Write a run's manifest. The state belongs to the thread of the run."""

    manifest: Manifest | None = None

    @hook_impl(trylast=True)  # once the workspace is locked, and versions are fixed
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Begin the manifest; what it says by now is what a killed run leaves."""
        skipped = pipeline.all_outputs() if run_params["only_missing_outputs"] else set()
        try:
            self.manifest = Manifest(
                run=run_params["run_id"],
                began=datetime.now(UTC),
                options={
                    name: value
                    for name, value in run_params.items()
                    if value and name not in ("run_id", "project_path", "kedro_version", "runner")
                },
                parameters=catalog["parameters"].load(),
                code=code_version(),
                packages=packages(),
                inputs={
                    entry: file
                    for entry in sorted(pipeline.inputs() | skipped)
                    if (file := _described(entry, catalog)) is not None
                },
            )
            _write(Path(catalog["params:workspace"].load()), self.manifest)
        except (OSError, UserError) as error:
            raise refusal(plainly(error, catalog) or str(error)) from error

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Complete the manifest."""
        self._end(pipeline, catalog, exit="done")

    @hook_impl
    def on_pipeline_error(self, error: Exception, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Complete the manifest, with what went wrong."""
        try:
            self._end(
                pipeline, catalog, exit="failed", message=plainly(error, catalog) or brief(error)
            )
        except (OSError, UserError) as another:
            # The disk may be what made the run fail, or the network.
            logger.warning("the manifest can't be completed: %s", another)

    def _end(self, pipeline: Pipeline, catalog: DataCatalog, **how: str) -> None:
        manifest, self.manifest = self.manifest, None
        if manifest is None:
            return
        seconds = TIMINGS.of_run(manifest.run)
        made = {e for node in pipeline.nodes if node.name in seconds for e in node.outputs}
        outputs = {}
        # The demo simulates its cohort before the run, see hooks/demo.py.
        simulated = pipelines.get("simulate", Pipeline([])).all_outputs()
        for entry in sorted(pipeline.all_outputs() | {e for e in simulated if e in catalog}):
            file = _described(entry, catalog, manifest.run)
            # What has no versions may be an earlier run's.
            if file and (file.version or (entry in made and how["exit"] == "done")):
                outputs[entry] = file
        changes = {"ended": datetime.now(UTC), "seconds": seconds, "outputs": outputs, **how}
        workspace = Path(catalog["params:workspace"].load())
        _write(workspace, manifest.model_copy(update=changes))


def _write(workspace: Path, manifest: Manifest) -> None:
    write_manifest(workspace, manifest)
    if mirror := mirror_of(workspace):
        mirror.push(manifest_path(workspace, manifest.run))


def _described(entry: str, catalog: DataCatalog, made_by: str | None = None) -> File | None:
    """Describe what an entry holds on the disk, if anything."""
    # Through the datasets: Kedro would log each load.
    dataset, workspace = catalog[entry], Path(catalog["params:workspace"].load())
    if isinstance(dataset, AbstractVersionedDataset) and dataset._version:
        version = made_by or (dataset.exists() and dataset.resolve_load_version())
        path = Path(dataset._get_versioned_path(version)) if version else None
    else:
        version, about = None, dataset._describe()
        if is_url(str(about.get("filepath"))):
            return None
        path = Path(about.get("filepath") or about.get("path") or "")
        if path.suffix == ".csv":
            from lymphocytosis.cohort.text_table import find_table  # pandas takes a while

            path = find_table(path)  # it may have another suffix
    if path is None or path == Path() or not path.exists():
        return None
    return describe(path, workspace, version or None)
