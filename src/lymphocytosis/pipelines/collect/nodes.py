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
    tables, faults = [], []
    for run, place in newest.items():
        try:
            table = schemas.evaluation.validate(evaluations[place](), lazy=True)
        except SchemaErrors as error:
            faults.append(f"{run}: {schemas.faults_of(error)[0]}")
        except DatasetError as error:
            faults.append(f"{run}: {error.__cause__ or error}")
        else:
            table.insert(0, "run", run)
            table.insert(1, "version", place.rpartition("/")[2])
            tables.append(table)
    if not tables:
        raise UserError(f"No evaluation below runs_dir can be used: {listed(faults)}")
    if faults:
        logger.warning("Evaluations that can't be used are left out: %s", listed(faults))
    logger.info("collected the evaluations of %d workspaces", len(tables))
    return pd.concat(tables, ignore_index=True)
