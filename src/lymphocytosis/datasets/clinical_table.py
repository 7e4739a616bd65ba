"""The clinical table as the hospital gives it: a CSV, read as text and judged later."""

import csv
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

from lymphocytosis.errors import UserError

# A row has some fifty bytes: this is a million patients.
MOST_BYTES = 64 * 1024 * 1024


class ClinicalTableDataset(AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """Reads every cell of a CSV as text, so that a refusal can quote what stands there."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Make the dataset.

        Args:
            filepath: the CSV.
            metadata: for kedro-viz.
        """
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Read the table.

        Returns:
            Every column as text, the index being each row's line in the file; an empty cell is an
            empty text, and a line of empty cells is no row.

        Raises:
            UserError: there is no such file, it is too large, it is no CSV in UTF-8, or a line has
                more or fewer cells than the first.
        """
        if not self._path.is_file():
            raise UserError(
                f"There is no {self._path.name} in {self._path.parent}. "
                "docs/data.md says what it must hold."
            )
        if self._path.stat().st_size > MOST_BYTES:
            raise UserError(f"{self._path} has more than {MOST_BYTES} bytes: no clinical table.")
        try:
            return _read(self._path)
        except (ValueError, OSError, csv.Error) as error:
            raise UserError(
                f"{self._path} can't be read as a comma-separated table in UTF-8: {error}"
            ) from error

    def save(self, data: pd.DataFrame) -> None:
        """Write the table; its first, unnamed column is the challenge's index.

        Args:
            data: every column as text.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        data.to_csv(self._path, index=False)

    def _exists(self) -> bool:
        return self._path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}


def _read(path: Path) -> pd.DataFrame:
    # Not by pandas: it moves every column by one where rows end in a comma that the first line
    # lacks, renames a column that stands twice, and doesn't tell a row's line.
    # utf-8-sig also takes the mark that spreadsheets put before the first name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    if not lines:
        raise ValueError("it is empty")
    (_, columns), *rows = lines
    for line, cells in rows:
        if len(cells) != len(columns):
            raise ValueError(f"line {line} has {len(cells)} cells, the first has {len(columns)}")
    return pd.DataFrame(
        [cells for _, cells in rows],
        index=[line for line, _ in rows],
        columns=columns,
        dtype="str",
    )
