"""Versions: a run loads what it saved itself, or the newest version from before it began."""

import logging
from pathlib import Path
from typing import Any

from kedro.io import AbstractVersionedDataset, DataCatalog, Version
from kedro.pipeline import Pipeline

from lymphocytosis.datasets.versioned_path import doubtful_versions, no_newest
from lymphocytosis.errors import UserError
from lymphocytosis.runs.history import find_gone
from lymphocytosis.runs.manifest import manifest_path, read_manifest

logger = logging.getLogger(__name__)


def fix_versions(run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Fix which version of each entry the whole run loads.

    Args:
        run_params: Kedro's; `run_id` is the version that the run saves.
        pipeline: what will run.
        catalog: its datasets; their versions are set.

    Raises:
        UserError: the newest version is uncertain, since a folder's name is later than this run's
            or not a version's; or --load-versions names an entry that the run makes itself.
    """
    run, asked = run_params["run_id"], run_params["load_versions"] or {}
    made = set() if run_params["only_missing_outputs"] else pipeline.all_outputs()
    if twice := sorted(made & set(asked)):
        raise UserError(
            f"--load-versions names {', '.join(twice)}, which this run makes itself. Leave it out "
            "of --load-versions, or leave the pipeline that makes it out of the run."
        )
    faults = []
    for name in sorted(pipeline.datasets() - set(asked)):
        dataset = catalog.get(name)
        if not isinstance(dataset, AbstractVersionedDataset) or not dataset._version:
            continue
        versions = dataset.list_versions(full_path=False)
        faults += doubtful_versions(Path(dataset._filepath), versions, run)
        if name in made:
            dataset._version = Version(run, run)
        elif versions and name in pipeline.inputs():
            dataset._version = Version(versions[0], run)
    for others in sorted({"evaluated_runs", "evaluations"} & pipeline.inputs()):
        by_entry: dict[Path, list[str]] = {}
        for place in map(Path, catalog[others].load()):
            by_entry.setdefault(place.parent, []).append(place.name)
        for entry, names in sorted(by_entry.items()):
            faults += doubtful_versions(catalog.load("params:runs_dir") / entry, names, run)
    if faults:
        raise no_newest(faults)


def warn_of_gone(
    run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog, workspace: Path
) -> None:
    """Warn where the newest version of what a run will load has been removed.

    Args:
        run_params: Kedro's.
        pipeline: what will run.
        catalog: its datasets.
        workspace: the run's.
    """
    newest: dict[str, str | None] = {}
    for name in sorted(pipeline.inputs() - set(run_params["load_versions"] or {})):
        dataset = catalog.get(name)
        if isinstance(dataset, AbstractVersionedDataset) and dataset._version:
            newest[name] = max(dataset.list_versions(full_path=False), default=None)
    for name, version in find_gone(workspace, newest).items():
        left = newest[name]
        logger.warning(
            "%s: the version that the run %s saved is gone. %s",
            name,
            version,
            f"This run loads an older one, {left}." if left else "No other is left.",
        )


def tell_versions(run: str, pipeline: Pipeline, catalog: DataCatalog, workspace: Path) -> None:
    """Fill in the entries `versions` and `evaluated_with`, for reports.

    Args:
        run: the version that the run saves.
        pipeline: what will run.
        catalog: its datasets, with their versions fixed.
        workspace: the run's.
    """
    if "versions" in pipeline.inputs():
        datasets = {name: catalog.get(name) for name in sorted(pipeline.datasets())}
        fixed = {
            name: dataset._version.load
            for name, dataset in datasets.items()
            if isinstance(dataset, AbstractVersionedDataset) and dataset._version
        }
        catalog["versions"].save({"run": run, **{k: v for k, v in fixed.items() if v}})
        made = fixed.get("evaluation")
        manifest = read_manifest(manifest_path(workspace, made)) if made else None
        # A run that makes the evaluation itself has none yet.
        if "evaluated_with" in pipeline.inputs() and manifest:
            catalog["evaluated_with"].save(manifest.parameters)
