"""The image store on disk: a folder with pixels.npy, records.parquet and image.json."""

import base64
import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
from kedro_datasets._typing import ImagePreview
from numpy.lib import format as npy
from PIL import Image

from lymphocytosis.datasets.versioned_path import VersionedPathDataset
from lymphocytosis.errors import UserError, listed
from lymphocytosis.imaging.store import CellImages, PictureStream, map_pixels
from lymphocytosis.parameters import ImageParameters
from lymphocytosis.whole_files import appearing_whole

_PREVIEW = (6, 3)


class ImageStoreDataset(VersionedPathDataset[PictureStream, CellImages]):
    """Writes decoded pictures one by one; maps them into memory on load."""

    def load(self) -> CellImages:
        """Map the store into memory.

        Returns:
            uint8 (n, size, size, 3), read only, with the records of its files.

        Raises:
            UserError: the store is damaged.
        """
        folder = Path(self._get_load_path())
        try:
            images = map_pixels(folder / "pixels.npy")
            images.records = pd.read_parquet(
                folder / "records.parquet", page_checksum_verification=True
            )
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
        """Write the stream; memory holds only a few pictures at a time.

        Args:
            data: the cohort's pictures.
        """
        with appearing_whole(Path(self._get_save_path())) as folder:
            folder.mkdir()
            with (folder / "pixels.npy").open("wb") as file:
                records = _write_pixels(file, data)
            records.to_parquet(folder / "records.parquet", index=False, write_page_checksum=True)
            (folder / "image.json").write_text(data.image.model_dump_json(indent=2))

    def preview(self) -> ImagePreview:
        """Return some pictures, spread over the patients, for kedro-viz."""
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
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
        raise ValueError(
            f"pixels.npy holds {images.dtype} {images.shape}, not uint8 (n, {size}, {size}, 3)"
        )
    try:
        schemas.records.validate(images.records, lazy=True)
    except SchemaErrors as error:
        raise ValueError(f"records.parquet: {listed(schemas.faults_of(error))}") from error
    if not np.array_equal(images.records["row"].dropna(), range(len(images))):
        raise ValueError(f"records.parquet does not name the {len(images)} pictures in their order")


def _write_pixels(file: BinaryIO, stream: PictureStream) -> pd.DataFrame:
    """Write an .npy file whose number of rows is known only at its end."""
    size = stream.image.size
    _write_header(file, (0, size, size, 3))
    rows_of_files, rows = [], 0
    for picture in stream.pictures:
        row = None
        if picture.pixels is not None:
            file.write(np.ascontiguousarray(picture.pixels).data)
            row, rows = rows, rows + 1
        rows_of_files.append({**picture.record, "row": row})
    # NumPy pads the header, so the first axis may grow in place.
    file.seek(0)
    _write_header(file, (rows, size, size, 3))
    return pd.DataFrame(rows_of_files).astype({"row": "Int64"})


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    description = npy.dtype_to_descr(np.dtype(np.uint8))
    npy.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": shape})
