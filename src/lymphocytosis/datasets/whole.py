"""kedro-datasets' own datasets, but files appear whole and damage is refused in plain words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io import DatasetError
from kedro_datasets import json, pandas, text

from lymphocytosis.datasets.versioned_path import ListedVersions, TextPreview
from lymphocytosis.errors import UserError, brief
from lymphocytosis.whole_files import appearing_whole


class ParquetDataset(ListedVersions, pandas.ParquetDataset):  # type: ignore[misc]
    """`pandas.ParquetDataset`, with a checksum for each page: a changed value is seen."""

    DEFAULT_LOAD_ARGS = {"page_checksum_verification": True}  # noqa: RUF012
    DEFAULT_SAVE_ARGS = {"write_page_checksum": True}  # noqa: RUF012

    def load(self) -> pd.DataFrame:
        """Read the table, its rows counted from 0.

        Raises:
            UserError: the file is damaged.
        """
        path = self._get_load_path()
        with _telling_damage(path, "Parquet"):
            table = pandas.ParquetDataset(filepath=str(path), load_args=self._load_args).load()
        return table.reset_index(drop=True)

    def save(self, data: pd.DataFrame | Iterator[pd.DataFrame]) -> None:
        """Write under a temporary name, then give the real one.

        Args:
            data: the table, or its parts in their order, at least one.
        """
        with appearing_whole(Path(self._get_save_path())) as path:
            if isinstance(data, pd.DataFrame):
                pandas.ParquetDataset(filepath=str(path), save_args=self._save_args).save(data)
                return
            first = pa.Table.from_pandas(next(data))
            with pq.ParquetWriter(path, first.schema, **self._save_args) as writer:
                writer.write_table(first)
                for part in data:
                    writer.write_table(pa.Table.from_pandas(part))


class CSVDataset(ListedVersions, pandas.CSVDataset):  # type: ignore[misc]
    """`pandas.CSVDataset`."""

    def load(self) -> pd.DataFrame:
        """Read the table.

        Raises:
            UserError: the file is damaged.
        """
        path = self._get_load_path()
        with _telling_damage(path, "CSV"):
            table: pd.DataFrame = pandas.CSVDataset(
                filepath=str(path), load_args=self._load_args
            ).load()
        return table

    def save(self, data: Any) -> None:
        """Write under a temporary name, then give the real one."""
        with appearing_whole(Path(self._get_save_path())) as path:
            pandas.CSVDataset(filepath=str(path), save_args=self._save_args).save(data)


class JSONDataset(ListedVersions, json.JSONDataset):  # type: ignore[misc]
    """`json.JSONDataset`."""

    def save(self, data: Any) -> None:
        """Write under a temporary name, then give the real one."""
        with appearing_whole(Path(self._get_save_path())) as path:
            json.JSONDataset(filepath=str(path), save_args=self._save_args).save(data)


class TextDataset(ListedVersions, text.TextDataset):  # type: ignore[misc]
    """`text.TextDataset`."""

    def save(self, data: str) -> None:
        """Write under a temporary name, then give the real one."""
        with appearing_whole(Path(self._get_save_path())) as path:
            text.TextDataset(filepath=str(path)).save(data)

    def preview(self) -> TextPreview:
        """Return the text, for kedro-viz."""
        return TextPreview(self.load())


class PageDataset(TextDataset):
    """An HTML page with a section `summary`."""

    def preview(self) -> TextPreview:
        """Return the summary's words, for kedro-viz."""
        found = re.search('<section id="summary".*?</section>', self.load(), re.DOTALL)
        lines = re.sub("<[^>]*>", "", found[0] if found else "").splitlines()
        return TextPreview(unescape("\n\n".join(line.strip() for line in lines if line.strip())))


@contextmanager
def _telling_damage(path: PurePosixPath, kind: str) -> Iterator[None]:
    try:
        yield
    except DatasetError as error:
        reason = error.__cause__ if isinstance(error.__cause__, Exception) else error
        if isinstance(reason, PermissionError):
            raise  # that file is not damaged
        raise UserError(
            f"{path} can't be read as {kind}: {brief(reason)}. Remove the folder of this version "
            "to use the one before it, or run the pipeline that makes it again."
        ) from error
