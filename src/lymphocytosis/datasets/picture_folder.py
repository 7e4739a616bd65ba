"""A cohort's folders of pictures: `trainset/<patient>/<picture>`, `testset/<patient>/<picture>`.

New patients' folders may also be straight in the cohort's folder: `<patient>/<picture>`.
"""

import os
import shutil
import stat
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from sys import intern
from typing import Any

from kedro.io import AbstractDataset

from lymphocytosis.cohort.names import normal
from lymphocytosis.cohort.pictures import SUBSET_FOLDERS, PatientFolder, PictureFiles
from lymphocytosis.errors import UserError, some
from lymphocytosis.imaging.decode import SUFFIXES
from lymphocytosis.whole_files import naming

# A cell's picture has about ten kilobytes; a larger file is none.
MOST_BYTES = 64 * 1024 * 1024
# Marks a simulated cohort's folder: without it, nothing there is ever overwritten.
SIMULATED_MARK = ".simulated"


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
            filepath: the cohort's folder.
            new_patients: whether, without trainset/ and testset/, patients' folders may be straight
                in it. A folder without a picture file is then no patient's.
            metadata: for kedro-viz.
        """
        self._root = Path(filepath)
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
            return self._listed()
        except OSError as error:
            raise UserError(f"The cohort folder {self._root} can't be listed: {error}") from error

    def _listed(self) -> PictureFiles:
        if not self._root.is_dir():
            raise UserError(
                f"There is no cohort folder {self._root}. Give it by --params=cohort_dir=... "
                "or in conf/base/globals.yml."
            )
        subsets = [name for name in SUBSET_FOLDERS if (self._root / name).is_dir()]
        if not subsets and not self._new_patients:
            found = ", ".join(sorted(path.name for path in self._root.iterdir())[:10]) or "nothing"
            raise UserError(
                f"The cohort folder {self._root} has neither trainset/ nor testset/; it has: "
                f"{found}. docs/cohort.md shows the layout."
            )
        root = self._root.resolve()
        folders, empty, strays = [], [], []
        of_name: dict[tuple[str, str], list[str]] = {}
        for subset in subsets or [""]:  # or the cohort's folder itself
            for name, is_folder in self._children(subset):
                path = f"{subset}/{name}".lstrip("/")
                if not is_folder:
                    strays += [path] if name.lower().endswith(SUFFIXES) else []
                    continue
                of_name.setdefault((subset, normal(name)), []).append(path)
                # Names repeat between patients.
                names = [intern(inside) for inside, _ in self._children(path)]
                if self._is_patients(names):
                    # Looked up once per folder: following links costs as much as reading a picture.
                    inside = (self._root / path).resolve().is_relative_to(root)
                    read = partial(_read_inside, self._root / path, root, inside)
                    kind = SUBSET_FOLDERS.get(subset, "test")
                    folders.append(PatientFolder(kind, normal(name), path, names, read))
                else:
                    empty.append(path)
        if strays:
            expected = "trainset/<patient>/<picture>" if subsets else "<patient>/<picture>"
            raise UserError(
                f"{some(strays)}: pictures without a patient; each must stand in its patient's "
                f"folder, as {expected}."
            )
        beside = self._children("") if subsets and self._new_patients else []
        others = [name for name, is_folder in beside if is_folder and name not in subsets]
        files = PictureFiles(folders, empty, others)
        if odd := [file.path for file in files if not _is_utf8(file.path)]:
            raise UserError(
                f"{some(odd)}: these names are not in UTF-8, or this Python reads file names as "
                "something else. Set PYTHONUTF8=1; if that does not help, rename them."
            )
        if not files:
            where = f"The folders {', '.join(subsets)}" if subsets else "The patients' folders"
            raise UserError(f"{where} in {self._root} hold no pictures.")
        if same := [path for paths in of_name.values() if len(paths) > 1 for path in paths]:
            raise UserError(
                f"{some([ascii(path) for path in same])}: names of folders that differ in blanks "
                "or in Unicode's form of a letter alone. Rename them, or make them one folder."
            )
        return files

    def _children(self, folder: str) -> list[tuple[str, bool]]:
        """What is in a folder, hidden files left out, by name; and whether it is a folder."""
        with os.scandir(self._root / folder) as inside:
            return sorted(
                (e.name, Path(e).is_dir() if e.is_symlink() else e.is_dir())
                for e in inside
                if not e.name.startswith(".")
            )

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
            return any((self._root / folder).is_dir() for folder in folders)
        except OSError:
            return False  # not allowed to look; `load` says why

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._root)}


def _is_utf8(name: str) -> bool:
    # Python reads other bytes in a name as lone surrogates, which no table can hold.
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


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
