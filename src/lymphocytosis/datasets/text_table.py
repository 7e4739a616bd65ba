"""A user's table, read as text and checked later."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from lymphocytosis.cohort.text_table import SUFFIXES, find_table, read_text_table
from lymphocytosis.errors import UserError
from lymphocytosis.remote import is_url, open_filesystem, reaching

logger = logging.getLogger(__name__)


class TextTableDataset(AbstractDataset[pd.DataFrame, pd.DataFrame | None]):
    """Reads every cell of a table as text, so that a refusal can quote it."""

    def __init__(
        self, *, filepath: str, optional: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        """Make the dataset.

        Args:
            filepath: the table as a CSV; a table with another suffix may take its place. It may
                be a URL.
            optional: whether users may leave it out. Nothing writes such a table.
            metadata: for kedro-viz.
        """
        self._filepath = filepath
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
        with self._found() as path:
            if path is None and self._optional:
                return None
            if path is None:
                folder, _, name = self._filepath.rpartition("/")
                raise UserError(
                    f"There is no {name} in {folder}. docs/clinical_table.md says what it must "
                    "hold."
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
            raise DatasetError(f"{self._filepath} is the user's own file; nothing writes it.")
        path = Path(self._filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        data.to_csv(path, index=False)

    def preview(self, nrows: int = 10) -> TablePreview:
        """Return the first rows, for kedro-viz."""
        with self._found() as path:
            table = pd.DataFrame() if path is None else read_text_table(path).head(nrows)
        return TablePreview(table.to_dict(orient="split"))

    @contextmanager
    def _found(self) -> Iterator[Path | None]:
        """The file, if there is one; of a URL, a copy while the body runs."""
        if not is_url(self._filepath):
            yield find_table(Path(self._filepath))
            return
        filesystem, path = open_filesystem(self._filepath)
        with TemporaryDirectory() as folder:
            copy = Path(folder, path.rpartition("/")[2])
            with reaching(self._filepath):
                for end in SUFFIXES:
                    there = path.removesuffix(copy.suffix) + end
                    if filesystem.isfile(there):
                        filesystem.get_file(there, str(copy.with_suffix(end)))
            yield find_table(copy)

    def _exists(self) -> bool:
        # Kedro asks before a run whether free inputs exist; None is an answer too.
        try:
            with self._found() as path:
                return self._optional or path is not None
        except UserError:
            return False  # `load` says why

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
