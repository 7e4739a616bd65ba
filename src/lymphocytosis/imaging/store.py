"""The image store: a cohort's decoded pictures as one array, and what became of each file."""

import mmap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from lymphocytosis.cohort.pictures import PictureFile
from lymphocytosis.errors import UserError, some
from lymphocytosis.imaging.decode import (
    FAINT,
    LEAST_SPAN,
    Decoded,
    Pixels,
    decode_picture,
    greatest_value,
    refuse_or_leave_out,
)
from lymphocytosis.parameters import ImageParameters

# Files decoded ahead of the writer: bounds memory, keeps every core busy.
_AHEAD = 256
# Pictures copied before their pages in memory are given back. A file that was read from end to end
# is cached in pages of up to 2 MiB, and each counts as ours for one picture of it.
_AT_ONCE = 32


@dataclass(frozen=True)
class StoredPicture:
    """One file on its way into the store.

    Attributes:
        record: patient_id, image_id, subset, path, sha256 (of the file's bytes), status, reason.
        pixels: (size, size, 3) uint8, or None where the file is left out.
    """

    record: dict[str, str]
    pixels: Pixels | None


@dataclass(frozen=True)
class PictureStream:
    """A cohort's pictures, decoded while they are drawn from `pictures`.

    Attributes:
        image: the parameters that shaped them; kept with the store.
        pictures: one item a file, in the order of the files.
    """

    image: ImageParameters
    pictures: Iterable[StoredPicture]


class CellImages(np.memmap):
    """The store as an array: uint8 (n, size, size, 3), memory-mapped, read only.

    Pages that were read count as the process's memory. A loop that copies pictures batch by batch
    would end with the whole store in it, so copying gives pages back; the kernel keeps the file's
    contents in its cache as long as it likes, and reading them again costs no disk.

    Attributes:
        records: one row a file, left-out files included: the columns of `StoredPicture.record`
            and `row`, its row in this array (null where left out).
        image: the parameters that shaped the pictures.
    """

    records: pd.DataFrame
    image: ImageParameters
    _mmap: mmap.mmap | None  # NumPy's; None in a copy

    def __getitem__(self, index: Any) -> Any:
        """Take pictures: a copy by an array of rows, a view of the store by a slice."""
        rows = isinstance(index, np.ndarray) and index.dtype.kind == "i"
        # Windows has no madvise; its kernel trims a process by itself.
        if not rows or self._mmap is None or not hasattr(mmap, "MADV_DONTNEED"):
            return super().__getitem__(index)
        parts = []
        for start in range(0, max(1, len(index)), _AT_ONCE):
            parts.append(super().__getitem__(index[start : start + _AT_ONCE]))
            self._mmap.madvise(mmap.MADV_DONTNEED)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def map_pixels(path: Path) -> CellImages:
    """Map a store's pictures into memory.

    Args:
        path: the store's file of pixels.

    Returns:
        (n, size, size, 3), without records and parameters.
    """
    images: CellImages = np.load(path, mmap_mode="r").view(CellImages)
    return images


def decode_pictures(
    files: Sequence[PictureFile], image: ImageParameters
) -> Iterator[StoredPicture]:
    """Read and decode files, each once, on all cores.

    Args:
        files: the cohort's files.
        image: the block `image` of the parameters.

    Yields:
        One picture a file, in the order of `files`.

    Raises:
        UserError: a parameter says `refuse` for what is wrong with a file.
    """
    # Pillow lets go of Python's lock while it decodes, so threads are enough. Its warnings about
    # odd but readable files would drown the report; filters are the process's, so not a thread's.
    decode = partial(_decode_file, image=image, greatest=_GreatestValues(files))
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.filterwarnings("ignore", module=r"PIL\b")
        for start in range(0, len(files), _AHEAD):
            yield from pool.map(decode, files[start : start + _AHEAD])


