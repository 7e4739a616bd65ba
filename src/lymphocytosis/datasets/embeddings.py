"""Embeddings on disk: one Parquet file that pandas, polars and DuckDB read as it is."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lymphocytosis.datasets.versioned_path import VersionedPathDataset
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import View
from lymphocytosis.whole_files import appearing_whole

KEYS = ["patient_id", "image_id", "view"]
COLUMNS = [*KEYS, "large", "small"]


class EmbeddingsDataset(VersionedPathDataset[Iterable[pa.Table], pa.Table]):
    """Writes tables one after the other, a row group each; reads them back as one.

    Columns: patient_id, image_id, view (text); large, small (lists of float32 of fixed length).
    """

    def load(self) -> pa.Table:
        """Read every row.

        Returns:
            The table.

        Raises:
            UserError: the file is damaged, or is no table of embeddings; names row and column.
        """
        path = Path(self._get_load_path())
        try:
            table = pq.read_table(path, memory_map=True, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} can't be read as Parquet: {error}") from error
        _check(table, path)
        return table

    def save(self, data: Iterable[pa.Table]) -> None:
        """Write each table as it comes.

        Args:
            data: tables of one schema, at least one.

        Raises:
            UserError: a value is not finite, or a table does not have these columns.
        """
        tables = iter(data)
        first = next(tables)
        # Floats hardly compress and ids are few: plain pages are the fastest to write and read.
        # Of the columns, one is searched: a patient's row groups are found by the statistics.
        final = Path(self._get_save_path())
        with (
            appearing_whole(final) as path,
            pq.ParquetWriter(
                path,
                first.schema,
                compression="none",
                use_dictionary=KEYS,
                write_statistics=["patient_id"],
                write_page_checksum=True,
            ) as writer,
        ):
            for table in chain([first], tables):
                _check(table, final)
                writer.write_table(table)


def _check(table: pa.Table, path: Path) -> None:
    """Refuse what is no table of embeddings."""
    if table.column_names != COLUMNS:
        raise UserError(
            f"{path} has the columns {', '.join(table.column_names)}; "
            f"a table of embeddings has {', '.join(COLUMNS)}."
        )
    for name in COLUMNS:
        kind = table.schema.field(name).type
        if name in KEYS:
            wanted, right = "text", pa.types.is_string(kind) or pa.types.is_large_string(kind)
        else:
            wanted = "lists of float32 of one length"
            right = pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32()
        if not right:
            raise UserError(f"{path}, column {name}: has the type {kind}, expected {wanted}.")
        if table[name].null_count:
            row = table[name].is_null().to_pylist().index(True) + 1
            raise UserError(f"{path}, row {row}, column {name}: is empty.")
    keys = table.select(KEYS).to_pandas()
    odd = ~keys["view"].isin(get_args(View))
    if odd.any():
        row, value = int(odd.argmax()) + 1, keys["view"][odd].iloc[0]
        expected = ", ".join(get_args(View))
        raise UserError(f"{path}, row {row}, column view: is {value!r}, expected {expected}.")
    if (twice := keys.duplicated()).any():
        row = int(twice.argmax()) + 1
        key = ", ".join(keys.loc[row - 1])
        raise UserError(f"{path}, row {row}: {key} is in an earlier row too.")
    for name in ("large", "small"):
        row = 1
        for chunk in table[name].chunks:
            infinite = ~np.isfinite(chunk.flatten().to_numpy(zero_copy_only=False))
            if infinite.any():
                row += int(infinite.argmax()) // chunk.type.list_size
                raise UserError(
                    f"{path}, row {row}, column {name}: has a value that is not finite."
                )
            row += len(chunk)
