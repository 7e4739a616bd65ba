"""A cohort's folders of pictures: `trainset/<patient>/<picture>`, `testset/<patient>/<picture>`.

New patients' folders may also be straight in the cohort's folder: `<patient>/<picture>`.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from sys import intern
from typing import Any

from kedro.io import AbstractDataset

from lymphocytosis.cohort.names import normal
from lymphocytosis.cohort.pictures import SUBSET_FOLDERS, SUFFIXES, PatientFolder, PictureFiles
from lymphocytosis.errors import UserError, brief, some
from lymphocytosis.remote import is_url, open_filesystem, reaching
from lymphocytosis.whole_files import naming

# A cell's picture has about ten kilobytes; a larger file is none.
MOST_BYTES = 64 * 1024 * 1024
# Marks a simulated cohort's folder: without it, nothing there is ever overwritten.
SIMULATED_MARK = ".simulated"
# Folders listed at a time: over a network, each listing is a wait.
_LISTED_AT_ONCE = 16


class PictureFolderDataset(AbstractDataset[Iterable[tuple[str, bytes]], PictureFiles]):
    """Lists a cohort's pictures on load; writes a simulated cohort's on save.

    Files are read only when `PictureFile.read` is called. Hidden files are ignored.
    """

    def __init__(
        self,
        *,
        filepath: str,
        new_patients: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Make the dataset.

        Args:
            filepath: the cohort's folder, or its URL.
            new_patients: whether, without trainset/ and testset/, patients' folders may be straight
                in it. A folder without a picture file is then no patient's.
            metadata: for kedro-viz.
        """
        self._place = filepath
        self._root = Path(filepath)  # of a folder
        self._new_patients = new_patients
        self.metadata = metadata

    def load(self) -> PictureFiles:
        """List every file in every patient's folder, sorted.

        Returns:
            The files, and which folders hold none.

        Raises:
            UserError: no such folder; it has neither trainset/ nor testset/, where these are
                needed; it can't be listed; a picture is outside any patient's folder; two folders
                have the same patient's name; a name is not in UTF-8.
        """
        try:
            if not is_url(self._place):
                return self._listed()
            with reaching(self._place):
                return self._listed()
        except OSError as error:
            raise UserError(f"The cohort folder {self._place} can't be listed: {error}") from error

    def _listed(self) -> PictureFiles:
        if not self._is_folder(""):
            raise UserError(
                f"There is no cohort folder {self._place}. Give it by --params=cohort_dir=... "
                "or in conf/base/globals.yml."
            )
        subsets = [name for name in SUBSET_FOLDERS if self._is_folder(name)]
        if not subsets and not self._new_patients:
            found = ", ".join(name for name, *_ in self._children("")[:10]) or "nothing"
            raise UserError(
                f"The cohort folder {self._place} has neither trainset/ nor testset/; it has: "
                f"{found}. docs/cohort.md shows the layout."
            )
        folders, empty, strays = [], [], []
        of_name: dict[tuple[str, str], list[str]] = {}
        for subset in subsets or [""]:  # or the cohort's folder itself
            there = self._children(subset)
            of = [f"{subset}/{name}".lstrip("/") for name, *_ in there]
            strays += [
                path
                for path, (name, is_folder, _) in zip(of, there, strict=True)
                if name.lower().endswith(SUFFIXES) and not is_folder
            ]
            paths = [path for path, (_, is_folder, _) in zip(of, there, strict=True) if is_folder]
            with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:
                for path, inside in zip(paths, pool.map(self._children, paths), strict=True):
                    patient_id = normal(path.rpartition("/")[2])
                    of_name.setdefault((subset, patient_id), []).append(path)
                    names = [intern(name) for name, *_ in inside]  # they repeat between patients
                    if self._is_patients(names):
                        kind = SUBSET_FOLDERS.get(subset, "test")
                        read = self._reader(path, inside)
                        folders.append(PatientFolder(kind, patient_id, path, names, read))
                    else:
                        empty.append(path)
        if strays:
            expected = "trainset/<patient>/<picture>" if subsets else "<patient>/<picture>"
            raise UserError(
                f"{some(strays)}: pictures without a patient; each must stand in its patient's "
                f"folder, as {expected}."
            )
        beside = self._children("") if subsets and self._new_patients else []
        others = [name for name, is_folder, _ in beside if is_folder and name not in subsets]
        files = PictureFiles(folders, empty, others)
        if odd := [file.path for file in files if not _is_utf8(file.path)]:
            raise UserError(
                f"{some(odd)}: these names are not in UTF-8, or this Python reads file names as "
                "something else. Set PYTHONUTF8=1; if that does not help, rename them."
            )
        if not files:
            where = f"The folders {', '.join(subsets)}" if subsets else "The patients' folders"
            raise UserError(f"{where} in {self._place} hold no pictures.")
        if same := [path for paths in of_name.values() if len(paths) > 1 for path in paths]:
            raise UserError(
                f"{some([ascii(path) for path in same])}: names of folders that differ in blanks "
                "or in Unicode's form of a letter alone. Rename them, or make them one folder."
            )
        return files

    def _is_folder(self, folder: str) -> bool:
        if not is_url(self._place):
            return (self._root / folder).is_dir()
        filesystem, root = open_filesystem(self._place)
        return bool(filesystem.isdir(f"{root}/{folder}".rstrip("/")))

    def _children(self, folder: str) -> list[tuple[str, bool, int]]:
        """What is in a folder, but hidden files: name, whether a folder, and at a URL the size."""
        if not is_url(self._place):
            with os.scandir(self._root / folder) as inside:
                found = [
                    (e.name, Path(e).is_dir() if e.is_symlink() else e.is_dir(), 0) for e in inside
                ]
        else:
            filesystem, root = open_filesystem(self._place)
            path = f"{root}/{folder}".rstrip("/")
            found = [
                (e["name"].rpartition("/")[2], e["type"] == "directory", e["size"] or 0)
                for e in filesystem.ls(path, detail=True)
                if e["name"].rstrip("/") != path  # an object store's mark of an empty folder
            ]
        return sorted(each for each in found if not each[0].startswith("."))

    def _reader(self, folder: str, inside: list[tuple[str, bool, int]]) -> Callable[[str], bytes]:
        """A function that reads a patient's file by its name."""
        if not is_url(self._place):
            # Looked up once per folder: following links costs as much as reading a picture.
            path, root = self._root / folder, self._root.resolve()
            return partial(_read_inside, path, root, path.resolve().is_relative_to(root))
        filesystem, place = open_filesystem(self._place)
        large = {name: size for name, _, size in inside if size > MOST_BYTES}
        return partial(_read_there, filesystem, f"{place}/{folder}", large)

    def _is_patients(self, names: list[str]) -> bool:
        """Whether a folder holds anything that makes it a patient's."""
        if self._new_patients:
            return any(name.lower().endswith(SUFFIXES) for name in names)
        return bool(names)

    def save(self, data: Iterable[tuple[str, bytes]]) -> None:
        """Write a simulated cohort; an earlier simulated one is replaced.

        Args:
            data: relative path and content of each picture.

        Raises:
            UserError: the folder holds something that was not simulated, or is a file.
        """
        if is_url(self._place):
            raise UserError(f"simulate writes to folders alone, and {self._place} is a URL.")
        if self._root.exists() and not self._root.is_dir():
            raise UserError(f"simulate needs a folder, and {self._root} is a file.")
        if self._root.exists() and any(self._root.iterdir()):
            if not (self._root / SIMULATED_MARK).exists():
                raise UserError(
                    f"simulate would write over {self._root}, which holds files it did not make. "
                    "Give an empty folder by --params=cohort_dir=... or use --env=demo."
                )
            for folder in SUBSET_FOLDERS:
                shutil.rmtree(self._root / folder, ignore_errors=True)
        self._root.mkdir(parents=True, exist_ok=True)
        (self._root / SIMULATED_MARK).touch()
        for relative, content in data:
            path = self._root / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            with naming(path):
                path.write_bytes(content)

    def _exists(self) -> bool:
        folders = [""] if self._new_patients else list(SUBSET_FOLDERS)
        try:
            return any(self._is_folder(folder) for folder in folders)
        except Exception:
            return False  # not allowed to look, or no way there; `load` says why

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._place}


