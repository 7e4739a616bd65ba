"""The image store: a cohort's decoded pictures as one array, and what became of each file."""

import math
import mmap
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
from numpy.lib import format as npy

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
# Shards mapped at a time: a process may have some 1,000 files open.
_MAPPED = 256
RECORDS = "records.parquet"
_KEYS = ["patient_id", "image_id", "sha256", "row"]


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


class CellImages:
    """The store as an array: uint8 (n, size, size, 3), in shards, each memory-mapped, read only.

    Pages that were read count as the process's memory. A loop that copies pictures batch by batch
    would end with the whole store in it, so copying gives pages back; the kernel keeps the files'
    contents in its cache as long as it likes, and reading them again costs no disk.

    Attributes:
        folder: where the shards are.
        shape: (n, size, size, 3).
        image: the parameters that shaped the pictures.
    """

    image: ImageParameters
    dtype = np.dtype(np.uint8)

    def __init__(self, files: Sequence[Path], shapes: Sequence[tuple[int, ...]]) -> None:
        """Make the array.

        Args:
            files: the shards, in their order.
            shapes: of their arrays; all but the last hold the same number of pictures.
        """
        self.folder = files[0].parent
        self.shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        self._of_a_shard = max(1, shapes[0][0])
        self._shard = lru_cache(_MAPPED)(lambda number: np.load(files[number], mmap_mode="r"))

    @property
    def nbytes(self) -> int:
        """The bytes of all pictures."""
        return math.prod(self.shape)

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row a file, left-out files included.

        The columns of `StoredPicture.record` and `row`, its row in this array (null where left
        out). All rows take some 200 bytes a file.
        """
        return pd.concat(self.parts_of_records(), ignore_index=True)

    def parts_of_records(self) -> Iterator[pd.DataFrame]:
        """Read the records part by part.

        Yields:
            Rows of `records`; their numbers go on from part to part.
        """
        file = pq.ParquetFile(self.folder / RECORDS, page_checksum_verification=True)
        first = 0
        with file:
            for group in range(file.num_row_groups):
                part = file.read_row_group(group).to_pandas()
                yield part.set_index(pd.RangeIndex(first, first + len(part)))
                first += len(part)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or np.uint8, copy=False)

    def __getitem__(self, index: int | slice | npt.NDArray[Any]) -> Pixels:
        """Copy pictures.

        Args:
            index: a row, a slice, an array of rows, or a boolean array.

        Returns:
            (b, size, size, 3), or (size, size, 3) of a single row.
        """
        if isinstance(index, int | np.integer):
            return self[np.array([range(len(self))[index]])][0]
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        rows = np.asarray(index)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"the store has {len(self)} pictures")
        copied = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for start in range(0, len(rows), _AT_ONCE):
            shards, inside = np.divmod(rows[start : start + _AT_ONCE], self._of_a_shard)
            into = copied[start : start + _AT_ONCE]
            for number in np.unique(shards):
                shard = self._shard(int(number))
                into[shards == number] = shard[inside[shards == number]]
                # Windows has no madvise; its kernel trims a process by itself.
                if hasattr(mmap, "MADV_DONTNEED"):
                    shard._mmap.madvise(mmap.MADV_DONTNEED)
        return copied


def map_pixels(folder: Path) -> CellImages:
    """Map a store's pictures into memory, shard by shard as they are needed.

    Args:
        folder: the store's.

    Returns:
        (n, size, size, 3), without parameters.

    Raises:
        ValueError: there is no shard, or one is damaged or does not go with the others.
    """
    # A store from before there were shards has one, pixels.npy.
    files = sorted(folder.glob("pixels*.npy"))
    if not files:
        raise ValueError("it has no pixels")
    shapes = [_shape_of(file) for file in files]
    for file, shape in zip(files, shapes, strict=True):
        if shape[1:] != shapes[0][1:] or (shape[0] != shapes[0][0] and file != files[-1]):
            raise ValueError(f"{file.name} holds {shape}, {files[0].name} {shapes[0]}")
    return CellImages(files, shapes)


def _shape_of(file: Path) -> tuple[int, ...]:
    with file.open("rb") as opened:
        if npy.read_magic(opened) != (1, 0):
            raise ValueError(f"{file.name} is of another version of NumPy's format")
        shape, _, dtype = npy.read_array_header_1_0(opened)
        if dtype != np.uint8:
            raise ValueError(f"{file.name} holds {dtype}, not uint8")
        if os.fstat(opened.fileno()).st_size != opened.tell() + math.prod(shape):
            raise ValueError(f"{file.name} is not as long as its header says")
    return shape


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
        waiting = iter(files)
        while ahead := list(islice(waiting, _AHEAD)):
            yield from pool.map(decode, ahead)


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
        self._of_patient: dict[str, list[int]] = {}
        self._found: dict[str, int] = {}
        self._lock = Lock()

    def of(self, patient_id: str) -> int:
        with self._lock:
            if not self._of_patient:
                for number, file in enumerate(self._files):
                    self._of_patient.setdefault(file.patient_id, []).append(number)
            if patient_id not in self._found:
                numbers = self._of_patient[patient_id]
                self._found[patient_id] = max(_greatest_of(self._files[n]) for n in numbers)
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
    digest = sha256()
    for part in images.parts_of_records():
        digest.update(part[_KEYS].to_csv(index=False, header=part.index[0] == 0).encode())
    digest.update(images.image.model_dump_json().encode())
    return digest.hexdigest()


def check_same_ingest(cells: pd.DataFrame, images: CellImages) -> None:
    """Refuse a table of cells that is not of this store: its rows would show other cells.

    Args:
        cells: patient_id, image_id, sha256, row, and others.
        images: the image store.

    Raises:
        UserError: another ingest made the table.
    """
    rows = 0
    same = True
    for part in images.parts_of_records():
        rows += len(part)
        same = same and cells[_KEYS].iloc[part.index[0] : rows].equals(part[_KEYS])
    if not same or rows != len(cells):
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
