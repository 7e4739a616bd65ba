"""Opens a finished run in a notebook."""

import logging
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol

from lymphocytosis.errors import UserError
from lymphocytosis.figures import STYLE


def open_run(workspace: str) -> CatalogProtocol[Any, Any]:
    """Open a finished run, and from here on draw in the project's style.

    Args:
        workspace: the run's folder; from the project's folder, or in full.

    Returns:
        The catalog; it loads the newest version of each entry.

    Raises:
        UserError: no run has ended there.
    """
    from matplotlib import pyplot as plt

    # It tells of each entry that it loads.
    logging.getLogger("kedro").setLevel(logging.WARNING)
    project = Path(__file__).parents[2]
    bootstrap_project(project)
    session = KedroSession.create(project, runtime_params={"workspace": workspace})
    catalog = session.load_context().catalog
    if not catalog.exists("results"):
        raise UserError(
            f"{catalog.load('params:workspace')} holds no finished run. Make one (make demo, or "
            "kedro run), or name another workspace."
        )
    plt.style.use(STYLE)
    return catalog