def _is_utf8(name: str) -> bool:
    # Python reads other bytes in a name as lone surrogates, which no table can hold.
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _read_there(filesystem: Any, folder: str, large: dict[str, int], name: str) -> bytes:
    """Read a file's bytes behind a URL; OSError, with a reason, where they can't be had."""
    if name in large:
        raise OSError(f"has {large[name]} bytes; at most {MOST_BYTES} are read")
    try:
        content: bytes = filesystem.cat_file(f"{folder}/{name}")
    except Exception as error:  # each library has its own
        raise OSError(brief(error)) from error
    return content


def _read_inside(folder: Path, root: Path, folder_is_inside: bool, name: str) -> bytes:
    """Read a file's bytes; OSError, with a reason, where it is no file of this resolved root."""
    path = folder / name
    # Few calls to the system: after each one a thread may have to wait for Python's lock.
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        try:
            folder_is_inside = path.resolve().is_relative_to(root)
        except RuntimeError:
            raise OSError("a link that leads to itself") from None
        found = path.stat() if path.exists() else found
    if not folder_is_inside:
        raise OSError("a link that leads out of the cohort's folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a file")
    if found.st_size > MOST_BYTES:
        raise OSError(f"has {found.st_size} bytes; at most {MOST_BYTES} are read")
    with path.open("rb", buffering=0) as file:
        return file.read(found.st_size)
