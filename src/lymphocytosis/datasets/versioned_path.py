"""What our versioned datasets share: one path, a folder a version, the newest one loaded."""

from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from kedro.io import AbstractVersionedDataset, DatasetError, Version

Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")


class ListedVersions:
    """Finds versions by listing the entry's folder.

    Kedro looks by a pattern, in which it takes `[`, `]`, `*` and `?` of the path for wildcards.
    """

    _filepath: PurePosixPath

    def _get_versions(self) -> list[str]:
        folder = Path(self._filepath)
        if not folder.is_dir():
            return []
        paths = (version / folder.name for version in sorted(folder.iterdir(), reverse=True))
        return [
            str(path) for path in paths if not path.parent.name.startswith(".") and path.exists()
        ]


class VersionedPathDataset(ListedVersions, AbstractVersionedDataset[Saved, Loaded]):
    """A local file or folder, versioned by Kedro. Children load and save."""

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Make the dataset.

        Args:
            filepath: the file or folder, without its version.
            version: Kedro's load and save version.
            metadata: for kedro-viz.
        """
        super().__init__(PurePosixPath(filepath), version)
        self.metadata = metadata

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).exists()
        except DatasetError:  # no version has been saved yet
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
