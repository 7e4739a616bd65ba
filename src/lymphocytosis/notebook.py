"""Opens a finished run in a notebook."""

import os
import warnings
from pathlib import Path
from typing import Any

from lymphocytosis.errors import UserError
from lymphocytosis.figures import STYLE

PROJECT = Path(__file__).parents[2]
# Before Kedro is imported, which looks for it in the notebook's folder, and else logs each entry.
os.environ.setdefault("KEDRO_LOGGING_CONFIG", str(PROJECT / "conf/logging.yml"))

from kedro.framework.session import KedroSession  # noqa: E402
from kedro.framework.startup import bootstrap_project  # noqa: E402
from kedro.io import CatalogProtocol  # noqa: E402


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

    # The widgets for progress bars, which nothing here draws.
    warnings.filterwarnings("ignore", "IProgress not found")
    bootstrap_project(PROJECT)
    session = KedroSession.create(PROJECT, runtime_params={"workspace": workspace})
    catalog = session.load_context().catalog
    if not catalog.exists("results"):
        raise UserError(
            f"{catalog.load('params:workspace')} holds no finished run. Make one (make demo, or "
            "kedro run), or name another workspace."
        )
    # Now, not with the first figure of pyplot: a notebook shows other figures too.
    plt.switch_backend(plt.get_backend())
    plt.style.use(STYLE)
    return catalog
