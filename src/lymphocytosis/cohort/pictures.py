"""The files of a cohort's folders, before their content is read."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain
from typing import Literal, overload

Subset = Literal["train", "test"]

# The challenge's folders, and the subset each holds.
SUBSET_FOLDERS: dict[str, Subset] = {"trainset": "train", "testset": "test"}
# Of pictures, in lower case.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class PictureFile:
    """One file in a patient's folder.

    Attributes:
        subset: train or test, by the folder that the patient is in.
        patient_id: name of the patient's folder, in its normal form.
        image_id: name of the file; it repeats between patients.
        path: path relative to the cohort's folder, with forward slashes.
        read: returns the file's bytes; raises OSError, with a reason, where it may not be read.
    """

    subset: Subset
    patient_id: str
    image_id: str
    path: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class PatientFolder:
    """A patient's files, of which memory holds the names alone.

    Attributes:
        subset: train or test.
        patient_id: name of the folder, in its normal form.
        path: of the folder, relative to the cohort's, with forward slashes.
        names: of the files.
        read: returns the bytes of the file of a name; raises OSError, as `PictureFile.read`.
    """

    subset: Subset
    patient_id: str
    path: str
    names: Sequence[str]
    read: Callable[[str], bytes]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> PictureFile:
        name = self.names[number]
        read = partial(self.read, name)
        return PictureFile(self.subset, self.patient_id, name, f"{self.path}/{name}", read)


class PictureFiles(Sequence[PictureFile]):
    """The files of a cohort, folder by folder.

    Attributes:
        empty_folders: paths of the folders that are no patient's, since they hold no picture.
        folders_beside: names of the folders beside trainset/ or testset/; told of new patients.
    """

    def __init__(
        self,
        folders: Iterable[PatientFolder | list[PictureFile]],
        empty_folders: Iterable[str] = (),
        folders_beside: Iterable[str] = (),
    ) -> None:
        """Make the sequence."""
        self._folders = list(folders)
        self._ends = list(accumulate(map(len, self._folders), initial=0))
        self.empty_folders = list(empty_folders)
        self.folders_beside = list(folders_beside)

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[PictureFile]:
        return chain.from_iterable(map(iter, self._folders))

    @overload
    def __getitem__(self, number: int) -> PictureFile: ...

    @overload
    def __getitem__(self, number: slice) -> list[PictureFile]: ...

    def __getitem__(self, number: int | slice) -> PictureFile | list[PictureFile]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        folder = bisect_right(self._ends, number) - 1
        return self._folders[folder][number - self._ends[folder]]
