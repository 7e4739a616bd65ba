"""The image store on disk: pixels in shards, pixels-00000.npy and so on; records; parameters."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from kedro_datasets._typing import ImagePreview
from numpy.lib import format as npy

from lymphocytosis.datasets.versioned_path import VersionedPathDataset
from lymphocytosis.errors import UserError, listed
from lymphocytosis.parameters import ImageParameters
from lymphocytosis.whole_files import appearing_whole

if TYPE_CHECKING:  # Pillow, which no run should wait for before its first node
    from lymphocytosis.imaging.decode import Pixels
    from lymphocytosis.imaging.store import CellImages, PictureStream

# A shard's pixels: few enough files for a million pictures, and no file too large to move.
SHARD_BYTES = 1024**3
_ROWS_PER_GROUP = 16_384
_TEXTS = ["patient_id", "image_id", "subset", "path", "sha256", "status", "reason"]
_SCHEMA = pa.Schema.from_pandas(
    pd.DataFrame({name: pd.Series(dtype="str") for name in _TEXTS}).assign(
        row=pd.Series(dtype="Int64")
    ),
    preserve_index=False,
)
_PREVIEW = (6, 3)


class ImageStoreDataset(VersionedPathDataset["PictureStream", "CellImages"]):
    """Writes decoded pictures one by one; maps them into memory on load."""

    def load(self) -> CellImages:
        """Map the store into memory.

        Returns:
            uint8 (n, size, size, 3), read only, with the records of its files.

        Raises:
            UserError: the store is damaged.
        """
        from lymphocytosis.imaging.store import map_pixels

        folder = Path(self._get_load_path())
        try:
            images = map_pixels(folder)
            images.image = ImageParameters.model_validate_json((folder / "image.json").read_text())
            _check(images)
        except PermissionError:
            raise  # that file is not damaged
        except (OSError, EOFError, ValueError, pa.ArrowException) as error:
            # pydantic's ValidationError is a ValueError.
            raise UserError(
                f"The image store {folder} is damaged; run `ingest` again. ({error})"
            ) from error
        return images

    def save(self, data: PictureStream) -> None:
        """Write the stream; memory holds only a few pictures and records at a time.

        Args:
            data: the cohort's pictures.
        """
        from lymphocytosis.imaging.store import RECORDS

        with appearing_whole(Path(self._get_save_path())) as folder:
            folder.mkdir()
            with pq.ParquetWriter(folder / RECORDS, _SCHEMA, write_page_checksum=True) as records:
                _write_shards(folder, _taken(data, records), data.image.size)
            (folder / "image.json").write_text(data.image.model_dump_json(indent=2))

    def preview(self) -> ImagePreview:
        """Return some pictures, spread over the patients, for kedro-viz."""
        from PIL import Image

        images = self.load()
        across, down = _PREVIEW
        rows = np.linspace(0, len(images) - 1, across * down, dtype=np.int64)
        size = images.image.size
        sheet = images[rows].reshape(down, across, size, size, 3).swapaxes(1, 2)
        file = io.BytesIO()
        Image.fromarray(sheet.reshape(down * size, across * size, 3)).save(file, "PNG")
        return ImagePreview(base64.b64encode(file.getvalue()).decode())


def _check(images: CellImages) -> None:
    """Raise ValueError if pixels, records and parameters don't belong together."""
    # Importing pandera takes a second, which no run should wait for before its first node.
    from pandera.errors import SchemaErrors

    from lymphocytosis import schemas

    size = images.image.size
    if images.shape[1:] != (size, size, 3):
        raise ValueError(f"the pixels are {images.shape}, not (n, {size}, {size}, 3)")
    rows, paths = 0, []
    try:
        for part in images.parts_of_records():
            schemas.records.validate(part, lazy=True)
            paths.append(pd.util.hash_array(part["path"].to_numpy()))
            taken = part["row"].dropna()
            if not np.array_equal(taken, range(rows, rows + len(taken))):
                rows = -1
                break
            rows += len(taken)
        hashes = np.concatenate(paths)
        hashes.sort()
        if rows == -1 or (hashes[1:] == hashes[:-1]).any():
            schemas.records.validate(images.records, lazy=True)
    except SchemaErrors as error:
        raise ValueError(f"records.parquet: {listed(schemas.faults_of(error))}") from error
    if rows != len(images):
        raise ValueError(f"records.parquet does not name the {len(images)} pictures in their order")


def _taken(stream: PictureStream, records: pq.ParquetWriter) -> Iterator[Pixels]:
    """Give the pictures that are taken; write the records of all."""
    row, waiting = 0, []
    for number, picture in enumerate(stream.pictures, start=1):
        taken = picture.pixels is not None
        waiting.append({**picture.record, "row": row if taken else None})
        if number % _ROWS_PER_GROUP == 0:
            records.write_table(_table_of(waiting))
            waiting.clear()
        if picture.pixels is not None:
            row += 1
            yield picture.pixels
    records.write_table(_table_of(waiting))


def _table_of(records: list[dict[str, Any]]) -> pa.Table:
    frame = pd.DataFrame(records, columns=_SCHEMA.names).astype({"row": "Int64"})
    return pa.Table.from_pandas(frame, schema=_SCHEMA, preserve_index=False)


def _write_shards(folder: Path, pictures: Iterator[Pixels], size: int) -> None:
    """Write .npy files whose numbers of rows are known only at their ends."""
    of_a_shard = max(1, SHARD_BYTES // (size * size * 3))
    rows = of_a_shard
    for number in count():
        if rows < of_a_shard:
            break
        with (folder / f"pixels-{number:05}.npy").open("wb") as file:
            rows = 0
            _write_header(file, (0, size, size, 3))
            for pixels in islice(pictures, of_a_shard):
                file.write(np.ascontiguousarray(pixels).data)
                rows += 1
            # NumPy pads the header, so the first axis may grow in place.
            file.seek(0)
            _write_header(file, (rows, size, size, 3))


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    description = npy.dtype_to_descr(np.dtype(np.uint8))
    npy.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": shape})
