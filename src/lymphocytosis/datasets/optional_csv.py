"""A table that a user may supply, or not."""

import logging
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from lymphocytosis.datasets.text_table import find_table, read_text_table

logger = logging.getLogger(__name__)


class OptionalCSVDataset(AbstractDataset[NoReturn, pd.DataFrame | None]):
    """Reads a table as text where the file is there, and gives None where it is not."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Make the dataset.

        Args:
            filepath: the table as a CSV; one with another suffix of a table may stand there.
            metadata: for kedro-viz.
        """
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> pd.DataFrame | None:
        """Read the table.

        Returns:
            Every column as text, the index being each row's line in the file; or None where there
            is no such file.

        Raises:
            UserError: there are several; the file is too large, or no table.
        """
        path = find_table(self._path)
        if path is None:
            return None
        table = read_text_table(path)
        logger.info("%s: %s", path.name, table.attrs["form"])
        return table

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: the table is the user's."""
        raise DatasetError(f"{self._path} is the user's own file; nothing writes it.")

    def _exists(self) -> bool:
        # Kedro asks before a run whether free inputs exist; None is an answer too.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
