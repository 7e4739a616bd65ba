"""Figures as pictures: a file that appears whole, and no matplotlib until there is a figure."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kedro.io import DatasetError, Version
from kedro_datasets._typing import ImagePreview

from lymphocytosis.datasets.versioned_path import VersionedPathDataset
from lymphocytosis.whole_files import appearing_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FigureDataset(VersionedPathDataset["Figure", NoReturn]):
    """A matplotlib figure, saved as a PNG.

    Kedro makes every dataset of a run before its first node; kedro-datasets' own for figures
    imports matplotlib there, and writes under the final name.
    """

    def __init__(
        self,
        *,
        filepath: str,
        save_args: dict[str, Any] | None = None,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Make the dataset.

        Args:
            filepath: the PNG file, without its version.
            save_args: for the figure's `savefig`, such as `dpi` (pixels an inch).
            version: Kedro's load and save version.
            metadata: for kedro-viz.
        """
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        self._save_args = save_args or {}

    def load(self) -> NoReturn:
        """Refuse: a figure can't be read back from a picture."""
        raise DatasetError(f"{self._filepath} is a picture for people; no node can load it.")

    def save(self, data: "Figure") -> None:
        """Draw the figure into a file."""
        with appearing_whole(Path(self._get_save_path())) as path:
            data.savefig(path, format="png", **self._save_args)

    def preview(self) -> ImagePreview:
        """Return the picture in base64, for kedro-viz."""
        return ImagePreview(base64.b64encode(Path(self._get_load_path()).read_bytes()).decode())
