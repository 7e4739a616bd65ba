"""The runs of a workspace, found on its disk."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lymphocytosis.runs.manifest import MANIFESTS, VERSION, Manifest, manifest_path, read_manifest

_LAYER = re.compile(r"\d\d_\w+")


@dataclass(frozen=True)
class Run:
    """A run, by what is left of it.

    Attributes:
        version: the name of its versions, after the time at which it began.
        folders: its version of each entry, by the entry's path in the workspace.
        manifest: None for a run of older software, or where the manifest is gone or damaged.
    """

    version: str
    folders: dict[str, Path]
    manifest: Manifest | None

    @property
    def exit(self) -> str:
        """How it ended: done, failed, no end (killed, or still running) or untraced."""
        if self.manifest is None:
            return "untraced"
        return self.manifest.exit or "no end"

    @property
    def size(self) -> int:
        """The room that removing it frees, in bytes: files with a second name free none."""
        return sum(_size(folder) for folder in self.folders.values())

    def gone(self, workspace: Path) -> list[str]:
        """List the catalog entries that it saved and that are no more.

        Args:
            workspace: of the run.

        Returns:
            Their names, of versioned entries only.
        """
        outputs = {} if self.manifest is None else self.manifest.outputs
        return [
            entry
            for entry, file in outputs.items()
            if file.version and not (workspace / file.path).exists()
        ]


def find_runs(workspace: Path) -> list[Run]:
    """Find the runs of a workspace.

    Args:
        workspace: its folder. Links in it are not followed.

    Returns:
        The runs, the newest first.
    """
    found: dict[str, dict[str, Path]] = {}
    for layer in folders(workspace):
        for entry in folders(layer) if _LAYER.fullmatch(layer.name) else ():
            for version in folders(entry):
                # An empty one is of a run that was killed while it wrote.
                whole = os.path.lexists(version / entry.name) or not any(version.iterdir())
                if VERSION.fullmatch(version.name) and whole:
                    name = entry.relative_to(workspace).as_posix()
                    found.setdefault(version.name, {})[name] = version
    return [
        Run(version, found[version], read_manifest(manifest_path(workspace, version)))
        for version in sorted(found, reverse=True)
    ]


def find_gone(workspace: Path, newest: dict[str, str | None]) -> dict[str, str]:
    """Find versions that someone removed, and that runs would therefore miss.

    Args:
        workspace: its folder.
        newest: by catalog entry the newest version that is there, or None.

    Returns:
        By entry the newest version that a manifest names and that is no more; only those newer than
        what is there.
    """
    gone: dict[str, str] = {}
    for place in reversed(folders(workspace / MANIFESTS)):
        open_ = [e for e, there in newest.items() if e not in gone and place.name > (there or "")]
        if not open_:
            break
        manifest = read_manifest(place / MANIFESTS.name)
        outputs = {} if manifest is None else manifest.outputs
        gone |= {
            entry: place.name
            for entry in open_
            if entry in outputs and not (workspace / outputs[entry].path).exists()
        }
    return gone


def folders(place: Path) -> list[Path]:
    """List the folders in a folder, by name; neither links nor hidden ones."""
    if not place.is_dir():
        return []
    with os.scandir(place) as inside:
        return sorted(
            Path(entry.path)
            for entry in inside
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        )


def _size(folder: Path) -> int:
    size = 0
    with os.scandir(folder) as inside:
        for entry in inside:
            about = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                size += _size(Path(entry.path))
            elif about.st_nlink == 1:
                size += about.st_size
    return size
