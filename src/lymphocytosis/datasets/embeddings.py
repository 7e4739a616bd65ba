"""Embeddings on disk: one Parquet file that pandas, polars and DuckDB read as it is."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lymphocytosis.datasets.versioned_path import VersionedPathDataset
from lymphocytosis.errors import UserError
from lymphocytosis.whole_files import appearing_whole

COLUMNS = ["patient_id", "image_id", "view", "large", "small"]


class EmbeddingsDataset(VersionedPathDataset[Iterable[pa.Table], pa.Table]):
    """Writes tables one after the other, a row group each; reads them back as one.

    Columns: patient_id, image_id, view (text); large, small (lists of float32 of fixed length).
    """

    def load(self) -> pa.Table:
        """Read every row.

        Returns:
            The table.

        Raises:
            UserError: the file is damaged, or is no table of embeddings.
        """
        path = Path(self._get_load_path())
        try:
            table = pq.read_table(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} can't be read as Parquet: {error}") from error
        if table.column_names != COLUMNS:
            raise UserError(
                f"{path} has the columns {', '.join(table.column_names)}; "
                f"a table of embeddings has {', '.join(COLUMNS)}."
            )
        return table

    def save(self, data: Iterable[pa.Table]) -> None:
        """Draw the tables to their end and write each as it comes.

        Args:
            data: tables of one schema, at least one.
        """
        tables = iter(data)
        first = next(tables)
        # Floats hardly compress and ids are few: plain pages are the fastest to write and read.
        # Of the columns, one is searched: a patient's row groups are found by the statistics.
        with (
            appearing_whole(Path(self._get_save_path())) as path,
            pq.ParquetWriter(
                path,
                first.schema,
                compression="none",
                use_dictionary=COLUMNS[:3],
                write_statistics=["patient_id"],
            ) as writer,
        ):
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)
