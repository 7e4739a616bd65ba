"""Figures as pictures: a file that appears whole, and no matplotlib until there is a figure."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kedro.io import DatasetError
from kedro_datasets._typing import ImagePreview

from lymphocytosis.datasets.versioned_path import VersionedPathDataset
from lymphocytosis.figures import style
from lymphocytosis.whole_files import appearing_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FigureDataset(VersionedPathDataset["Figure", NoReturn]):
    """A matplotlib figure, saved as a PNG.

    Kedro makes every dataset of a run before its first node; kedro-datasets' own for figures
    imports matplotlib there, and writes under the final name.
    """

    def load(self) -> NoReturn:
        """Refuse: a figure can't be read back from a picture."""
        raise DatasetError(f"{self._filepath} is a picture for people; no node can load it.")

    def save(self, data: "Figure") -> None:
        """Draw the figure into a file."""
        with appearing_whole(Path(self._get_save_path())) as path, style():
            data.savefig(path, format="png")

    def preview(self) -> ImagePreview:
        """Return the picture in base64, for kedro-viz."""
        return ImagePreview(base64.b64encode(Path(self._get_load_path()).read_bytes()).decode())
