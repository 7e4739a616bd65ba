"""Long work, saved part by part until the run ends well, so that a kill costs little."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lymphocytosis.errors import UserError, brief
from lymphocytosis.whole_files import appearing_whole, temporary_name

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

logger = logging.getLogger(__name__)

# The libraries whose versions decide the bits of what is saved.
COMPUTE = ("torch", "timm", "onnxscript", "onnxruntime", "numpy", "scikit-learn", "lightly")


class Progress:
    """The finished parts of one node's work.

    A part is reused only if everything it was made from is the same: data, parameters, code.
    """

    def __init__(self, folder: Path | None) -> None:
        """Make the handle.

        Args:
            folder: where parts are saved; None to save none.
        """
        self.folder = folder

    @property
    def title(self) -> str:
        """The entry whose parts these are; empty where none are kept."""
        return "" if self.folder is None else self.folder.name

    def part(self, name: str) -> Progress:
        """Make a handle for a part whose own parts are saved too.

        Args:
            name: of the part.

        Returns:
            A handle whose parts go with those of this one.
        """
        return Progress(None if self.folder is None else self.folder / name)

    def begin(self, made_from: Mapping[str, object]) -> None:
        """Set parts aside that were made from something else, and say from what.

        Args:
            made_from: what the work depends on, by a name that a user understands. Values are
                compared by their text.
        """
        if self.folder is None:
            return
        given = {
            name: sha256(str(value).encode()).hexdigest()
            for name, value in {**made_from, **software(), **_machine()}.items()
        }
        note = self.folder / "made_from.json"
        if self.folder.exists():
            try:
                kept = dict(json.loads(note.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):
                kept = {}
            changed = [name for name in given | kept if given.get(name) != kept.get(name)]
            if not kept:
                changed = ["the note of what it was made from, which is missing or damaged"]
            if not changed:
                return
            logger.warning(
                "Unfinished work in %s can't be reused, since this has changed: %s. "
                "Starting from the beginning.",
                self.folder,
                ", ".join(changed),
            )
            self.clear()
        with appearing_whole(note) as path:
            path.write_text(json.dumps(given, indent=2), encoding="utf-8")

    def save_values(self, name: str, values: dict[str, Any]) -> None:
        """Save tensors and plain values.

        Args:
            name: of the part.
            values: tensors and plain values, in dicts, lists and tuples.
        """
        if self.folder is None:
            return
        from lymphocytosis.model_files import write_model_file

        with appearing_whole(self.folder / f"{name}.pt") as path:
            write_model_file(values, path)

    def has_values(self, name: str) -> bool:
        """Whether `save_values` saved a part; it may be damaged."""
        return self.folder is not None and (self.folder / f"{name}.pt").exists()

    def values(self, name: str) -> dict[str, Any] | None:
        """Return what `save_values` saved; None if it is missing or damaged."""
        if self.folder is None or not self.has_values(name):
            return None
        from lymphocytosis.model_files import read_model_file

        try:
            return read_model_file(self.folder / f"{name}.pt")
        except UserError as error:
            logger.warning("%s This part is computed again.", error)
            return None

    def save_table(self, name: str, table: pd.DataFrame) -> None:
        """Save a table.

        Args:
            name: of the part.
            table: any columns that Parquet holds.
        """
        import pyarrow as pa

        self.save_arrow(name, pa.Table.from_pandas(table))

    def table(self, name: str) -> pd.DataFrame | None:
        """Return what `save_table` saved; None if it is missing or damaged."""
        table = self.arrow(name)
        return None if table is None else table.to_pandas()

    def save_arrow(self, name: str, table: pa.Table) -> None:
        """Save a table, as fast as Parquet writes.

        Args:
            name: of the part.
            table: any columns that Parquet holds.
        """
        if self.folder is not None:
            import pyarrow.parquet as pq

            with appearing_whole(self.folder / f"{name}.parquet") as path:
                # As the embeddings' file is written; a part is always read whole.
                pq.write_table(
                    table,
                    path,
                    compression="none",
                    use_dictionary=False,
                    write_statistics=False,
                    write_page_checksum=True,
                )

    def has_table(self, name: str) -> bool:
        """Whether `save_table` or `save_arrow` saved a part; it may be damaged."""
        return self.folder is not None and (self.folder / f"{name}.parquet").exists()

    def arrow(self, name: str) -> pa.Table | None:
        """Return what `save_table` or `save_arrow` saved; None if it is missing or damaged."""
        if self.folder is None or not self.has_table(name):
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(self.folder / f"{name}.parquet", page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            logger.warning(
                "%s can't be read (%s); this part is computed again.",
                self.folder / f"{name}.parquet",
                brief(error),
            )
            return None

    def clear(self) -> None:
        """Remove all parts.

        Raises:
            OSError: they can't be removed.
        """
        if self.folder is None or not self.folder.exists():
            return
        # Moved away as a whole first: whatever happens next, no part is found with a wrong note.
        # What a kill leaves under the temporary name goes with the next run's temporary files.
        gone = temporary_name(self.folder)
        self.folder.replace(gone)
        shutil.rmtree(gone)


def unfinished(workspace: str, entry: str) -> Progress:
    """Make the handle for the finished parts of an entry.

    Args:
        workspace: the run's.
        entry: of the catalog.

    Returns:
        The handle; it reads and writes only when it is asked to.
    """
    return Progress(Path(workspace) / ".unfinished" / entry)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # an extra
        return "none"


@cache
def software() -> dict[str, str]:
    """Versions of the code and of its libraries: another version may compute other bits."""
    sources = sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        sources.update(path.read_bytes())
    return {
        "the code of lymphocytosis": f"{version('lymphocytosis')} {sources.hexdigest()}",
        **{f"the version of {name}": _version(name) for name in COMPUTE},
    }


@cache
def _machine() -> dict[str, str]:
    import torch

    return {
        "the device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "the number of threads": str(torch.get_num_threads()),
    }
