"""The files of a cohort's folders, before their content is read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Subset = Literal["train", "test"]

# The challenge's folders, and the subset each holds.
SUBSET_FOLDERS: dict[str, Subset] = {"trainset": "train", "testset": "test"}


@dataclass(frozen=True)
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


class PictureFiles(list[PictureFile]):
    """The files of a cohort.

    Attributes:
        empty_folders: paths of the folders that are no patient's, since they hold no picture.
        folders_beside: names of the folders beside trainset/ or testset/; told of new patients.
    """

    def __init__(
        self,
        files: Iterable[PictureFile],
        empty_folders: Iterable[str] = (),
        folders_beside: Iterable[str] = (),
    ) -> None:
        """Make the list."""
        super().__init__(files)
        self.empty_folders = list(empty_folders)
        self.folders_beside = list(folders_beside)
