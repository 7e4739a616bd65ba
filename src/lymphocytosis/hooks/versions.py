"""Versions: a run reads what it saved itself, or the newest version there was when it began."""

import re
from pathlib import Path
from typing import Any

from kedro.io import AbstractVersionedDataset, DataCatalog, Version
from kedro.pipeline import Pipeline

from lymphocytosis.errors import UserError, listed

_VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")


def fix_versions(run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Fix, for the whole run, which version of each entry is loaded.

    Args:
        run_params: Kedro's; `run_id` is the version that the run saves.
        pipeline: what will run.
        catalog: its datasets are given their versions.

    Raises:
        UserError: the newest version can't be told, since a folder's name lies in the future or is
            no version's; or --load-versions names an entry that the run makes itself.
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
        faults += _faults(Path(dataset._filepath), versions, run)
        if name in made:
            dataset._version = Version(run, run)
        elif versions and name in pipeline.inputs():
            dataset._version = Version(versions[0], run)
    if "evaluated_runs" in pipeline.inputs():
        places = [Path(place) for place in catalog["evaluated_runs"].load()]
        for entry in sorted({place.parent for place in places}):
            names = [place.name for place in places if place.parent == entry]
            faults += _faults(catalog.load("params:runs_dir") / entry, names, run)
    if faults:
        raise UserError(
            f"Which version is the newest can't be told (this run's is {run}, by this machine's "
            f"clock): {listed(faults)}\nSet the clock right if it is wrong. Else move these "
            "folders out of the workspace, or rename them to a time that has passed, such as "
            "2026-01-31T09.15.00.000Z."
        )


def _faults(entry: Path, versions: list[str], run: str) -> list[str]:
    odd = {version: "no version's name" for version in versions if not _VERSION.fullmatch(version)}
    ahead = {version: "in the future" for version in versions if version > run}
    return [f"{entry / version}: {why}" for version, why in sorted({**ahead, **odd}.items())]
