"""What our versioned datasets share: one path, one folder per version, the newest is loaded."""

import re
from pathlib import Path, PurePosixPath
from typing import Any, NewType, TypeVar

from kedro.io import AbstractVersionedDataset, Version
from kedro.io.core import generate_timestamp

from lymphocytosis.errors import UserError, listed

_VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")

# Kedro-datasets has no such type; kedro-viz goes by its name. Here, since every `kedro` command
# imports the bundle's dataset, which must not wait for pandas.
TextPreview = NewType("TextPreview", str)

Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")


def doubtful_versions(entry: Path, versions: list[str], now: str) -> list[str]:
    """Find versions that could wrongly be taken for the newest.

    Args:
        entry: the folder of the versions.
        versions: their names.
        now: the name of a version saved now.

    Returns:
        A text for each whose name is later than `now`, or not a version's.
    """
    odd = {version: "not a version name" for version in versions if not _VERSION.fullmatch(version)}
    ahead = {version: f"later than {now}" for version in versions if version > now}
    return [f"{entry / version}: {why}" for version, why in sorted({**ahead, **odd}.items())]


def no_newest(faults: list[str]) -> UserError:
    """Make the error for versions of which the newest is uncertain.

    Args:
        faults: as `doubtful_versions` returns them.

    Returns:
        The error.
    """
    return UserError(
        f"By this machine's clock, the newest version is uncertain: {listed(faults)}\n"
        "If the clock is wrong, correct it; in a notebook, start a new session. Else move these "
        "folders out of the workspace, or rename them to a time in the past, such as "
        "2026-01-31T09.15.00.000Z."
    )


class ListedVersions:
    """Finds versions by listing the entry's folder; refuses if the newest is uncertain.

    Kedro uses a glob, in which `[`, `]`, `*` and `?` in the path would be wildcards.
    """

    _filepath: PurePosixPath
    _version: Version | None

    def _get_versions(self) -> list[str]:
        folder = Path(self._filepath)
        if not folder.is_dir():
            return []
        paths = (version / folder.name for version in sorted(folder.iterdir(), reverse=True))
        return [
            str(path) for path in paths if not path.parent.name.startswith(".") and path.exists()
        ]

    def _fetch_latest_load_version(self) -> str:
        versions = [Path(path).parent.name for path in self._get_versions()]
        if faults := doubtful_versions(Path(self._filepath), versions, generate_timestamp()):
            raise no_newest(faults)
        return super()._fetch_latest_load_version()  # type: ignore[misc]

    def _exists(self) -> bool:
        if not self._version:
            return Path(self._filepath).exists()
        versions = [Path(path).parent.name for path in self._get_versions()]
        return self._version.load in versions if self._version.load else bool(versions)


class VersionedPathDataset(ListedVersions, AbstractVersionedDataset[Saved, Loaded]):
    """A local file or folder, versioned by Kedro. Subclasses load and save."""

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

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
