"""A run's manifest: what it read, with which code and parameters, what it made, how it ended."""

import os
import re
import sys
from datetime import datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from lymphocytosis.whole_files import appearing_whole

# Where manifests are in a workspace: versioned as everything else that a run makes.
MANIFESTS = Path("08_reporting/manifest.json")
VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")
# Larger files of a folder are the image store's pixels and a bundle's models. A small file beside
# them has the checksums of what they hold.
_LARGE = 64 * 1024 * 1024


class File(BaseModel):
    """A file or folder that a run read or made."""

    path: str = Field(description="Within the workspace relative to it, elsewhere absolute.")
    version: str | None = Field(
        default=None, description="The run that made it; null for what has no versions."
    )
    size: int = Field(description="In bytes.")
    modified: int = Field(description="Nanoseconds since 1970.")
    sha256: str = Field(description="Of a folder: see `describe`.")


class Manifest(BaseModel):
    """What a run leaves about itself. Without an end, the run was killed or still goes on."""

    run: str = Field(description="The name of its versions.")
    began: datetime
    ended: datetime | None = None
    exit: Literal["done", "failed"] | None = None
    message: str | None = Field(default=None, description="Why it failed.")
    options: dict[str, Any] = Field(description="Those of `kedro run` that were given.")
    parameters: dict[str, Any] = Field(description="All, with those of `--params`.")
    code: dict[str, str | bool | None] = Field(description="As `code_version` returns it.")
    packages: dict[str, str] = Field(description="Python's version and each package's.")
    inputs: dict[str, File] = Field(description="By catalog entry; what the run did not make.")
    outputs: dict[str, File] = Field(default={}, description="By catalog entry; what it saved.")
    seconds: dict[str, float] = Field(default={}, description="By node; see `NodeTimings`.")


def manifest_path(workspace: Path, run: str) -> Path:
    """Where a run's manifest is."""
    return workspace / MANIFESTS / run / MANIFESTS.name


def write_manifest(workspace: Path, manifest: Manifest) -> None:
    """Write a manifest, in place of an earlier one of the same run."""
    with appearing_whole(manifest_path(workspace, manifest.run)) as path:
        path.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")


def read_manifest(path: Path) -> Manifest | None:
    """Read a manifest.

    Args:
        path: of the file.

    Returns:
        The manifest; None if it is missing or can't be understood.
    """
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def describe(path: Path, workspace: Path, version: str | None = None) -> File:
    """Describe a file or folder, with a checksum.

    Args:
        path: the file or folder.
        workspace: the run's.
        version: of the file.

    Returns:
        Its description. A file's checksum is that of its bytes, taken from the manifest of the run
        that made it if neither its size nor its time has changed. A folder's is that of the names
        and sizes of its files and of the bytes of those directly in it, large ones excepted.
    """
    inside = path.relative_to(workspace) if path.is_relative_to(workspace) else path
    about = path.stat()
    maker = read_manifest(manifest_path(workspace, version)) if version else None
    for known in maker.outputs.values() if maker else ():
        now = (inside.as_posix(), about.st_size, about.st_mtime_ns)
        if (known.path, known.size, known.modified) == now:
            return known
    if path.is_dir():
        size, digest = 0, sha256()
        for name, length in sorted(_files(path)):
            file = path / name
            content = _digest(file) if "/" not in name and length <= _LARGE else ""
            digest.update(f"{name}\0{length}\0{content}\n".encode("utf-8", "surrogateescape"))
            size += length
        checksum = digest.hexdigest()
    else:
        size, checksum = about.st_size, _digest(path)
    return File(
        path=inside.as_posix(),
        version=version,
        size=size,
        modified=about.st_mtime_ns,
        sha256=checksum,
    )


def packages() -> dict[str, str]:
    """List the installed packages.

    Returns:
        Versions by name, with Python's.
    """
    # By the names of their folders: reading each one's metadata takes a hundred times as long.
    found = {"python": sys.version.split()[0]}
    for folder in filter(os.path.isdir, sys.path):
        for path in sorted(Path(folder).glob("*.dist-info")):
            package, _, version = path.stem.partition("-")
            found.setdefault(package, version)
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _files(folder: Path, prefix: str = "") -> list[tuple[str, int]]:
    """Names and sizes of all files; links are neither followed nor listed."""
    found = []
    with os.scandir(folder) as inside:
        for entry in inside:
            if entry.is_dir(follow_symlinks=False):
                found += _files(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                found.append((prefix + entry.name, entry.stat().st_size))
    return found
