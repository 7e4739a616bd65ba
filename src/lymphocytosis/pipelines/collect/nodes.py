"""Nodes of the collect pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from lymphocytosis.pipelines.late import pd

logger = logging.getLogger(__name__)


def collect_evaluations(evaluations: dict[str, Callable[[], pd.DataFrame]]) -> pd.DataFrame:
    """Put the newest evaluation of each workspace into one table.

    Args:
        evaluations: functions that read a table `evaluation`, by where it stands: the workspace's
            folder, and below it the folders of layer, entry and version.

    Returns:
        The columns `run`, `version` and those of `evaluation`. Tables that can't be used are left
        out, and a warning names them.

    Raises:
        UserError: no table can be used.
    """
    from kedro.io import DatasetError
    from pandera.errors import SchemaErrors

    from lymphocytosis import schemas
    from lymphocytosis.errors import UserError, listed

    # Sorted, so that of a workspace's versions the newest comes last.
    newest = {place.rsplit("/", 3)[0]: place for place in sorted(evaluations)}
    tables, faults = {}, {}
    for run, place in newest.items():
        try:
            table = evaluations[place]()
        except DatasetError as error:
            faults[run] = str(error.__cause__ or error)
            continue
        if list(table) == list(schemas.evaluation.columns):
            tables[run] = table
        else:
            faults[run] = "its columns are not those of an evaluation"
    try:
        # All at once: one by one, a thousand tables take a quarter of a minute.
        if tables:
            schemas.all_evaluations.validate(_joined(tables, newest), lazy=True)
    except SchemaErrors:
        for run, table in [*tables.items()]:
            try:
                schemas.evaluation.validate(table, lazy=True)
            except SchemaErrors as error:
                faults[run] = schemas.faults_of(error)[0]
                del tables[run]
    told = listed([f"{run}: {fault}" for run, fault in sorted(faults.items())])
    if not tables:
        raise UserError(f"No evaluation below runs_dir can be used: {told}")
    if faults:
        logger.warning("Evaluations that can't be used are left out: %s", told)
    logger.info("collected the evaluations of %d workspaces", len(tables))
    return _joined(tables, newest)


def _joined(tables: dict[str, pd.DataFrame], places: dict[str, str]) -> pd.DataFrame:
    whole = pd.concat(tables, names=["run", None]).reset_index(0).reset_index(drop=True)
    whole.insert(1, "version", [places[run].rpartition("/")[2] for run in whole["run"]])
    return whole
