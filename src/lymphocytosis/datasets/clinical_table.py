"""The clinical table as the hospital gives it, read as text and judged later."""

from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

from lymphocytosis.datasets.text_table import find_table, read_text_table
from lymphocytosis.errors import UserError


class ClinicalTableDataset(AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """Reads every cell of a table as text, so that a refusal can quote what stands there."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Make the dataset.

        Args:
            filepath: the table as a CSV; one with another suffix of a table may stand there.
            metadata: for kedro-viz.
        """
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Read the table.

        Returns:
            Every column as text, the index being each row's line in the file.

        Raises:
            UserError: there is no such file, or several; it is too large, or no table.
        """
        path = find_table(self._path)
        if path is None:
            raise UserError(
                f"There is no {self._path.name} in {self._path.parent}. "
                "docs/data.md says what it must hold."
            )
        return read_text_table(path)

    def save(self, data: pd.DataFrame) -> None:
        """Write the table; its first, unnamed column is the challenge's index.

        Args:
            data: every column as text.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        data.to_csv(self._path, index=False)

    def _exists(self) -> bool:
        return find_table(self._path) is not None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
