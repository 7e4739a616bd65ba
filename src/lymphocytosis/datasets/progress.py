"""Where a node that takes long keeps what it has finished."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from lymphocytosis.progress import Progress


class ProgressDataset(AbstractDataset[NoReturn, Progress]):
    """Gives a node the handle by which it keeps and finds its finished parts."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Make the dataset.

        Args:
            filepath: a folder of the node's own.
            metadata: for kedro-viz.
        """
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> Progress:
        """Return the handle; it reads and writes only when it is asked to."""
        return Progress(self._path)

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: nodes keep parts by the handle."""
        raise DatasetError(f"{self._path} is written by the node that takes it up.")

    def _exists(self) -> bool:
        # Kedro asks before a run whether free inputs exist; nothing done yet is an answer too.
        return True

    def _release(self) -> None:
        pass

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
