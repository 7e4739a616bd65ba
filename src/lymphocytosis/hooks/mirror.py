"""A workspace at a URL: a folder here holds what a run reads, and what it makes until it is sent.

Memory maps, Parquet readers and renames need local files. So nodes, datasets and hooks see a folder
like any other, and only this file knows of the URL.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from kedro.io import AbstractVersionedDataset, DataCatalog

from lymphocytosis.datasets.bundle_folder import BundleDataset
from lymphocytosis.errors import UserError
from lymphocytosis.remote import open_filesystem, reaching
from lymphocytosis.runs.manifest import MANIFESTS
from lymphocytosis.whole_files import appearing_whole

_NOTE = ".mirror.json"
_LOCK = ".run.lock"
# Of a folder's files, it is sent last: a version without it is not whole.
_LAST = "image.json"
_AT_ONCE = 8


@dataclass(frozen=True)
class Mirror:
    """The folder that stands for a URL.

    Attributes:
        url: the workspace.
        folder: the folder.
        identity: of this folder, among those of all machines.
    """

    url: str
    folder: Path
    identity: str

    def lock(self) -> None:
        """Lock the URL against runs of other machines; this one's folder must be locked already.

        Raises:
            UserError: another machine's run is using it.
        """
        filesystem, root = open_filesystem(self.url)
        lock = f"{root}/{_LOCK}"
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        who = f"process {os.getpid()} on {platform.node()}, since {since}"
        note = json.dumps({"mirror": self.identity, "run": who}).encode()
        with reaching(self.url):
            try:
                filesystem.pipe_file(lock, note, mode="create")
            except FileExistsError:
                held = json.loads(filesystem.cat_file(lock))
                if held["mirror"] != self.identity:
                    raise UserError(
                        f"Another run is using {self.url}: {held['run']}. Wait until it ends, or "
                        "give this one its own workspace by --params=workspace=... If that run was "
                        f"killed and its machine is gone, remove {self.url}/{_LOCK}"
                    ) from None
                filesystem.pipe_file(lock, note)  # of a killed run of this folder

    def unlock(self) -> None:
        """Let other machines' runs use the URL."""
        filesystem, root = open_filesystem(self.url)
        with reaching(self.url):
            filesystem.rm_file(f"{root}/{_LOCK}")

    def pull(self, entries: Mapping[Path, str | None]) -> None:
        """Bring here what a run reads, and forget other versions of it.

        Args:
            entries: by path, the version that the run asked for; the newest by default.

        Raises:
            UserError: the URL can't be read, or an object's name leads out of the folder.
        """
        filesystem, root = open_filesystem(self.url)
        with reaching(self.url):
            there = {
                name[len(root) + 1 :]: about["size"]
                for name, about in filesystem.find(root, detail=True).items()
            }
            if outside := [name for name in there if ".." in name.split("/")]:
                raise UserError(
                    f"{self.url} holds an object named {outside[0]}, which as a file would lie "
                    "outside the workspace. Remove it."
                )
            wanted = [name for name in there if name.startswith(f"{MANIFESTS.as_posix()}/")]
            for path, asked in entries.items():
                entry = path.relative_to(self.folder).as_posix()
                inside = [name for name in there if name.startswith(f"{entry}/")]
                versions = {
                    version
                    for name in inside
                    for version, _, file in [name.removeprefix(f"{entry}/").partition("/")]
                    if file in (path.name, f"{path.name}/{_LAST}")
                }
                chosen = asked if asked in versions else max(versions, default="")
                for here in path.iterdir() if path.is_dir() else ():
                    if here.is_dir() and here.name != chosen:
                        shutil.rmtree(here)
                wanted += [name for name in inside if name.startswith(f"{entry}/{chosen}")]
                if entry in there or not versions:  # without versions: it may have changed
                    if path.is_file():
                        path.unlink()
                    wanted += [entry] if entry in there else []

            def fetch(name: str) -> None:
                path = self.folder / name
                if not path.is_file() or path.stat().st_size != there[name]:
                    with appearing_whole(path) as part:
                        filesystem.get_file(f"{root}/{name}", str(part))

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(fetch, wanted))

    def push(self, path: Path) -> None:
        """Send a file or folder.

        Args:
            path: in the folder.

        Raises:
            UserError: the URL can't be written to.
        """
        filesystem, root = open_filesystem(self.url)
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]

        def send(file: Path) -> None:
            inside = file.relative_to(self.folder).as_posix()
            filesystem.put_file(str(file), f"{root}/{inside}")

        with reaching(self.url), ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(send, (file for file in files if file.name != _LAST)))
            list(pool.map(send, (file for file in files if file.name == _LAST)))


def mirror_of_url(url: str) -> Mirror:
    """Find or make the folder that stands for a URL, among this user's caches.

    Raises:
        UserError: it can't be written to.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    readable = re.sub(r"[^\w.-]+", "-", url)
    folder = caches / "lymphocytosis" / f"{readable}-{sha256(url.encode()).hexdigest()[:8]}"
    try:
        if not (folder / _NOTE).exists():
            with appearing_whole(folder / _NOTE) as note:
                note.write_text(json.dumps({"url": url, "identity": uuid4().hex}))
    except OSError as error:
        raise UserError(
            f"workspace: the folder that stands for {url}, {folder}, can't be written to "
            f"({error.strerror}). Set XDG_CACHE_HOME to another one."
        ) from error
    return Mirror(folder=folder, **json.loads((folder / _NOTE).read_text()))


def mirror_of(workspace: Path) -> Mirror | None:
    """The mirror that a workspace's folder is; None where it is the workspace itself."""
    note = workspace / _NOTE
    return Mirror(folder=workspace, **json.loads(note.read_text())) if note.exists() else None


def place_of(entry: str, catalog: DataCatalog) -> Path | None:
    """Where an entry of the catalog is, without its version; None where it is in memory."""
    dataset = catalog.get(entry)
    if isinstance(dataset, BundleDataset):
        return dataset._folder
    return Path(dataset._filepath) if isinstance(dataset, AbstractVersionedDataset) else None
