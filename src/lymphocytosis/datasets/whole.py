"""kedro-datasets' own datasets, but that their files appear whole or not at all."""

from pathlib import Path
from typing import Any

from kedro_datasets import json, pandas, text

from lymphocytosis.whole_files import appearing_whole


class ParquetDataset(pandas.ParquetDataset):  # type: ignore[misc]
    """`pandas.ParquetDataset`."""

    def save(self, data: Any) -> None:
        """Write under a temporary name, then give the real one."""
        with appearing_whole(Path(self._get_save_path())) as path:
            pandas.ParquetDataset(filepath=str(path), save_args=self._save_args).save(data)


class CSVDataset(pandas.CSVDataset):  # type: ignore[misc]
    """`pandas.CSVDataset`."""

    def save(self, data: Any) -> None:
        """Write under a temporary name, then give the real one."""
        with appearing_whole(Path(self._get_save_path())) as path:
            pandas.CSVDataset(filepath=str(path), save_args=self._save_args).save(data)


class JSONDataset(json.JSONDataset):  # type: ignore[misc]
    """`json.JSONDataset`."""

    def save(self, data: Any) -> None:
        """Write under a temporary name, then give the real one."""
        with appearing_whole(Path(self._get_save_path())) as path:
            json.JSONDataset(filepath=str(path), save_args=self._save_args).save(data)


class TextDataset(text.TextDataset):  # type: ignore[misc]
    """`text.TextDataset`."""

    def save(self, data: str) -> None:
        """Write under a temporary name, then give the real one."""
        with appearing_whole(Path(self._get_save_path())) as path:
            text.TextDataset(filepath=str(path)).save(data)