def warn_of_pictures(records: pd.DataFrame) -> list[str]:
    """Say in plain words which conversions and which pictures want a look.

    Args:
        records: the image store's records, one row a file.

    Returns:
        One text each; none where there is nothing to warn of.
    """
    said: list[str] = []
    records = records[records["reason"] != ""]
    if records.empty:
        return said
    depth = records["reason"].str.extract(r"read as (\d+)-bit values", expand=False)
    for bits, rows in records.groupby(depth):
        patients = list(rows["patient_id"].unique())
        said.append(
            f"{len(rows)} picture(s) with 16 bits a channel were read as {bits}-bit values, the "
            f"greatest value of each patient's pictures being below {2 ** int(str(bits))}. "
            f"Patients: {some(patients)}."
        )
    if len(said) > 1:
        said.append(
            "Patients differ in the bits of their pictures' values. If one camera took them all, "
            "their brightness can't be compared."
        )
    faint = records.loc[records["reason"].str.contains(FAINT), "path"]
    if len(faint):
        said.append(
            f"{len(faint)} picture(s) use fewer than {LEAST_SPAN} of the 256 values of a channel, "
            f"and show next to nothing: {some(list(faint))}."
        )
    return said


def picture_traces(images: CellImages) -> pd.DataFrame:
    """Describe the form of each patient's pictures: no medical value, but it may predict the label.

    Args:
        images: the image store.

    Returns:
        patient_id; of the pictures that were taken: the mean number of pixels in the file
        (picture_pixels), the share that was converted (converted_share), and for each file format,
        by the file's suffix, its share (`format_{name}`).
    """
    taken = images.records[images.records["row"].notna()]
    suffix = taken["path"].str.rpartition(".")[2].str.lower()
    form = suffix.replace({"jpg": "jpeg", "tif": "tiff"})
    # The size is recorded only where it is not the expected one.
    sides = taken["reason"].str.extract(r"(\d+)x(\d+) pixels, not").astype(float)
    of_pictures = pd.get_dummies(form, prefix="format", dtype=float).assign(
        picture_pixels=(sides[0] * sides[1]).fillna(images.image.source_size**2),
        converted_share=taken["status"].eq("converted").astype(float),
    )
    return of_pictures.groupby(taken["patient_id"]).mean().reset_index()


class _GreatestValues:
    """The greatest value in each patient's 16-bit pictures, found when the first one is met."""

    def __init__(self, files: Sequence[PictureFile]) -> None:
        self._files = files
        self._found: dict[str, int] = {}
        self._lock = Lock()

    def of(self, patient_id: str) -> int:
        with self._lock:
            if patient_id not in self._found:
                values = [_greatest_of(f) for f in self._files if f.patient_id == patient_id]
                self._found[patient_id] = max(values)
            return self._found[patient_id]


def _greatest_of(file: PictureFile) -> int:
    try:
        return greatest_value(file.read(), file.path)
    except OSError:
        return 0


def fingerprint(images: CellImages) -> str:
    """Tell stores apart by the files they hold and how these were shaped.

    Args:
        images: the image store.

    Returns:
        A SHA-256 digest, in hexadecimal.
    """
    files = images.records[["patient_id", "image_id", "sha256", "row"]].to_csv(index=False)
    return sha256((files + images.image.model_dump_json()).encode()).hexdigest()


def check_same_ingest(cells: pd.DataFrame, images: CellImages) -> None:
    """Refuse a table of cells that is not of this store: its rows would show other cells.

    Args:
        cells: patient_id, image_id, sha256, row, and others.
        images: the image store.

    Raises:
        UserError: another ingest made the table.
    """
    keys = ["patient_id", "image_id", "sha256", "row"]
    if not cells[keys].equals(images.records[keys]):
        raise UserError(
            "The catalog entries 'cells' and 'cell_images' come from two ingests, one of which did "
            "not end. Run ingest again."
        )


def _decode_file(
    file: PictureFile, image: ImageParameters, greatest: _GreatestValues
) -> StoredPicture:
    digest = ""
    try:
        content = file.read()
    except OSError as error:
        decoded = refuse_or_leave_out(f"can't be read: {error}", file.path, image)
    else:
        digest = sha256(content).hexdigest()
        decoded = decode_picture(content, file.path, image, partial(greatest.of, file.patient_id))
    return StoredPicture(_record(file, digest, decoded), decoded.pixels)


def _record(file: PictureFile, digest: str, decoded: Decoded) -> dict[str, Any]:
    return {
        "patient_id": file.patient_id,
        "image_id": file.image_id,
        "subset": file.subset,
        "path": file.path,
        "sha256": digest,
        "status": decoded.status,
        "reason": decoded.reason,
    }
