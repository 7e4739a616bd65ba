"""Files that appear whole under their name, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lymphocytosis.errors import causes


@contextmanager
def appearing_whole(path: Path) -> Iterator[Path]:
    """Let the body write to a temporary name; give the real name only once the body has ended.

    Args:
        path: the file or folder to appear; its parents are made, and an earlier one is replaced.

    Yields:
        The temporary path beside it, where nothing exists yet.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    earlier = temporary.with_suffix(".earlier.part")
    try:
        with naming(path):
            yield temporary
        for file in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
            _to_disk(file)
        if path.is_dir():  # the system replaces no folder that holds something
            path.replace(earlier)
        temporary.replace(path)
        _to_disk(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
    if earlier.is_dir():
        shutil.rmtree(earlier)


def temporary_name(path: Path) -> Path:
    """Make a temporary name for a file or folder; a killed run may leave something under it.

    Args:
        path: its real name.

    Returns:
        A path beside it, this process's own.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to errors of the body: the system names none if a disk is full.

    Args:
        path: the file that the body writes.
    """
    try:
        yield
    except Exception as error:
        for cause in causes(error):
            if isinstance(cause, OSError) and cause.errno and cause.filename is None:
                cause.filename = str(path)
        raise


def remove_parts(folder: Path) -> None:
    """Remove what a killed process left under a temporary name.

    Args:
        folder: searched with all its folders; nobody may be writing there.
    """
    # Only names that are made here, with a process's number: the folder may hold a user's files.
    for part in sorted(folder.rglob(".*.[0-9]*.part")):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)  # it may have been in a folder that has just gone


def _to_disk(path: Path) -> None:
    # A name may reach the disk before the content does: after a power cut, an empty file.
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
