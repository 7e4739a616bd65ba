"""A user's table, read as text and checked later."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from lymphocytosis.cohort.text_table import find_table, read_text_table
from lymphocytosis.errors import UserError

logger = logging.getLogger(__name__)


class TextTableDataset(AbstractDataset[pd.DataFrame, pd.DataFrame | None]):
    """Reads every cell of a table as text, so that a refusal can quote it."""

    def __init__(
        self, *, filepath: str, optional: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        """Make the dataset.

        Args:
            filepath: the table as a CSV; a table with another suffix may take its place.
            optional: whether users may leave it out. Nothing writes such a table.
            metadata: for kedro-viz.
        """
        self._path = Path(filepath)
        self._optional = optional
        self.metadata = metadata

    def load(self) -> pd.DataFrame | None:
        """Read the table.

        Returns:
            Every column as text, as `read_text_table` returns it; or None where an optional one is
            not there.

        Raises:
            UserError: there is no such file, or several; it is too large, or no table.
        """
        path = find_table(self._path)
        if path is None and self._optional:
            return None
        if path is None:
            raise UserError(
                f"There is no {self._path.name} in {self._path.parent}. "
                "docs/clinical_table.md says what it must hold."
            )
        table = read_text_table(path)
        if self._optional:  # of the other, ingest tells
            logger.info("%s: %s", path.name, table.attrs["form"])
        return table

    def save(self, data: pd.DataFrame) -> None:
        """Write the table; its first, unnamed column is the challenge's index.

        Args:
            data: every column as text.
        """
        if self._optional:
            raise DatasetError(f"{self._path} is the user's own file; nothing writes it.")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        data.to_csv(self._path, index=False)

    def preview(self, nrows: int = 10) -> TablePreview:
        """Return the first rows, for kedro-viz."""
        path = find_table(self._path)
        table = pd.DataFrame() if path is None else read_text_table(path).head(nrows)
        return TablePreview(table.to_dict(orient="split"))

    def _exists(self) -> bool:
        # Kedro asks before a run whether free inputs exist; None is an answer too.
        return self._optional or find_table(self._path) is not None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
